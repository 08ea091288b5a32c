"""The policy holds where code runs: what a worker of ours may do, tried from inside both of them and from the page."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Worker, expect

from build_tools.policy import read_headers
from build_tools.server import SiteServer
from tests.browser.elsewhere import Elsewhere, elsewhere
from tests.browser.lab import START_MS, Lab

ATTEMPTS = (Path(__file__).parent / "attempts.js").read_text(encoding="utf-8")
OWN_FETCH = "fetch of the site itself"


@pytest.fixture(scope="module")
def other() -> Iterator[Elsewhere]:
    with elsewhere() as server:
        yield server


@pytest.fixture
def context(browser_as_it_comes: Browser) -> Iterator[BrowserContext]:
    made = browser_as_it_comes.new_context(service_workers="block", reduced_motion="reduce")
    yield made
    made.close()


def started(context: BrowserContext, url: str) -> Lab:
    """The page with both of its workers up."""
    lab = Lab(context, url + "?model=tiny")
    lab.wait_for_model()
    return lab


def worker_of(page: Page, kind: str) -> Worker:
    return next(worker for worker in page.workers if f"kind={kind}" in worker.url)


def attempts_in(worker: Worker, other: Elsewhere, own: str) -> dict[str, str]:
    found: dict[str, str] = worker.evaluate(ATTEMPTS, [other.url, own])
    return found


@pytest.mark.parametrize("kind", ["train", "chat"])
def test_a_worker_of_ours_is_refused_all_of_it(
    context: BrowserContext, site_url: str, other: Elsewhere, kind: str
) -> None:
    lab = started(context, site_url)
    other.asked.clear()
    found = attempts_in(worker_of(lab.page, kind), other, site_url)
    assert found.pop(OWN_FETCH) == "done"  # what the policy allows goes on working
    assert len(found) == 16
    assert {name: what for name, what in found.items() if not what.startswith("refused: ")} == {}
    assert other.asked == []


def test_a_worker_without_a_policy_does_all_of_it(context: BrowserContext, site_url: str, other: Elsewhere) -> None:
    """The control: each attempt succeeds where nothing forbids it, so that a refusal is the policy's."""
    page = context.new_page()
    page.goto(other.url)
    with page.expect_worker() as made:
        page.evaluate("() => { window.kept = new Worker(URL.createObjectURL(new Blob([''])) + '#kind=control'); }")
    other.asked.clear()
    found = attempts_in(made.value, other, other.url)
    refused = {name for name, what in found.items() if what != "done"}
    # The other origin has no worker.js.
    assert refused == {"a worker by its address"}
    assert set(other.paths) >= {"/fetch", "/no-cors", "/xhr", "/socket", "/events", "/script.js", "/nested"}


def test_a_worker_by_its_address_would_have_no_policy(context: BrowserContext, site_url: str, other: Elsewhere) -> None:
    """The control of the blob: what begin.js does is needed on a host that sends no headers, and enough."""
    page = context.new_page()
    page.goto(site_url + "manifest.json")  # a page of the same origin that has no policy
    address = site_url + "assets/worker/worker.js?kind=train"
    with page.expect_worker() as made:
        page.evaluate("(url) => { window.kept = new Worker(url, { type: 'module' }); }", address)
    other.asked.clear()
    found = attempts_in(made.value, other, site_url)
    assert found["eval"] == found["fetch"] == found["WebSocket"] == found["import of another origin"] == "done"


def test_the_page_itself_is_refused_what_is_not_its_own(
    context: BrowserContext, site_url: str, other: Elsewhere
) -> None:
    lab = started(context, site_url)
    other.asked.clear()
    found = lab.page.evaluate(
        """async ([elsewhere, own]) => {
          await new Promise((resolve) => setTimeout(resolve, 1));
          const attempts = {
            markup: () => { document.createElement("div").innerHTML = "<b>bold</b>"; },
            "eval": () => eval("1"),
            "a worker by its address": () => new Worker(`${own}assets/worker/worker.js?kind=train`, { type: "module" }),
            beacon: () => { if (!navigator.sendBeacon(`${elsewhere}beacon`, "words")) throw new Error("not sent"); },
            fetch: () => fetch(`${elsewhere}fetch`),
          };
          const found = {};
          for (const [name, attempt] of Object.entries(attempts)) {
            try { await attempt(); found[name] = "done"; } catch (error) { found[name] = `refused: ${error.message}`; }
          }
          return found;
        }""",
        [other.url, site_url],
    )
    beacon = found.pop("beacon")  # may say that it was taken: whether it left is what counts
    assert {name: what for name, what in found.items() if not what.startswith("refused: ")} == {}, beacon
    assert other.asked == []
    lab.greedy(8)
    lab.ask_anything("Hello")  # and DOMPurify's markup is shown


def test_the_policy_as_a_header_of_every_file(context: BrowserContext, site_folder: Path, ships: Path) -> None:
    """A host that takes `_headers`: the page works as elsewhere, and a worker by its address has the policy too."""
    with SiteServer(site_folder, port=0, with_headers=True) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        lab = Lab(context, server.url + "?model=tiny")
        heads: dict[str, dict[str, str]] = {}
        lab.page.on("response", lambda response: heads.update({response.url: response.headers}))
        lab.page.reload()
        lab.wait_for_model()
        wanted = dict(read_headers((site_folder / "_headers").read_text(), "index.html"))
        assert "frame-ancestors 'none'" in wanted["Content-Security-Policy"]
        for url in (server.url + "?model=tiny", server.url + "assets/worker/worker.js?kind=chat"):
            assert {name: heads[url].get(name.lower()) for name in wanted} == wanted
        lab.drop_data(ships)
        lab.set(steps=2, batch=1)
        lab.start()
        lab.wait_for_phase("done")
        expect(lab.part("chat-adapter")).to_be_checked(timeout=START_MS)
        assert lab.errors == []
        page = context.new_page()
        page.goto(server.url + "manifest.json")
        assert _start(page, server.url) == "refused"
        server.shutdown()
    with SiteServer(site_folder, port=0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = context.new_page()
        page.goto(server.url + "manifest.json")
        assert _start(page, server.url) == "started"  # the control: without the headers it may
        server.shutdown()


def _start(page: Page, url: str) -> str:
    """Say whether a page may start a worker by its address."""
    said: str = page.evaluate(
        """(address) => new Promise((resolve) => {
          try {
            const worker = new Worker(address, { type: "module" });
            worker.onerror = () => resolve("refused");
            worker.onmessage = () => resolve("started");
          } catch { resolve("refused"); }
        })""",
        url + "assets/worker/worker.js?kind=train",
    )
    return said
