"""An end from outside for a rendering that takes too long, where there are threads: natively.

What a template does is bounded (template_sandbox.py), each operation and all of them; this is the second line of
defence, in case that something was overlooked there. A thread looks once a second at what is being rendered and raises
`TimeoutError` in a rendering's thread. In the page there are no threads; there the page's watchdog ends the worker.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

MAX_SECONDS = 30.0  # on the clock on the wall
POLL_SECONDS = 1.0
_HAS_THREADS = sys.platform != "emscripten"


class _TimerError(BaseException):
    """Raised in the midst of a rendering; no `except Exception` on the way stops it."""


class HardLimit:
    """A context in which TimeoutError is raised, whatever goes on there, once it has taken MAX_SECONDS.

    One belongs to one template: it is not entered twice at a time.
    """

    __slots__ = ("_is_ended", "_thread_id", "entered")

    def __init__(self) -> None:
        self._thread_id, self._is_ended = 0, False
        self.entered = 0  # times: by this the watch tells one rendering from the next
        if _HAS_THREADS:
            _start_watch()

    def __enter__(self) -> None:
        if _HAS_THREADS:
            self._thread_id, self._is_ended = threading.get_ident(), False
            self.entered += 1
            _running.add(self)

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if not _HAS_THREADS:
            return
        try:
            with _lock:
                _running.discard(self)
            while self._is_ended and kind is not _TimerError:  # it is on its way, and must not arrive behind this
                time.sleep(0.001)
        except _TimerError:
            kind = _TimerError
        if kind is _TimerError:
            raise TimeoutError(f"it takes longer than {MAX_SECONDS:g} s") from None

    def end(self) -> None:
        """Called by the watch: raise an error in the thread that is inside."""
        import ctypes

        self._is_ended = True
        identifier, error = ctypes.c_ulong(self._thread_id), ctypes.py_object(_TimerError)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(identifier, error)

    @property
    def is_ended(self) -> bool:
        return self._is_ended


_lock = threading.Lock()
_running: set[HardLimit] = set()
_watch: threading.Thread | None = None


def _start_watch() -> None:
    global _watch
    if _watch is None or not _watch.is_alive():  # a process that was forked has none
        _watch = threading.Thread(target=_look, name="template timer", daemon=True)
        _watch.start()


def _look() -> None:
    seen: dict[tuple[HardLimit, int], float] = {}
    while True:
        time.sleep(POLL_SECONDS)
        now = time.monotonic()
        with _lock:
            seen = {(run, run.entered): seen.get((run, run.entered), now) for run in _running.copy()}
            for (run, _), since in seen.items():
                if now - since > MAX_SECONDS and not run.is_ended:
                    run.end()
