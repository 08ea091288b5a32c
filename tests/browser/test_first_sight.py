"""What a new visitor sees: settings in one line, Start in view, three tabs on a phone, light or dark; and the keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.lab import START_MS

DESKTOP, PHONE = (1366, 768), (390, 844)


@pytest.fixture
def visitor(browser: Browser) -> Iterator[BrowserContext]:
    """A profile that was never here."""
    made = browser.new_context(viewport={"width": DESKTOP[0], "height": DESKTOP[1]}, reduced_motion="reduce")
    yield made
    made.close()


def visit(context: BrowserContext, site_url: str) -> Page:
    page = context.new_page()
    page.goto(site_url + "?model=tiny")
    expect(page.get_by_test_id("model-status")).to_have_attribute("data-state", "ready", timeout=START_MS)
    return page


def in_view(page: Page, testid: str) -> bool:
    """Whether a part of the page can be pressed without scrolling."""
    found: bool = page.get_by_test_id(testid).evaluate(
        """(element) => {
          const { left, top, width, height } = element.getBoundingClientRect();
          const [x, y] = [left + width / 2, top + height / 2];
          return width > 0 && y > 0 && y < innerHeight && element.contains(document.elementFromPoint(x, y));
        }"""
    )
    return found


def test_settings_are_one_line_until_somebody_wants_more(visitor: BrowserContext, site_url: str) -> None:
    page = visit(visitor, site_url)
    line, steps = page.locator("#settings-said"), page.get_by_test_id("set-steps")
    expect(line).to_have_text("60 steps · rank 16 · learning rate 2e-4")
    expect(steps).to_be_hidden()
    page.get_by_role("button", name="Quick").click()
    expect(line).to_have_text("20 steps · rank 8 · learning rate 2e-4")
    page.get_by_role("button", name="Edit").click()
    expect(steps).to_have_value("20")
    steps.fill("33")
    expect(line).to_have_text("Your own: 33 steps · rank 8 · learning rate 2e-4")
    expect(page.get_by_role("button", name="Quick")).to_have_attribute("aria-pressed", "false")
    page.reload()
    expect(page.get_by_test_id("set-rank")).to_be_visible(timeout=START_MS)  # the person likes them open


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_start_is_in_view_whatever_else_is_open(visitor: BrowserContext, site_url: str, size: tuple[int, int]) -> None:
    page = visit(visitor, site_url)
    page.set_viewport_size({"width": size[0], "height": size[1]})
    if size == PHONE:
        page.locator("[data-step=train]").click()
    assert in_view(page, "train-start")
    page.get_by_role("button", name="Edit").click()
    page.locator("#more-settings > summary").click()
    page.evaluate("scrollTo(0, 0)")
    assert in_view(page, "train-start")
    assert not in_view(page, "set-save-memory")  # the control: there is more than the window holds


def test_a_phone_shows_one_panel_at_a_time(visitor: BrowserContext, site_url: str) -> None:
    page = visit(visitor, site_url)
    panels = [page.locator(f"#{name}") for name in ("data", "train", "chat")]
    for panel in panels:
        expect(panel).to_be_visible()
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    for place, name in enumerate(("data", "train", "chat")):
        page.locator(f"[data-step={name}]").click()
        assert [panel.is_visible() for panel in panels] == [other == place for other in range(3)]
        expect(page.locator("[data-step][aria-current]")).to_have_count(1)
        assert page.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 0


def test_light_and_dark_can_be_chosen_and_stay(visitor: BrowserContext, site_url: str) -> None:
    page = visit(visitor, site_url)
    colour = "() => getComputedStyle(document.body).backgroundColor"
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(colour)
    page.emulate_media(color_scheme="light")
    light = page.evaluate(colour)
    assert light != dark
    switch = page.get_by_test_id("theme")
    switch.click()
    switch.click()
    expect(switch).to_have_attribute("data-theme", "dark")
    assert page.evaluate(colour) == dark
    page.reload()
    expect(switch).to_have_attribute("data-theme", "dark")
    assert page.evaluate(colour) == dark
    switch.click()
    assert page.evaluate(colour) == light


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_one_press_trains_the_sample(visitor: BrowserContext, site_url: str, size: tuple[int, int]) -> None:
    page = visitor.new_page()
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.goto(site_url + "?model=tiny")  # and not a moment's wait for Python or the model
    expect(page.get_by_test_id("sample-train")).to_be_visible()
    assert page.locator("button.primary:visible:enabled").count() == 1
    assert in_view(page, "sample-train")
    expect(page.get_by_test_id("sample-says")).to_contain_text("60 steps")
    page.get_by_test_id("sample-train").click()
    stop = page.get_by_test_id("train-stop")
    expect(stop).to_be_visible(timeout=START_MS)
    assert in_view(page, "train-stop")
    expect(page.get_by_test_id("train-step")).to_have_text(re.compile(r"^\d+ / 60$"), timeout=START_MS)
    stop.click()
    expect(page.get_by_test_id("train-status")).to_have_attribute("data-state", "done", timeout=START_MS)


def test_other_data_does_not_begin_to_train_by_itself(visitor: BrowserContext, site_url: str, ships: Path) -> None:
    page = visitor.new_page()
    page.goto(site_url + "?model=tiny")
    page.get_by_test_id("sample-train").click()
    page.get_by_test_id("dataset-input").set_input_files(str(ships))  # instead
    expect(page.get_by_test_id("train-start")).to_be_enabled(timeout=START_MS)
    assert page.get_by_test_id("train-status").get_attribute("data-state") == "idle"


def test_keys(visitor: BrowserContext, site_url: str, ships: Path) -> None:
    page = visit(visitor, site_url)
    page.keyboard.press("?")
    expect(page.locator("#keys-dialog")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    expect(page.get_by_test_id("chat-input")).to_be_focused()
    page.keyboard.type("what is this?")  # in a field they are letters
    expect(page.get_by_test_id("chat-input")).to_have_value("what is this?")
    page.get_by_test_id("dataset-input").set_input_files(str(ships))
    expect(page.get_by_test_id("train-start")).to_be_enabled(timeout=START_MS)
    page.locator("#train").focus()
    page.keyboard.press("Control+Enter")
    expect(page.get_by_test_id("train-stop")).to_be_visible(timeout=START_MS)


def test_nothing_moves_while_the_page_starts(visitor: BrowserContext, site_url: str) -> None:
    for size in (DESKTOP, PHONE):
        page = visitor.new_page()
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.add_init_script(
            """self.moved = 0;
            new PerformanceObserver((list) => list.getEntries().forEach(({ value }) => (self.moved += value)))
              .observe({ type: "layout-shift", buffered: true });"""
        )
        page.goto(site_url + "?model=tiny")
        expect(page.get_by_test_id("model-status")).to_have_attribute("data-state", "ready", timeout=START_MS)
        assert page.evaluate("() => self.moved") <= 0.01
        page.close()
