"""Which service's method answers which command, and what happens when one fails. The same for both workers.

Knows nothing of what the services do: they mark their methods with `handles` and `hears`.
"""

from __future__ import annotations

import asyncio
import platform
import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

import lora_lab
from lora_lab.errors import LoraLabError
from lora_lab.workers.protocol import Command, Event, Failed, Where

Answer = Callable[[Any], Awaitable[None]]
A = TypeVar("A", bound=Callable[[Any, Any], Awaitable[None]])
H = TypeVar("H", bound=Callable[[Any, Any], bool | None])

NO_ROOM = (
    "Python ran out of memory (a page gets 4 GB at most). Choose a smaller file, fewer rows or a smaller model; "
    "nothing that was kept is gone."
)


class Host(Protocol):
    """What a worker needs from where it runs: a way to tell the page something."""

    def post(self, event: Event) -> None:
        """Send an event to the page."""


def handles(command: type[Command], where: Where, *, exclusive: bool = False) -> Callable[[A], A]:
    """Mark a service's method as the answer to `command`.

    `where` is the part of the page that shows its errors. Exclusive methods run one after another, in the order
    their commands came, whichever service they are of; the others run at once, also in the middle of a training run.
    """

    def mark(method: A) -> A:
        method.answers = (command, where, exclusive)  # type: ignore[attr-defined]
        return method

    return mark


def hears(*commands: type[Command]) -> Callable[[H], H]:
    """Mark a service's method that is told of `commands` the moment they come: before their turn, if they wait for one.

    It is no coroutine. Where it returns False the command is dropped: nobody further hears of it or answers it.
    """

    def mark(method: H) -> H:
        method.hears = commands  # type: ignore[attr-defined]
        return method

    return mark


class Dispatcher:
    """Brings each command to the service that answers it, and turns errors into Failed events.

    The services' methods are found by their marks, `handles` and `hears`. Those that hear of the same command do so in
    the order in which the services are given. ValueError for a command with two answers.
    """

    def __init__(self, host: Host, services: Sequence[object]) -> None:
        self._host = host
        self._turn = asyncio.Lock()
        self._answers: dict[type[Command], tuple[Answer, Where, bool]] = {}
        self._hearers: dict[type[Command], list[Callable[[Any], bool | None]]] = {}
        for service in services:
            for name in dir(type(service)):
                marked = getattr(type(service), name)
                if answers := getattr(marked, "answers", None):
                    command, where, exclusive = answers
                    self._add_answer(command, getattr(service, name), where, exclusive)
                for command in getattr(marked, "hears", ()):
                    self._hearers.setdefault(command, []).append(getattr(service, name))

    def _add_answer(self, command: type[Command], method: Answer, where: Where, exclusive: bool) -> None:
        if (other := self._answers.get(command)) is not None:
            names = " and ".join(_name(found) for found in (other[0], method))
            raise ValueError(f"{command.wire_type()} is answered by {names}; wanted one answer")
        self._answers[command] = (method, where, exclusive)

    @property
    def commands(self) -> frozenset[type[Command]]:
        """The commands that have an answer."""
        return frozenset(self._answers)

    async def answer(self, command: Command) -> None:
        """Run the method for `command`. Never raises: what goes wrong is posted."""
        if (found := self._answers.get(type(command))) is None:
            message = f"This worker has no answer to {command.wire_type()}."
            self._host.post(Failed("worker", message, _details()))
            return
        method, where, exclusive = found
        try:
            if any(hear(command) is False for hear in self._hearers.get(type(command), ())):
                return
            if exclusive:
                async with self._turn:
                    await method(command)
            else:
                await method(command)
        except Exception as error:
            self._host.post(failure(where, error, subject=getattr(command, "id", None)))


def _name(method: Any) -> str:
    return f"{type(method.__self__).__name__}.{method.__name__}"


def failure(where: Where, error: BaseException, subject: str | None = None) -> Failed:
    """Return the event for an error: its own words if people are meant to read it, else words and a traceback."""
    if isinstance(error, LoraLabError):
        return Failed(where, str(error), None, subject, type(error).__name__)
    if isinstance(error, MemoryError):
        return Failed(where, NO_ROOM, _details("".join(traceback.format_exception(error))), subject, "MemoryError")
    kind = type(error).__name__
    lines = traceback.format_exception(error)
    message = f"Something unexpected happened: {str(error).splitlines()[0] if str(error) else kind}"
    return Failed(where, message[:300], _details("".join(lines)), subject, kind)


def _details(trace: str = "") -> str:
    return f"lora-lab {lora_lab.__version__}, Python {platform.python_version()} on {platform.system()}\n{trace}"
