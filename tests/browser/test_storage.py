"""The model's way into the browser's storage: fetched once, continued when broken off, never used when damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import BrowserContext, Route, expect

from tests.browser.lab import START_MS, Lab

WEIGHTS = "**/models/tiny/model.safetensors"


def test_a_broken_download_is_continued_and_then_never_repeated(
    open_lab: Callable[..., Lab], context: BrowserContext, tiny_model_folder: Path
) -> None:
    whole = (tiny_model_folder / "model.safetensors").read_bytes()
    asked: list[str | None] = []

    def half_at_first(route: Route) -> None:
        asked.append(route.request.headers.get("range"))
        if len(asked) == 1:
            route.fulfill(status=200, body=whole[: len(whole) // 2])
        else:
            route.continue_()

    context.route(WEIGHTS, half_at_first)
    lab = open_lab()
    lab.wait_for_model()
    assert asked == [None, f"bytes={len(whole) // 2}-"]
    lab.page.reload()
    lab.wait_for_model()
    assert len(asked) == 2


def test_a_damaged_download_is_refused_and_fetched_anew(
    open_lab: Callable[..., Lab], context: BrowserContext, tiny_model_folder: Path
) -> None:
    damaged = bytearray((tiny_model_folder / "model.safetensors").read_bytes())
    damaged[-1] ^= 1
    context.route(WEIGHTS, lambda route: route.fulfill(status=200, body=bytes(damaged)))
    lab = open_lab()
    expect(lab.page.locator("#setup-problem")).to_contain_text("sha256", timeout=START_MS)
    context.unroute(WEIGHTS)
    lab.page.reload()
    lab.wait_for_model()
