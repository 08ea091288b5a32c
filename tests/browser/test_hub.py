"""Models by their name: a repository is looked at, a model of it fetched, kept, opened and removed again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Locator, expect

from tests.browser.lab import START_MS, Lab
from tests.hub_server import HubServer, Repository
from tests.tiny_gguf import write_tiny_gguf
from tests.tiny_model import write_tiny_model

NAME, FILE, WEIGHTS = "tests/tiny-GGUF", "tiny-F16.gguf", "model.safetensors"
PADDING_BYTES = 4 << 20  # behind the weights: what comes of a smaller file is lost when its connection breaks
WAIT_MS = 30_000


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A tiny model of its own, with three layers."""
    home = tmp_path_factory.mktemp("hub")
    own = write_tiny_model(home / "mine", seed=5, layers=3)
    with ThreadPoolExecutor() as threads:  # it runs an event loop of its own; Playwright has one here
        written = threads.submit(write_tiny_gguf, own, home / "tiny.gguf", form="f16").result()
    return written.read_bytes() + bytes(PADDING_BYTES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes | Path]:
    """The files of another tiny model, of four layers."""
    written = write_tiny_model(tmp_path_factory.mktemp("hub") / "other", seed=6, layers=4)
    return {path.name: path.read_bytes() for path in written.iterdir() if path.is_file()}


@pytest.fixture
def hub(local_hub: HubServer, gguf: bytes, folder: dict[str, bytes | Path]) -> HubServer:
    """The local hub with three repositories, and a log that begins here."""
    others = {"tiny-IQ2_XXS.gguf": gguf, "pytorch_model.bin": b"pickled"}
    card = {"license": "apache-2.0", "base_model": "tests/tiny"}
    repositories = (
        Repository(NAME, {FILE: gguf, **others}, card),
        Repository("tests/other", folder),
        Repository("tests/gated", {FILE: gguf}, gated="auto"),
    )
    local_hub.repositories = {one.name: one for one in repositories}
    local_hub.renamed = {"tests/before": NAME}
    local_hub.requests.clear()
    return local_hub


@pytest.fixture
def open_hub_lab(context: BrowserContext, site_url: str, hub: HubServer) -> Iterator[Callable[[], HubLab]]:
    """Open the page; the console may only tell of requests to the hub that have failed, as these tests want it."""
    opened: list[HubLab] = []

    def open_page() -> HubLab:
        opened.append(HubLab(context, site_url + "?model=tiny"))
        opened[-1].wait_for_model()
        return opened[-1]

    yield open_page
    expected = ("Failed to load resource", hub.url, hub.storage_url)
    assert [error for lab in opened for error in lab.errors if not error.startswith(expected)] == []


class HubLab(Lab):
    """The page, and what a person does in the dialog."""

    def open_dialog(self) -> None:
        self.page.locator("#model-change").click()

    def look(self, name: str) -> None:
        self.part("hub-name").fill(name)
        self.part("hub-look").click()
        expect(self.part("hub-look")).to_have_text("Look", timeout=WAIT_MS)

    def model(self, words: str) -> Locator:
        return self.part("hub-model").filter(has_text=words)

    def kept(self) -> Locator:
        return self.part("kept-model")

    def refuse_a_buffer(self) -> None:
        """Have the chat's GPU refuse the next memory that it is asked for."""
        worker = next(worker for worker in self.page.workers if "kind=chat" in worker.url)
        worker.evaluate(
            """() => {
              const { createBuffer } = GPUDevice.prototype;
              GPUDevice.prototype.createBuffer = () => {
                GPUDevice.prototype.createBuffer = createBuffer;
                throw new RangeError("no room");
              };
            }"""
        )

    def stored(self) -> set[str]:
        """Return the names of the files of models that are stored."""
        found = self.page.evaluate(
            """async () => {
              const home = await (await navigator.storage.getDirectory()).getDirectoryHandle("lora-lab");
              const names = [];
              for await (const name of (await home.getDirectoryHandle("models")).keys()) names.push(name);
              return names;
            }"""
        )
        return set(found)


def first_byte(asked: str | None) -> int:
    """Return where a range begins that goes on to the end."""
    found = re.fullmatch(r"bytes=(\d+)-", asked or "")
    assert found, asked
    return int(found[1])


