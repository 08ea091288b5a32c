"""Chromium with a software GPU, and the page in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Playwright, expect, sync_playwright

from tests.browser.lab import START_MS, Lab
from tests.browser.scripted import ScriptedLab

expect.set_options(timeout=START_MS)  # a busy machine takes longer than Playwright's 5 s for what is quick elsewhere

QUIET = ["no-first-run", "disable-quic", "disable-background-networking", "disable-component-update", "disable-sync"]
HEADLESS = ["--headless=new", "--no-sandbox", *(f"--{flag}" for flag in QUIET)]
SOFTWARE_GPU = ["--enable-unsafe-webgpu", "--enable-features=Vulkan", "--use-vulkan=swiftshader"]
# What a browser itself asks its maker: the kinds of a form's fields, hints, translations. No page has a say in it.
SPEAKING = ["AutofillServerCommunication", "MediaRouter", "OptimizationHints", "Translate"]

SHIPS = [("lost", "Ada"), ("old", "Wren"), ("red", "Pear")]


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="session")
def browser(playwright: Playwright, chromium_path: str) -> Iterator[Browser]:
    """Chromium with SwiftShader as its GPU."""
    started = playwright.chromium.launch(executable_path=chromium_path, args=[*HEADLESS, *SOFTWARE_GPU])
    yield started
    started.close()


@pytest.fixture(scope="session")
def browser_as_it_comes(playwright: Playwright, chromium_path: str) -> Iterator[Browser]:
    """The same with Chromium's own features: Playwright switches off some, in how workers are started among others."""
    args = [*HEADLESS, *SOFTWARE_GPU, f"--disable-features={','.join(SPEAKING)}"]
    started = playwright.chromium.launch(executable_path=chromium_path, args=args)
    yield started
    started.close()


@pytest.fixture(scope="session")
def browser_without_gpu(playwright: Playwright, chromium_path: str) -> Iterator[Browser]:
    """Chromium as it comes on Linux: it has navigator.gpu, and no adapter behind it."""
    started = playwright.chromium.launch(executable_path=chromium_path, args=HEADLESS)
    yield started
    started.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A fresh profile: nothing stored, nothing cached."""
    made = browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
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


@pytest.fixture
def chat(context: BrowserContext, site_url: str) -> Iterator[ScriptedLab]:
    """The page, ready to chat with whatever a test wants to be replied; its console must stay free of errors."""
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    lab = ScriptedLab(context, site_url + "?model=tiny")
    yield lab
    assert lab.errors == []


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
