"""Several tabs on one storage: each knows whether it is the only one.

Every tab holds one lock, shared with the others, until the browser takes it back: when the tab closes or is reloaded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol

from lora_lab.javascript import JsError, call, options

LOCK = "lora-lab-adapters"
RUN_LOCK = "lora-lab-run"  # of the tab that trains
Release = Callable[[], None]


class Locks(Protocol):
    """Hands out one lock."""

    async def take(self, mode: Literal["exclusive", "shared"], *, if_available: bool = False) -> Release | None:
        """Return what gives the lock back; None when it is refused, or not to be had at once with `if_available`."""


async def join_tabs(locks: Locks | None, when_alone: Callable[[], Awaitable[None]]) -> None:
    """Do `when_alone` if no other tab is open, then be one of the open tabs. Without locks every tab is alone."""
    if locks is None:
        await when_alone()
        return
    if release := await locks.take("exclusive", if_available=True):
        try:
            await when_alone()
        finally:
            release()
    await locks.take("shared")  # and keep it


class BrowserLocks:
    """A lock of the browser's `navigator.locks`."""

    def __init__(self, name: str = LOCK) -> None:
        self._name = name
        self._asked: set[asyncio.Future[None]] = set()  # the loop holds tasks weakly

    async def take(self, mode: Literal["exclusive", "shared"], *, if_available: bool = False) -> Release | None:
        granted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        released = asyncio.Event()

        async def while_held(lock: Any) -> None:
            granted.set_result(bool(lock))
            if lock:
                await released.wait()

        async def ask() -> None:
            import js
            from pyodide.ffi import create_proxy

            callback = create_proxy(while_held)
            try:
                asked = options(mode=mode, ifAvailable=if_available)
                await call(js.navigator.locks, "request", self._name, asked, callback)
            except JsError:  # refused: no storage for this site, or the tab is closing
                if not granted.done():
                    granted.set_result(False)
            finally:
                callback.destroy()

        task = asyncio.ensure_future(ask())
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)
        return released.set if await granted else None
