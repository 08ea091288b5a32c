"""Without a network in Firefox: after one visit the page opens, trains and chats; an update waits to be asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from tests.browser.lab import START_MS, Lab
from tests.browser.published import Published, published


@pytest.fixture
def context(firefox: Browser) -> Iterator[BrowserContext]:
    made = firefox.new_context(viewport={"width": 1440, "height": 900}, service_workers="allow")
    yield made
    made.close()


@pytest.fixture
def site(site_folder: Path, tmp_path: Path) -> Iterator[Published]:
    with published(site_folder, tmp_path / "site") as made:
        yield made


def test_it_opens_trains_and_chats_without_a_network(context: BrowserContext, site: Published, ships: Path) -> None:
    lab = Lab(context, site.url + "?model=tiny")
    lab.wait_for_model()
    expect(lab.part("offline-status")).to_have_text("Works offline", timeout=START_MS)
    page = (site.folder / "index.html").read_bytes().replace(b"<body ", b'<body data-published="2" ')
    site.publish({"index.html": page})
    lab.page.reload()
    lab.wait_for_model()
    expect(lab.part("offline-status")).to_have_text("A new version is there", timeout=START_MS)
    with lab.page.expect_navigation():
        lab.part("update-reload").click()
    lab.wait_for_model()
    assert lab.page.evaluate("() => document.body.dataset.published") == "2"
    expect(lab.part("offline-status")).to_have_text("Works offline", timeout=START_MS)
    site.vanish()
    lab.page.reload()
    lab.wait_for_model()
    lab.drop_data(ships)
    lab.set(steps=4, batch=2)
    lab.start()
    lab.wait_for_phase("done")
    expect(lab.part("chat-adapter")).to_be_checked(timeout=START_MS)
    lab.greedy(8)
    lab.ask_anything("What is ship 7?")
    assert lab.errors == []