def test_a_model_is_found_by_its_name_fetched_kept_and_removed(
    open_hub_lab: Callable[[], HubLab], hub: HubServer, gguf: bytes
) -> None:
    lab = open_hub_lab()
    of_the_site = lab.stored()
    lab.open_dialog()
    expect(lab.page.locator("#hub-promise")).to_contain_text(hub.url.split("://")[1])
    lab.part("hub-name").fill("tests/before")
    assert hub.requests == []  # nothing before it is asked for

    lab.look("tests/before")
    expect(lab.part("hub-listing")).to_contain_text("has been renamed")
    expect(lab.part("hub-listing")).to_contain_text("apache-2.0")
    expect(lab.part("hub-model")).to_have_count(3)
    expect(lab.model("IQ2_XXS")).to_have_attribute("data-refused", "true")
    expect(lab.model("IQ2_XXS")).to_contain_text("the form IQ2_XXS is not read")
    expect(lab.model("pickle")).to_contain_text("runs code when it is opened")
    expect(lab.part("hub-verdict")).to_have_attribute("data-verdict", "fits", timeout=WAIT_MS)  # the only one is chosen
    expect(lab.part("hub-verdict")).to_contain_text("of its memory")
    expect(lab.model("F16")).to_contain_text("3 layers")

    before, middle = len(hub.requests), len(gguf) // 2
    hub.cut_after[FILE] = middle
    lab.part("hub-fetch").click()
    expect(lab.part("model-status")).to_contain_text("tiny-F16", timeout=WAIT_MS)  # opened when all of it was here
    asked = [(one.where, one.range) for one in hub.requests[before:]]
    assert [where for where, _ in asked] == ["hub", "storage"] * 2 and asked[1][1] is None
    assert 0 < first_byte(asked[3][1]) <= middle  # what was on its way when the connection broke is lost
    lab.wait_for_model()
    lab.greedy(4)
    lab.ask_anything("Hello")
    assert len(lab.stored()) == len(of_the_site) + 2

    count = len(hub.requests)
    lab.open_dialog()
    expect(lab.kept()).to_contain_text("in use")
    expect(lab.kept().get_by_role("button", name="Remove")).to_be_disabled()
    lab.part("model-built-in").click()
    expect(lab.part("model-status")).not_to_contain_text("F16", timeout=WAIT_MS)
    lab.wait_for_model()

    lab.refuse_a_buffer()
    lab.open_dialog()
    lab.kept().get_by_role("button", name="Open").click()
    expect(lab.page.locator("#setup-problem")).to_contain_text("tiny-F16 cannot be used on this GPU", timeout=WAIT_MS)
    expect(lab.part("model-status")).not_to_contain_text("F16", timeout=WAIT_MS)
    lab.wait_for_model()  # the one that works is back

    lab.open_dialog()
    expect(lab.part("model-built-in")).to_be_hidden()
    lab.kept().get_by_role("button", name="Remove").click()
    expect(lab.kept()).to_have_count(0)
    assert lab.stored() == of_the_site and len(hub.requests) == count


def test_what_goes_wrong_is_told_at_its_place_and_what_works_stays(
    open_hub_lab: Callable[[], HubLab], hub: HubServer, folder: dict[str, bytes | Path], tmp_path: Path
) -> None:
    lab = open_hub_lab()
    title = lab.text("model-status")
    lab.open_dialog()
    problem = lab.part("hub-problem")
    for name, said in (
        ("tests/nothing", "tests/nothing is not on the hub, or it is private"),
        ("tests", "is no OWNER/NAME"),
        ("tests/tiny-GGUF@nowhere", "has no revision nowhere"),
    ):
        lab.look(name)
        expect(problem).to_contain_text(said)
    hub.go_offline()
    lab.look(NAME)
    expect(problem).to_contain_text("does not answer")
    hub.go_online()

    lab.look("tests/gated")
    expect(lab.part("hub-listing")).to_contain_text("It is gated")
    expect(lab.part("hub-model-problem")).to_contain_text("is gated: its owner gives it", timeout=WAIT_MS)
    expect(problem).to_be_empty()

    hub.wrong_bytes.add(FILE)
    lab.look(NAME)
    lab.part("hub-fetch").click(timeout=WAIT_MS)
    expect(lab.part("hub-model-problem")).to_contain_text("sha256", timeout=WAIT_MS)
    expect(lab.kept()).to_have_count(0)
    hub.wrong_bytes.clear()

    lab.part("hub-fetch").click()  # a whole one
    expect(lab.part("model-status")).to_contain_text("tiny-F16", timeout=WAIT_MS)
    lab.open_dialog()
    lab.look("tests/other")
    expect(lab.part("hub-verdict")).to_be_visible(timeout=WAIT_MS)
    stall = hub.stall_after[WEIGHTS] = 3 * hub.repositories["tests/other"].size_bytes(WEIGHTS) // 4
    lab.part("hub-fetch").click()
    expect(lab.part("hub-progress")).to_contain_text(re.compile(r"[1-9].* of .*B, "), timeout=WAIT_MS)
    lab.part("hub-stop").click()
    whole, part = lab.kept().filter(has_text=FILE[:-5]), lab.kept().filter(has_text="tests/other")
    expect(part).to_contain_text("are here", timeout=WAIT_MS)

    lab.page.reload()
    lab.wait_for_model()
    assert lab.text("model-status") == title  # the site's own
    count = len(hub.requests)
    lab.open_dialog()
    whole.get_by_role("button", name="Open").click()
    expect(lab.part("model-status")).to_contain_text("tiny-F16", timeout=WAIT_MS)
    assert len(hub.requests) == count  # what is kept is opened without a request
    lab.open_dialog()
    part.get_by_role("button", name="Continue").click()
    expect(lab.part("model-status")).to_contain_text("other", timeout=WAIT_MS)
    went_on = [one for one in hub.requests[count:] if one.path.endswith(WEIGHTS)]
    assert [one.where for one in went_on] == ["hub", "storage"]
    assert all(0 < first_byte(one.range) <= stall for one in went_on)

    lab.wait_for_model()
    lab.open_dialog()
    lab.drop(write_tiny_model(tmp_path / "own") / "config.json", on="model-input")
    expect(lab.part("candidate-words")).to_contain_text("tokenizer.json is missing", timeout=START_MS)
    expect(lab.part("candidate-open")).to_be_hidden()
    lab.page.keyboard.press("Escape")
    lab.wait_for_model()
    assert "other" in lab.text("model-status")  # the one of the hub stays
    lab.greedy(4)
    lab.ask_anything("Hello")
