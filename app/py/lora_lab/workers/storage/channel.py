"""What one tab tells the others that share its storage: that something there has changed, and what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

CONVERSATIONS = "lora-lab-conversations"


class Channel(Protocol):
    """Reaches every other tab of this site, and not this one."""

    def tell(self, what: str) -> None:
        """Tell the others."""

    def when_told(self, do: Callable[[str], None]) -> None:
        """Call `do` with what another tab tells, from now on."""


class BrowserChannel:
    """A channel of the browser's `BroadcastChannel`; where there is none, nobody hears anything."""

    def __init__(self, name: str) -> None:
        import js

        self._channel: Any = js.BroadcastChannel.new(name) if hasattr(js, "BroadcastChannel") else None
        self._proxy: Any = None  # kept: JavaScript holds no Python object alive

    def tell(self, what: str) -> None:
        if self._channel is not None:
            self._channel.postMessage(what)

    def when_told(self, do: Callable[[str], None]) -> None:
        from pyodide.ffi import create_proxy

        if self._channel is None:
            return

        def heard(event: Any) -> None:
            if isinstance(event.data, str):  # of this version
                do(event.data)

        self._proxy = create_proxy(heard)
        self._channel.onmessage = self._proxy
