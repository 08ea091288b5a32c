"""Draws the icons of the installed application from app/web/icon.svg, by the browser that the tests drive."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from build_tools.base import ROOT, BuildError, say, write_bytes
from build_tools.offline import ICONS, PAPER, TOUCH_ICON
from build_tools.testing import find_browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser  # of the tests' packages, which a build does without

WEB = ROOT / "app" / "web"
INSET = 0.14  # of the width, around the mark
SAFE_INSET = 0.24  # a maskable icon may be cut to the circle of 80 % of its width


def drawings() -> dict[str, tuple[int, str]]:
    """Return name below app/web/ -> (width and height in pixels, the SVG to be drawn)."""
    mark = re.sub(r"<style>.*?</style>", "", (WEB / "icon.svg").read_text(encoding="utf-8"))
    mark = mark.replace('class="f"', 'stroke="#16181d"')  # an icon on a desk has the colours of light pages
    wanted = {name: (size, SAFE_INSET if purpose == "maskable" else INSET) for name, size, purpose in ICONS}
    wanted[TOUCH_ICON[0]] = (TOUCH_ICON[1], INSET)
    return {name: (size, _framed(mark, inset)) for name, (size, inset) in wanted.items()}


def _framed(mark: str, inset: float) -> str:
    width = 1 - 2 * inset
    place = f'<svg x="{inset}" y="{inset}" width="{width:.2f}" height="{width:.2f}" '
    inner = mark.replace("<svg ", place, 1)
    ground = f'<rect width="1" height="1" fill="{PAPER}"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1">{ground}{inner}</svg>'


def draw(browser: Browser, folder: Path) -> None:
    """Write every icon as PNG below `folder`."""
    for name, (size, svg) in drawings().items():
        page = browser.new_page(viewport={"width": size, "height": size})
        page.set_content(f"<style>body {{ margin: 0 }} svg {{ display: block; width: 100vw }}</style>{svg}")
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(target, page.screenshot())
        page.close()


def draw_icons() -> None:
    """Write the icons of app/web/. BuildError where there is no Chromium."""
    from playwright.sync_api import sync_playwright

    path = find_browser()
    if path is None:
        raise BuildError("The icons are drawn by Chromium or Chrome, and none was found.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--headless=new", "--no-sandbox"])
        draw(browser, WEB)
        browser.close()
    say(f"{len(drawings())} icons are in {(WEB / 'icons').relative_to(ROOT)}")
