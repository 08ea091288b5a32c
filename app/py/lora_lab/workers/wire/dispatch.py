"""Which method answers which command, and what happens when one fails. The same for both workers."""

from __future__ import annotations

import asyncio
import platform
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import lora_lab
from lora_lab.errors import LoraLabError
from lora_lab.workers.protocol import Command, Event, Failed, Where

Handler = Callable[[Any, Any], Awaitable[None]]
H = TypeVar("H", bound=Handler)


class Host(Protocol):
    """What a worker needs from where it runs: a way to tell the page something."""

    def post(self, event: Event) -> None:
        """Send an event to the page."""


def handles(command: type[Command], where: Where, *, exclusive: bool = False) -> Callable[[H], H]:
    """Mark a method as the answer to `command`.

    `where` is the part of the page that shows its errors. Exclusive methods run one after another, in the order
    their commands came; the others run at once, also in the middle of a training run.
    """

    def mark(method: H) -> H:
        method.answers = (command, where, exclusive)  # type: ignore[attr-defined]
        return method

    return mark


class Worker:
    """Runs the method that `handles` a command and turns its errors into Failed events."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._turn = asyncio.Lock()
        self._answers: dict[type[Command], tuple[Handler, Where, bool]] = {}
        for name in dir(type(self)):
            method = getattr(type(self), name)
            if answers := getattr(method, "answers", None):
                command, where, exclusive = answers
                self._answers[command] = (method, where, exclusive)

    async def answer(self, command: Command) -> None:
        """Run the method for `command`. Never raises: what goes wrong is posted."""
        if (found := self._answers.get(type(command))) is None:
            self.host.post(Failed("worker", f"This worker has no answer to {command.wire_type()}.", _details()))
            return
        method, where, exclusive = found
        try:
            if exclusive:
                async with self._turn:
                    await method(self, command)
            else:
                await method(self, command)
        except Exception as error:
            self.host.post(failure(where, error, subject=getattr(command, "id", None)))


def failure(where: Where, error: BaseException, subject: str | None = None) -> Failed:
    """Return the event for an error: its own words if people are meant to read it, else words and a traceback."""
    if isinstance(error, LoraLabError):
        return Failed(where, str(error), None, subject)
    kind = type(error).__name__
    lines = traceback.format_exception(error)
    message = f"Something unexpected happened: {str(error).splitlines()[0] if str(error) else kind}"
    return Failed(where, message[:300], _details("".join(lines)), subject)


def _details(trace: str = "") -> str:
    return f"lora-lab {lora_lab.__version__}, Python {platform.python_version()} on {platform.system()}\n{trace}"
