"""Without a network after one visit; updates that are offered, whole or not at all; what is said of both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Page, expect

from build_tools.icons import WEB, draw
from tests.browser.elsewhere import elsewhere
from tests.browser.lab import START_MS, Lab
from tests.browser.published import Published, published
from tests.browser.test_policy import attempts_in

MARK = b'<body data-published="2" '
ASK_STATE = """() => new Promise(async (resolve) => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = ({ data }) => resolve(data);
  (await navigator.serviceWorker.ready).active.postMessage({ type: "state" }, [port2]);
})"""


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(
        viewport={"width": 1440, "height": 900}, reduced_motion="reduce", service_workers="allow"
    )
    yield made
    made.close()


@pytest.fixture
def site(site_folder: Path, tmp_path: Path) -> Iterator[Published]:
    with published(site_folder, tmp_path / "site") as made:
        yield made


def visit(context: BrowserContext, site: Published) -> Lab:
    """The page, once all of it is kept."""
    lab = Lab(context, site.url + "?model=tiny")
    lab.wait_for_model()
    wait_for_state(lab, "kept")
    expect(lab.part("offline-status")).to_have_text("Works offline")
    return lab


def wait_for_state(lab: Lab, state: str) -> None:
    expect(lab.part("offline-status")).to_have_attribute("data-state", state, timeout=START_MS)


def part_of(page: Page, path: str, wanted: str) -> list[Any]:
    """Ask for a range: [status, Content-Range, the bytes]."""
    found: list[Any] = page.evaluate(
        """async ([path, wanted]) => {
          const response = await fetch(path, { headers: { Range: wanted } });
          const bytes = new Uint8Array(await response.arrayBuffer());
          return [response.status, response.headers.get("Content-Range"), Array.from(bytes)];
        }""",
        [path, wanted],
    )
    return found


def test_after_one_visit_it_opens_trains_and_chats_without_a_network(
    context: BrowserContext, site: Published, ships: Path
) -> None:
    lab = visit(context, site)
    site.vanish()
    lab.page.reload()
    lab.wait_for_model()
    expect(lab.part("offline-status")).to_have_text("Works offline")
    lab.drop_data(ships)
    lab.set(steps=4, batch=2)
    lab.start()
    lab.wait_for_phase("done")
    expect(lab.part("chat-adapter")).to_be_checked(timeout=START_MS)
    lab.greedy(8)
    lab.ask_anything("What is ship 7?")
    assert lab.errors == []
    lab.page.close()
    again = Lab(context, site.url + "index.html?model=tiny")  # another tab, later, by its other address
    again.wait_for_model()
    expect(again.part("adapter-item")).to_have_count(1)
    assert again.errors == []


def test_parts_of_files_come_from_what_is_kept(context: BrowserContext, site: Published) -> None:
    lab = visit(context, site)
    site.vanish()
    lab.page.reload()
    lab.wait_for_model()
    for name in ("models/tiny/model.safetensors", "vendor/uplot/uPlot.esm.js"):
        data = (site.folder / name).read_bytes()
        size = len(data)
        for wanted, start, end in (
            ("bytes=0-0", 0, 1), ("bytes=7-1030", 7, 1031), (f"bytes={size - 3}-", size - 3, size),
            ("bytes=-5", size - 5, size), (f"bytes={size - 2}-{size + 9}", size - 2, size),
            (f"bytes=-{size + 1}", 0, size),
        ):  # fmt: skip
            answer = [206, f"bytes {start}-{end - 1}/{size}", list(data[start:end])]
            assert part_of(lab.page, name, wanted) == answer, (name, wanted)
        assert part_of(lab.page, name, f"bytes={size}-") == [416, f"bytes */{size}", []]
        assert part_of(lab.page, name, "bytes=0-1,4-5")[::2] == [200, list(data)]  # as a server may
    kept = lab.page.evaluate(
        "async () => (await Promise.all((await caches.keys()).map(async (name) =>"
        " (await (await caches.open(name)).keys()).length))).reduce((sum, count) => sum + count, 0)"
    )
    assert kept == len({tuple(mark) for mark in listed(lab.page).values()})  # no model is kept twice


def listed(page: Page) -> dict[str, list[Any]]:
    """What the service worker that is in use lists."""
    found: dict[str, list[Any]] = page.context.service_workers[-1].evaluate("() => SITE.files")
    return found


def test_without_the_service_worker_it_does_not(browser: Browser, site: Published) -> None:
    """The control: what opened above did so by the service worker alone."""
    context = browser.new_context(service_workers="block")
    lab = Lab(context, site.url + "?model=tiny")
    lab.wait_for_model()
    site.vanish()
    with pytest.raises(Error, match="ERR_CONNECTION_REFUSED"):
        lab.page.reload()
    context.close()


@pytest.mark.parametrize(
    "script",
    [
        "delete Navigator.prototype.serviceWorker",
        "ServiceWorkerContainer.prototype.register = () => Promise.reject(new DOMException('no', 'SecurityError'))",
    ],
)
def test_a_browser_that_has_none_or_refuses_it_goes_on_as_before(
    context: BrowserContext, site: Published, script: str
) -> None:
    context.add_init_script(script)
    lab = Lab(context, site.url + "?model=tiny")
    lab.wait_for_model()
    lab.greedy(4)
    lab.ask_anything("Hello")
    assert lab.text("offline-status") == ""
    expect(lab.part("update-reload")).to_be_hidden()
    assert lab.errors == []


# --- updates ---


def is_second(lab: Lab) -> bool:
    found: bool = lab.page.evaluate("() => document.body.dataset.published === '2'")
    return found


def second(site: Published) -> bytes:
    return (site.folder / "index.html").read_bytes().replace(b"<body ", MARK)


def test_an_update_is_offered_not_forced_and_not_in_a_run(
    context: BrowserContext, site: Published, ships: Path
) -> None:
    lab = visit(context, site)
    site.publish({"index.html": second(site)})
    lab.page.reload()
    lab.wait_for_model()
    wait_for_state(lab, "update")
    expect(lab.part("offline-status")).to_have_text("A new version is there")
    assert not is_second(lab)
    lab.page.reload()
    lab.wait_for_model()
    assert not is_second(lab)  # a reload of one's own is none that was offered
    expect(lab.part("update-reload")).to_be_visible()

    lab.drop_data(ships)
    lab.start_beside_the_chat()
    expect(lab.part("update-reload")).to_be_hidden()
    assert lab.text("offline-status") == ""
    lab.part("train-stop").click()
    lab.wait_for_phase("done")

    other = Lab(context, site.url + "?model=tiny")
    other.wait_for_model()
    lab.part("update-reload").click()
    expect(lab.part("offline-status")).to_have_text("A new version is there: close the other tab of LoRA Lab first")
    assert not is_second(lab)
    other.page.close()
    with lab.page.expect_navigation():
        lab.part("update-reload").click()
    lab.wait_for_model()
    assert is_second(lab)
    wait_for_state(lab, "kept")
    assert lab.page.evaluate("async () => (await (await caches.open((await caches.keys())[0])).keys()).length") == len(
        {tuple(mark) for mark in listed(lab.page).values()}
    )  # the version before is gone
    site.vanish()
    lab.page.reload()
    lab.wait_for_model()
    assert is_second(lab)
    assert lab.errors == []


# Waits until the browser has looked for an update and given it up.
GIVEN_UP = """async () => {
  const registration = await navigator.serviceWorker.ready;
  const over = new Promise((resolve) => registration.addEventListener("updatefound", () => {
    const worker = registration.installing;
    const over = () => ["installed", "redundant"].includes(worker.state);
    worker.addEventListener("statechange", () => over() && resolve(worker.state));
  }));
  await registration.update();
  return [await over, Boolean(registration.waiting)];
}"""


def test_a_broken_or_half_update_never_takes_the_place(context: BrowserContext, site: Published) -> None:
    lab = visit(context, site)
    before, page = (site.folder / "index.html").read_bytes(), second(site)
    site.announce({"index.html": page})
    for there in (before, page.replace(b"LoRA", b"LORA"), page[:-9], None):  # not yet, other bytes, cut, missing
        site.write("index.html", there or b"")
        if there is None:
            (site.folder / "index.html").unlink()
        assert lab.page.evaluate(GIVEN_UP) == ["redundant", False]
    lab.errors.clear()  # the browser says in the console which file was not right
    lab.page.reload()
    lab.wait_for_model()
    wait_for_state(lab, "kept")
    assert not is_second(lab)
    site.vanish()
    lab.page.reload()
    lab.wait_for_model()
    assert not is_second(lab)
    site.returns()
    site.write("index.html", page)  # the upload goes on
    lab.page.reload()
    wait_for_state(lab, "update")


def test_it_is_said_only_while_it_is_so(context: BrowserContext, site: Published) -> None:
    lab = visit(context, site)
    assert lab.page.evaluate(ASK_STATE) == {"whole": True, "models": ["tiny"]}
    name = "samples/lighthouse.jsonl"
    key = f".kept/{listed(lab.page)[name][0]}"
    data = (site.folder / name).read_bytes()
    (site.folder / name).unlink()
    removed = "async (key) => (await caches.open((await caches.keys())[0])).delete(new URL(key, location.href).href)"
    assert lab.page.evaluate(removed, key) is True
    assert lab.page.evaluate(ASK_STATE) == {"whole": False, "models": ["tiny"]}
    context.new_cdp_session(lab.page).send("Network.clearBrowserCache")  # which it could be had from
    lab.page.reload()
    lab.wait_for_model()
    assert lab.page.evaluate(ASK_STATE) == {"whole": False, "models": ["tiny"]}
    wait_for_state(lab, "none")
    assert lab.text("offline-status") == ""
    site.write(name, data)  # what is missing is fetched as soon as it can be
    lab.page.reload()
    lab.page.wait_for_function(f"async () => (await ({ASK_STATE})()).whole")
    lab.page.reload()
    wait_for_state(lab, "kept")
    lab.page.evaluate(
        """async () => {
          const home = await (await navigator.storage.getDirectory()).getDirectoryHandle("lora-lab");
          const models = await home.getDirectoryHandle("models");
          for await (const name of models.keys()) if (name.endsWith(".ok")) await models.removeEntry(name);
        }"""
    )
    assert lab.page.evaluate(ASK_STATE) == {"whole": True, "models": []}


# --- the policy ---


def test_what_it_answers_with_carries_the_policy(context: BrowserContext, site: Published) -> None:
    """On a host without headers: a worker started by its address has the policy when the service worker answers."""
    visit(context, site).page.close()
    page = context.new_page()
    page.goto(site.url + "manifest.json")  # a page of the site that has no policy
    address = site.url + "assets/worker/worker.js?kind=train"
    with elsewhere() as other:
        with page.expect_worker() as made:
            page.evaluate("(url) => { window.kept = new Worker(url, { type: 'module' }); }", address)
        found = attempts_in(made.value, other, site.url)
        assert found.pop("fetch of the site itself") == "done"
        assert {name: what for name, what in found.items() if not what.startswith("refused: ")} == {}
        assert other.asked == []


# --- icons ---


def test_the_icons_are_those_of_the_drawing(browser: Browser, tmp_path: Path) -> None:
    draw(browser, tmp_path)
    page = browser.new_page(service_workers="block")
    names = [path.relative_to(WEB) for path in sorted((WEB / "icons").glob("*.png"))]
    for name in names:
        assert differences(page, (WEB / name).read_bytes(), (tmp_path / name).read_bytes()) < 1, name
    first, *_, last = names
    with pytest.raises(Error, match="sizes"):  # the controls: another size, another picture
        differences(page, (WEB / first).read_bytes(), (WEB / last).read_bytes())
    any_512, maskable_512 = ((WEB / f"icons/{purpose}-512.png").read_bytes() for purpose in ("any", "maskable"))
    assert differences(page, any_512, maskable_512) > 10
    page.close()


def differences(page: Page, one: bytes, other: bytes) -> float:
    """Return how far two pictures are apart: the mean difference of a pixel's value, of 255."""
    found: float = page.evaluate(
        """async (pictures) => {
          const [one, other] = await Promise.all(pictures.map(async (bytes) => {
            const picture = await createImageBitmap(new Blob([new Uint8Array(bytes)]));
            const drawn = new OffscreenCanvas(picture.width, picture.height).getContext("2d");
            drawn.drawImage(picture, 0, 0);
            return drawn.getImageData(0, 0, picture.width, picture.height);
          }));
          if (one.width !== other.width || one.height !== other.height) throw new Error("two sizes");
          return one.data.reduce((sum, value, at) => sum + Math.abs(value - other.data[at]), 0) / one.data.length;
        }""",
        [list(one), list(other)],
    )
    return found
