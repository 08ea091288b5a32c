"""Tasks that may be given up: ended quietly, one in place of another, or done while nobody waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def quietly(work: Callable[[], Awaitable[T]]) -> T | None:
    """Do `work`; return None when cancelled: Pyodide's loop reports a task that ends so as an error."""
    try:
        return await work()
    except asyncio.CancelledError:
        return None


class OneJob:
    """Does one job at a time; a newer one takes its place."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._name = ""

    @property
    def doing(self) -> str | None:
        """The name of the job that is going on; None if none is."""
        return self._name if self._task is not None and not self._task.done() else None

    async def do(self, name: str, job: Coroutine[Any, Any, None]) -> bool:
        """Run a job in place of the one that is going on. Return False when it was given up itself."""
        await self.give_up()
        task = self._task = asyncio.ensure_future(job)
        self._name = name
        try:
            await task
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
            return False
        return True

    async def give_up(self) -> bool:
        """Cancel the job that is going on, and any that begins meanwhile. Return whether there was one."""
        found = False
        while self.doing is not None:
            assert self._task is not None
            found = True
            self._task.cancel()
            await asyncio.wait([self._task])
        return found


class Background:
    """Does what no command waits for; `on_error` is told what goes wrong."""

    def __init__(self, on_error: Callable[[Exception], None]) -> None:
        self._on_error = on_error
        self._tasks: set[asyncio.Future[None]] = set()  # the loop holds tasks weakly

    @property
    def is_busy(self) -> bool:
        """Whether anything is not done yet."""
        return bool(self._tasks)

    def begin(self, work: Awaitable[Any]) -> None:
        """Begin to do something."""

        async def guarded() -> None:
            try:
                await work
            except Exception as error:
                self._on_error(error)

        task = asyncio.ensure_future(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
