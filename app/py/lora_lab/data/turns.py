"""Long work over many rows, which tells how far it is and lets the event loop run in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

# Called with (done, total), in bytes or rows.
Progress = Callable[[int, int], None]

# The event loop gets its turn after this many rows or this long, whichever comes first: Stop must not wait.
_ROWS_PER_TURN = 256
_TURN_S = 0.05


class Turns:
    """Lets the event loop run now and then: call `await turn(done)` after every row or small batch of rows."""

    def __init__(self, total: int, on_progress: Progress | None) -> None:
        self._total, self._tell, self._count, self._began = total, on_progress, 0, time.monotonic()

    def is_due(self, rows: int = 1) -> bool:
        self._count += rows
        return self._count >= _ROWS_PER_TURN or (self._count & 15 == 0 and time.monotonic() - self._began > _TURN_S)

    async def give(self, done: int) -> None:
        if self._tell is not None:
            self._tell(min(done, self._total), self._total)
        await asyncio.sleep(0)
        self._count, self._began = 0, time.monotonic()

    def end(self) -> None:
        if self._tell is not None:
            self._tell(self._total, self._total)
