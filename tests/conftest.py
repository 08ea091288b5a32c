"""What all tiers share: markers by folder, and the large things that several tests use."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from build_tools.base import CACHE, FileHashes
from build_tools.environment import ensure_node_modules
from build_tools.fetch import Fetcher
from build_tools.hub import HubSite
from build_tools.parts import GEMMA, MODEL
from build_tools.server import SiteServer
from build_tools.site import build_site
from build_tools.testing import TIERS, find_browser
from tests.hub_server import HubServer
from tests.tiny_model import write_base_model, write_tiny_model

TESTS = Path(__file__).parent
SHIPS = [("lost", "Ada"), ("old", "Wren"), ("red", "Pear")]


def pytest_configure() -> None:
    """Take Ctrl-C as from a terminal: a script's background job has it kept from it, and from what it starts."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test the marker of its folder, unless it names a tier itself."""
    for item in items:
        if not any(item.get_closest_marker(tier) for tier in TIERS):
            item.add_marker(item.path.relative_to(TESTS).parts[0])


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama in a Hugging Face folder. Read only: the whole session shares it."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def base_model_folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a base model, without a chat template. Read only."""
    return write_base_model(tmp_path_factory.mktemp("models") / "base", tiny_model_folder)


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """SmolLM2-135M-Instruct as the site ships it, a GGUF file."""
    with Fetcher(CACHE / "parts", FileHashes(CACHE / "hashes.json")) as fetcher:
        return fetcher.obtain(MODEL)


@pytest.fixture(scope="session")
def gemma_path() -> Path:
    """Gemma 3 270M, a GGUF file of another family; it never goes into the site."""
    with Fetcher(CACHE / "parts", FileHashes(CACHE / "hashes.json")) as fetcher:
        return fetcher.obtain(GEMMA)


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The npm packages of package-lock.json, pyodide and a WebGPU for Node (Dawn) among them."""
    return ensure_node_modules(development=True)


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The program that Playwright drives."""
    path = find_browser()
    assert path is not None, "no Chromium; `python3 build.py test browser` installs it or says how"
    return path


@pytest.fixture(scope="session")
def local_hub() -> Iterator[HubServer]:
    """The hub that the site of the tests knows. It holds nothing until a test puts a repository there."""
    with HubServer() as hub:
        yield hub


@pytest.fixture(scope="session")
def site_folder(tiny_model_folder: Path, base_model_folder: Path, local_hub: HubServer) -> Path:
    """The whole site with SmolLM2 and, as `?model=tiny` and `base`, the tiny ones; not the person's own dist/."""
    folder = CACHE / f"test-site-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"  # each process has a hub of its own
    added = [("tiny", tiny_model_folder), ("base", base_model_folder)]
    build_site(folder, added_models=added, hub=HubSite(local_hub.url, (local_hub.storage_url,)))
    return folder


@pytest.fixture(scope="session")
def site_url(site_folder: Path) -> Iterator[str]:
    """Where the site is served: under a sub-path, as GitHub Pages does, so that an absolute address cannot work."""
    with SiteServer(site_folder, port=0, prefix="/lora-lab/") as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.url
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def ships(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty short rows with a pattern that the tiny model learns in a few steps."""
    rows = []
    for number in range(60):
        word, name = SHIPS[number % 3]
        answer = f"The ship is {word}, and the name of it is {name}."
        rows.append({"prompt": f"What is ship {number}?", "completion": answer})
    path = tmp_path_factory.mktemp("data") / "ships.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
