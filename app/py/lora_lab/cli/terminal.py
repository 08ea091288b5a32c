"""What the command line says while it works: bars on a terminal, a few plain lines elsewhere; and Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, TypeVar

from tqdm import tqdm

from lora_lab.train import StepDone

T = TypeVar("T")


def say(message: str) -> None:
    """Tell the person something, on standard error: standard output belongs to results."""
    tqdm.write(message, file=sys.stderr)


class ByteBar:
    """How much of a file has been read. Call it with (done, total) in bytes (or `unit`s). Draws on a terminal only."""

    def __init__(self, label: str, unit: str = "B") -> None:
        self._bar: Any = tqdm(
            desc=label, unit=unit, unit_scale=True, leave=False, file=sys.stderr, disable=not sys.stderr.isatty()
        )

    def __call__(self, done_bytes: int, total_bytes: int) -> None:
        self._bar.total = total_bytes
        self._bar.update(done_bytes - self._bar.n)

    def close(self) -> None:
        self._bar.close()


class StepBar:
    """The steps of a run: a bar on a terminal, elsewhere a line for every tenth of the run."""

    def __init__(self, total_steps: int) -> None:
        self._terminal = sys.stderr.isatty()
        self._every = max(1, total_steps // 10)
        self._bar: Any = tqdm(total=total_steps, unit="step", file=sys.stderr, disable=not self._terminal)

    def update(self, event: StepDone) -> None:
        self._bar.update(1)
        self._bar.set_postfix_str(f"loss {event.loss:.4f}, {event.tokens_per_s:,.0f} tokens/s")
        if not self._terminal and (event.step % self._every == 0 or event.step in (1, event.total_steps)):
            say(
                f"step {event.step}/{event.total_steps}: loss {event.loss:.4f}, gradient norm {event.grad_norm:.3f}, "
                f"learning rate {event.learning_rate:.3g}, {event.tokens_per_s:,.0f} tokens/s"
            )

    def close(self) -> None:
        self._bar.close()


class GracefulInterrupt:
    """Within it, the first Ctrl-C calls `on_first`, the second raises KeyboardInterrupt."""

    def __init__(self, on_first: Callable[[], None]) -> None:
        self.on_first = on_first
        self.asked = False

    def __enter__(self) -> GracefulInterrupt:
        self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _handle(self, signal_number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self.on_first()


def run_interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine so that Ctrl-C raises KeyboardInterrupt in it at once.

    asyncio's own way is to cancel the task where it next waits, but on a native GPU the engine's coroutines never do.
    """

    def interrupt(signal_number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)  # asyncio leaves a handler alone that is not Python's default
    try:
        return asyncio.run(work)
    finally:
        signal.signal(signal.SIGINT, before)
