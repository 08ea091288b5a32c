"""The worker's half of the heartbeat: its Python answers, or says beforehand why it will not for a while.

The page's half is app/web/link/watchdog.ts. What Python does in one go takes no messages meanwhile: where that may last
for longer than a few seconds and is meant to, it is done inside `busy`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from lora_lab.workers.protocol import Busy, Ping, Pong
from lora_lab.workers.wire.dispatch import Host, handles


class Alive:
    """Answers Ping."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @handles(Ping, "worker")
    async def ping(self, _: Ping) -> None:
        """Say that Python goes on."""
        self._host.post(Pong())


@contextmanager
def busy(host: Host, what: str, most_s: float) -> Iterator[None]:
    """Tell the page that the block may keep the worker from answering, for `most_s` at most.

    Blocks may lie in one another and side by side: the page knows of the longest.
    """
    under_way = _under_way.setdefault(host, [])
    mine = Busy(what, most_s)
    under_way.append(mine)
    host.post(_longest(under_way))
    try:
        yield
    finally:
        under_way[:] = [one for one in under_way if one is not mine]
        host.post(_longest(under_way))


_under_way: WeakKeyDictionary[Host, list[Busy]] = WeakKeyDictionary()


def _longest(under_way: list[Busy]) -> Busy:
    return max(under_way, key=lambda one: one.most_s, default=Busy(""))
