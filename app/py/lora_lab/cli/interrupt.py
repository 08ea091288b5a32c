"""Ctrl-C: the first one is noted and acted on where nothing is left half done, the second ends the process at once.

Python's own way, an exception in whatever line is running, may come up inside an import, a destructor or a callback of
native code, which can only print it and go on; and it leaves the GPU's answers behind that are still on their way. So
the signal's handler does nothing here. Python writes every signal's number into a pipe as it arrives, whatever the main
thread is busy with, and a thread of ours reads it there. This module imports little: it is the first to run.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

EXIT_INTERRUPTED = 130
MESSAGE = "\nlora-lab: interrupted\n"
_END = b"\0"  # no signal has this number: the listening thread's own end


class Interrupts:
    """Hears Ctrl-C. `asked`: the first one has come."""

    def __init__(self) -> None:
        self.asked = False
        self.unfinished: set[str] = set()  # files and folders to be removed where the process is ended at once
        self._action: Callable[[], object] | None = None
        self._lock = threading.Lock()
        self._listens = self._told = False
        self._begun = True  # something that should not be ended at once by the first one

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take Ctrl-C within it. Does nothing inside another one, or where signals cannot be had (no main thread)."""
        if self._listens or threading.current_thread() is not threading.main_thread() or _is_ignored():
            yield
            return
        thread, close = self._begin()
        try:
            yield
        finally:
            close()
            thread.join()

    def listen_to_the_end(self) -> None:
        """Take Ctrl-C from now on, for a process that is ours; once Python takes itself down it no longer counts.

        Until something is `acting`, the process is ended at once: imports take a while, and nothing is lost.
        """
        if _is_ignored():
            return
        self._begun = False
        self._begin()
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)

    def _begin(self) -> tuple[threading.Thread, Callable[[], None]]:
        self.asked = self._told = False
        self._listens = True
        read, write = os.pipe()
        if os.name != "nt":  # there it is neither asked for nor, for a pipe, to be had
            os.set_blocking(write, False)
        thread = threading.Thread(target=self._listen, args=[read], name="Ctrl-C", daemon=True)
        thread.start()
        fd_before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        before = signal.signal(signal.SIGINT, _do_nothing)

        def close() -> None:
            signal.signal(signal.SIGINT, before)
            signal.set_wakeup_fd(fd_before)
            os.write(write, _END)
            os.close(write)
            self._listens = False

        return thread, close

    def _listen(self, pipe: int) -> None:
        while (number := os.read(pipe, 1)) not in (_END, b""):
            if number[0] != signal.SIGINT:
                continue
            with self._lock:
                if self.asked or not self._begun:
                    self._end_at_once()
                self.asked = True
                if self._action is not None:
                    self._action()
        os.close(pipe)

    def check(self) -> None:
        """Raise KeyboardInterrupt after a Ctrl-C: for points between two pieces of work."""
        if self.asked:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def acting(self, action: Callable[[], object]) -> Iterator[None]:
        """Within it the first Ctrl-C calls `action`, in a thread of its own. One that has come already raises."""
        with self._lock:
            self.check()
            before, self._action, self._begun = self._action, action, True
        try:
            yield
        finally:
            with self._lock:
                self._action = before

    def tell(self) -> None:
        """Say that the work was interrupted, once."""
        with self._lock:
            if not self._told:
                self._told = True
                sys.stderr.write(MESSAGE)
                sys.stderr.flush()

    def _end_at_once(self) -> None:
        """End the process, whatever hangs in it."""
        for name in tuple(self.unfinished):
            with contextlib.suppress(OSError):
                if os.path.isdir(name):  # noqa: PTH112 - pathlib takes its time to import
                    from shutil import rmtree

                    rmtree(name)
                else:
                    os.unlink(name)  # noqa: PTH108
        if not self._told:
            os.write(2, MESSAGE.encode())  # past Python's own buffer, in which somebody may be stuck
        os._exit(EXIT_INTERRUPTED)


def _is_ignored() -> bool:
    """Whether whoever started the process has Ctrl-C kept from it: a script's `lora-lab train &`, or nohup's like."""
    return signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def _do_nothing(signal_number: int, frame: FrameType | None) -> None:
    pass


interrupts = Interrupts()
