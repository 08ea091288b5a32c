"""Another origin: a server that lets everybody read what it says, takes WebSockets, and remembers who came."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ANSWERS = {
    "/": ("text/html", "<!doctype html><title>A page without a policy</title>"),
    "/script.js": ("text/javascript", "self.elsewhereRan = true;"),
    "/events": ("text/event-stream", "data: hello\n\n"),
}
WEBSOCKET_MARK = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3


class Elsewhere(ThreadingHTTPServer):
    """`asked` holds the path, headers and body of each request, in their order."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"

    @property
    def paths(self) -> list[str]:
        return [path for path, _, _ in self.asked]


class _Handler(BaseHTTPRequestHandler):
    server: Elsewhere

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.path, str(self.headers), body))
        if key := self.headers.get("Sec-WebSocket-Key"):
            accepted = base64.b64encode(hashlib.sha1((key + WEBSOCKET_MARK).encode()).digest()).decode()
            self.send_response(101)
            for name, value in (
                ("Upgrade", "websocket"),
                ("Connection", "Upgrade"),
                ("Sec-WebSocket-Accept", accepted),
            ):
                self.send_header(name, value)
            self.end_headers()
            return
        kind, text = ANSWERS.get(self.path, ("text/plain", "hello"))
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Access-Control-Allow-Headers", "*")
        self.end_headers()
        self.wfile.write(text.encode())

    do_POST = do_OPTIONS = do_GET

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def elsewhere() -> Iterator[Elsewhere]:
    """Serve the other origin as long as the block lasts."""
    with Elsewhere() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def name_of(worker: Any) -> str:
    """Return the kind of one of our workers ("train" or "chat"), from the end of its address."""
    return str(worker.url).partition("#kind=")[2]
