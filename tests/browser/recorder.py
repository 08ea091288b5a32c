"""A proxy that writes down every byte a browser asks for, whoever in it asks: page, worker, WebSocket, beacon."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HOP_BY_HOP = {"connection", "proxy-connection", "keep-alive", "transfer-encoding", "te", "upgrade"}


@dataclass(frozen=True)
class Request:
    """What left the browser. `address` is a CONNECT's host:port where something else than http is to follow."""

    method: str
    address: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def raw(self) -> bytes:
        lines = [f"{self.method} {self.address}", *(f"{name}: {value}" for name, value in self.headers), ""]
        return "\n".join(lines).encode() + self.body


class Recorder(ThreadingHTTPServer):
    """`requests` grows with whatever is asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[Request] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a browser that went away in the middle of an answer."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Recorder

    def _record(self) -> Request:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        made = Request(self.command, self.path, tuple(self.headers.items()), body)
        self.server.requests.append(made)
        return made

    def do_CONNECT(self) -> None:
        self._record()
        self.send_error(502)

    def do_GET(self) -> None:
        asked = self._record()
        parts = urlsplit(asked.address)
        there = http.client.HTTPConnection(parts.netloc, timeout=60)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        headers = {name: value for name, value in asked.headers if name.lower() not in HOP_BY_HOP}
        there.request(asked.method, path, asked.body or None, headers)
        answer = there.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {*HOP_BY_HOP, "content-length", "date", "server"}:
                self.send_header(name, value)
        self.send_header("Content-Length", answer.getheader("Content-Length") or str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        there.close()

    do_HEAD = do_POST = do_OPTIONS = do_PUT = do_GET

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def recorder() -> Iterator[Recorder]:
    """Run the proxy as long as the block lasts."""
    with Recorder() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
