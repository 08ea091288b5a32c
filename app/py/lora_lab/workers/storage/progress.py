"""How far a download is: bytes, the rate, the time left, told not too often."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

PROGRESS_EVERY_S = 0.1


@dataclass(frozen=True)
class Fetched:
    """How far files are: bytes, the rate over the last seconds, the time left, and the file that is coming.

    `waits` is true while a broken connection is given a moment.
    """

    done_bytes: int
    total_bytes: int
    rate_bytes_per_s: float | None
    left_ms: float | None
    file: str
    waits: bool = False


class ProgressMeter:
    """Turns byte counts into Fetched: not too many of them, with a rate over the last seconds."""

    def __init__(self, tell: Callable[[Fetched], None], total_bytes: int) -> None:
        self.tell, self.total_bytes = tell, total_bytes
        self.done_bytes = 0
        self._begin_anew()
        self._told = 0.0

    def _begin_anew(self) -> None:
        self._history: deque[tuple[float, int]] = deque([(time.monotonic(), self.done_bytes)], maxlen=40)

    def skip(self, size_bytes: int, file: str) -> None:
        """Count bytes that were there already, which say nothing of the rate."""
        self.done_bytes += size_bytes
        self._begin_anew()
        self._tell(time.monotonic(), file)

    def add(self, size_bytes: int, file: str) -> None:
        """Count bytes of `file` that have come; tell of them if that was not just done."""
        self.done_bytes += size_bytes
        now = time.monotonic()
        if now - self._told < PROGRESS_EVERY_S and self.done_bytes < self.total_bytes:
            return
        self._history.append((now, self.done_bytes))
        self._tell(now, file)

    def wait(self, file: str) -> None:
        """Tell that nothing comes just now."""
        self._begin_anew()
        self._tell(time.monotonic(), file, waits=True)

    def _tell(self, now: float, file: str, *, waits: bool = False) -> None:
        self._told = now
        (then, before), left = self._history[0], self.total_bytes - self.done_bytes
        rate = (self.done_bytes - before) / (now - then) if now > then else None
        left_ms = left / rate * 1000 if rate else None
        self.tell(Fetched(self.done_bytes, self.total_bytes, rate, left_ms, file, waits))
