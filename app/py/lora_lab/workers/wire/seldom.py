"""How often the page is told how far something is."""

from __future__ import annotations

import time
from collections.abc import Callable

PROGRESS_EVERY_S = 0.1


def seldom(tell: Callable[[float, float], None]) -> Callable[[int, int], None]:
    """Return a progress callback that passes on the first call, the last, and one every now and then."""
    told = 0.0

    def on_progress(done: int, total: int) -> None:
        nonlocal told
        now = time.monotonic()
        if done >= total or now - told >= PROGRESS_EVERY_S:
            told = now
            tell(done, total)

    return on_progress
