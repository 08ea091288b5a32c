"""Whose turn it is to write, and what a stop has ended: one count for all that writes, in the order of its coming."""

from __future__ import annotations


class Turns:
    """Whatever writes is numbered as it comes, and begins in that order. A stop ends all that has come so far."""

    def __init__(self) -> None:
        self._newest = self._current = self._stopped = 0

    def come(self) -> None:
        """Count something that is asked for: it can be stopped while it waits for its turn."""
        self._newest += 1

    def begin(self) -> None:
        """Say that the next one has its turn."""
        self._current += 1

    def stop(self) -> None:
        """End what has its turn, and what waits."""
        self._stopped = self._newest

    @property
    def stop_asked(self) -> bool:
        """Whether a stop came after the one that has its turn."""
        return self._current <= self._stopped
