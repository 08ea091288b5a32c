"""What the page tells the train worker about other tabs of it."""

from __future__ import annotations

from dataclasses import dataclass

from lora_lab.workers.protocol.parts import Command, Event


@dataclass(frozen=True)
class LookAgain(Command):
    """Tell anew what is kept (AdapterList, Storage, StoppedRun): another tab has changed it."""


COMMANDS: tuple[type[Command], ...] = (LookAgain,)
EVENTS: tuple[type[Event], ...] = ()
