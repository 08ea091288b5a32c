"""A site that a test can publish anew, in part, or take away: its files on a server of its own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from build_tools.policy import SERVICE_WORKER
from build_tools.server import SiteServer


class _Server(SiteServer):
    """One that can hang up."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder, port=port, prefix="/lora-lab/")
        self._connections: list[socket.socket] = []

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        self._connections.append(connection)
        return connection, address

    def hang_up(self) -> None:
        """Break off every connection: a browser keeps some for what it will ask next."""
        for connection in self._connections:
            with contextlib.suppress(OSError):  # closed already
                connection.shutdown(socket.SHUT_RDWR)


class Published:
    """A copy of a site below `folder`, at `url` until `vanish`. Its address stays the same when it `returns`."""

    def __init__(self, source: Path, folder: Path) -> None:
        shutil.copytree(source, folder, copy_function=os.link)  # what changes is written anew, never in place
        self.folder = folder
        self._server: _Server | None = None
        self._port = 0
        self.returns()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/lora-lab/"

    def vanish(self) -> None:
        """Take the server away."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.hang_up()
            self._server = None

    def returns(self) -> None:
        """Serve the folder, as it is now."""
        self._server = _Server(self.folder, self._port)
        self._port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def write(self, name: str, data: bytes) -> None:
        """Put a file there without a word of it in the list."""
        path = self.folder / name
        path.unlink(missing_ok=True)
        path.write_bytes(data)

    def announce(self, contents: dict[str, bytes]) -> None:
        """Have the service worker list these files as they will be, and leave the files as they are."""
        script = (self.folder / SERVICE_WORKER).read_text(encoding="utf-8")
        start = script.index("{")
        site, end = json.JSONDecoder().raw_decode(script[start:])
        for name, data in contents.items():
            site["files"][name] = [hashlib.sha256(data).hexdigest(), len(data)]
        self.write(SERVICE_WORKER, (script[:start] + json.dumps(site) + script[start + end :]).encode())

    def publish(self, contents: dict[str, bytes]) -> None:
        """Put a newer version there."""
        for name, data in contents.items():
            self.write(name, data)
        self.announce(contents)


@contextmanager
def published(source: Path, folder: Path) -> Iterator[Published]:
    site = Published(source, folder)
    try:
        yield site
    finally:
        site.vanish()
