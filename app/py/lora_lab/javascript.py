"""Calls of what JavaScript answers later, and the counts it returns. Every await of a promise goes through here.

Pyodide can make Python exceptions of some reasons of a rejection only; at others the await would never end. So nothing
rejects: app/web/worker/calls.js, which worker.js puts on `globalThis`, tells how a call went.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable
from typing import Any


class JsError(Exception):
    """JavaScript threw, or rejected. `name` is the kind of its error: NotFoundError, QuotaExceededError, …"""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}" if message else name)
        self.name, self.message = name, message


def call(target: Any, name: str, *values: Any) -> Awaitable[Any]:
    """Call a method of a JavaScript object at once, and return what its answer can be awaited by. JsError.

    It may answer with a promise or with a value, and throw or reject whatever it likes.
    """
    if sys.platform != "emscripten":  # under CPython the tests' objects take JavaScript's place
        return _stand_in(target, name, values)
    import js

    return _answer(js.loraLabCall(target, name, *values))


async def _answer(settled: Awaitable[Any]) -> Any:
    answer = await settled
    if not answer.ok:
        raise JsError(str(answer.name), str(answer.message))
    return answer.value


async def _stand_in(target: Any, name: str, values: tuple) -> Any:
    try:
        answer = getattr(target, name)(*values)
        return await answer if isinstance(answer, Awaitable) else answer
    except Exception as error:
        raise JsError(getattr(error, "name", type(error).__name__), str(error)) from error


def options(**fields: Any) -> Any:
    """Return a JavaScript object with these fields; a dict under CPython."""
    if sys.platform != "emscripten":
        return fields
    import js

    return js.Object.new(**fields)


def count(value: Any, most: int) -> int | None:
    """Return a number that JavaScript gives as "so many of `most`"; None unless it is a whole one from 0 to `most`.

    Hosts give an error for a count, too: Chromium's files have answered a write with 4294967288, which is -8.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or not 0 <= value <= most:
        return None
    return int(value) if value == int(value) else None
