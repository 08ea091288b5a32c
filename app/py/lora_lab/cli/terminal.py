"""What the command line says while it works: bars on a terminal, a few plain lines elsewhere; and Ctrl-C."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tqdm import tqdm

from lora_lab.cli.interrupt import interrupts
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

    def __init__(self, total_steps: int, done: int = 0) -> None:
        self._terminal = sys.stderr.isatty()
        self._every = max(1, total_steps // 10)
        self._bar: Any = tqdm(total=total_steps, initial=done, unit="step", file=sys.stderr, disable=not self._terminal)

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
    """Within it, the first Ctrl-C calls `on_first`, in a thread of its own, and the work goes on."""

    def __init__(self, on_first: Callable[[], None]) -> None:
        self.asked = False

        def act() -> None:
            self.asked = True
            on_first()

        self._acting = interrupts.acting(act)

    def __enter__(self) -> GracefulInterrupt:
        self._acting.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._acting.__exit__(*error)


def run_interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine. After Ctrl-C it is cancelled where it next waits, and KeyboardInterrupt is raised here."""

    async def cancellable() -> T:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        try:
            with interrupts.acting(lambda: loop.call_soon_threadsafe(task.cancel)):
                return await work
        finally:
            work.close()  # where it was not even begun

    # Windows' own kind of loop takes the pipe away that tells of signals.
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        try:
            return runner.run(cancellable())
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
