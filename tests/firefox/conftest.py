"""Firefox, as Debian packs it, on a software GPU, and the page in it; driven by Playwright through firefox.mjs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Playwright, expect, sync_playwright

from build_tools.environment import search_path
from build_tools.testing import VULKAN_FOLDERS, find_firefox
from tests.browser.lab import START_MS, Lab

expect.set_options(timeout=START_MS)

BRIDGE = Path(__file__).with_name("firefox.mjs")
PREFERENCES: dict[str, str | float | bool] = {
    "dom.webgpu.enabled": True,
    "dom.webgpu.workers.enabled": True,
    "gfx.webgpu.ignore-blocklist": True,  # software devices stand on it
    "ui.prefersReducedMotion": 1,
}


def software_vulkan() -> dict[str, str]:
    """Return what makes Mesa's software device the only one; nothing where it is not found."""
    found = [path for folder in VULKAN_FOLDERS for path in sorted(Path(folder).glob("lvp_icd*.json"))]
    return {"VK_ICD_FILENAMES": str(found[0])} if found else {}


@pytest.fixture(scope="session")
def firefox_path() -> str:
    """The program that Playwright drives."""
    path = find_firefox()
    assert path is not None, "no Firefox; `python3 build.py test firefox` installs it or says how"
    return path


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="session")
def firefox(playwright: Playwright, firefox_path: str, node_modules: Path) -> Iterator[Browser]:
    environment = {
        **os.environ,
        **software_vulkan(),
        "PATH": search_path(),
        "FIREFOX": firefox_path,
        "LORA_LAB_NODE_MODULES": str(node_modules),
    }
    started = playwright.firefox.launch(
        channel="moz-firefox", executable_path=BRIDGE, firefox_user_prefs=PREFERENCES, env=environment
    )
    yield started
    started.close()


@pytest.fixture
def context(firefox: Browser) -> Iterator[BrowserContext]:
    """A fresh container: nothing stored."""
    made = firefox.new_context(viewport={"width": 1440, "height": 900}, service_workers="block")
    yield made
    made.close()


@pytest.fixture
def open_lab(context: BrowserContext, site_url: str) -> Iterator[Callable[[str], Lab]]:
    """Open the page; after the test its console must have stayed free of errors."""
    opened: list[Lab] = []

    def open_page(query: str = "?model=tiny") -> Lab:
        opened.append(Lab(context, site_url + query))
        return opened[-1]

    yield open_page
    assert [error for lab in opened for error in lab.errors] == []
