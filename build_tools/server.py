"""The local web server: static files with byte ranges, right types, and no stale copies. Only for this machine."""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import re
import socket
import sys
import urllib.parse
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

from build_tools.base import CHUNK_BYTES, BuildError
from build_tools.policy import read_headers

HOST = "127.0.0.1"
DEFAULT_PORT = 8000
# Written down here and not asked of the system, whose own table may say anything about .mjs or .js.
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".gguf": "application/octet-stream",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".jinja": "text/plain; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".jsonl": "application/jsonl; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".safetensors": "application/octet-stream",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".wgsl": "text/wgsl; charset=utf-8",
    ".whl": "application/zip",
    ".woff2": "font/woff2",
    ".zip": "application/zip",
}


class SiteServer(ThreadingHTTPServer):
    """Serves a folder on localhost, under `prefix` (as a site under a sub-path of a host would be).

    `with_headers`: sends the headers of the folder's `_headers`, as some hosts of static sites do and others do not.
    """

    daemon_threads = True
    # SO_REUSEADDR lets a restarted server take its port again at once; on Windows it would let two servers share one.
    allow_reuse_address = os.name != "nt"

    def __init__(
        self,
        folder: Path,
        port: int = DEFAULT_PORT,
        prefix: str = "/",
        *,
        log: bool = False,
        with_headers: bool = False,
    ) -> None:
        self.folder = folder.resolve()
        self.prefix = "/" + prefix.strip("/") + "/" if prefix.strip("/") else "/"
        self.log = log
        self.with_headers = with_headers
        try:
            super().__init__((HOST, port), SiteHandler)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                reason = "another program uses it"
            elif isinstance(error, PermissionError):
                reason = "this account may not use it"
            else:
                raise
            raise BuildError(
                f"Port {port} cannot be had: {reason}. Choose another with --port N; --port 0 takes any free one."
            ) from error

    @property
    def url(self) -> str:
        # A browser takes this address for a secure context, which WebGPU needs. "localhost" could mean ::1 first.
        return f"http://{HOST}:{self.server_address[1]}{self.prefix}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that went away in the middle of an answer: that is everyday."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class SiteHandler(BaseHTTPRequestHandler):
    """GET and HEAD of files, with Range, If-Range and If-None-Match."""

    protocol_version = "HTTP/1.1"
    server_version = "LoRALab"
    server: SiteServer

    def setup(self) -> None:
        super().setup()
        # Headers and body go out in two writes; without this the second waits for the first one's acknowledgement.
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *arguments: object) -> None:
        if self.server.log:
            super().log_message(format, *arguments)

    def _answer(self, *, with_body: bool) -> None:
        path = self._file()
        if path is None:
            return
        try:
            file = path.open("rb")
        except OSError:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        with file:
            stat = os.fstat(file.fileno())
            tag = f'"{stat.st_size:x}-{stat.st_mtime_ns:x}"'
            if tag in re.findall(r'"[^"]*"', self.headers.get("If-None-Match", "")):
                self._start(HTTPStatus.NOT_MODIFIED, tag, path)
                self.end_headers()
                return
            wanted = self.headers.get("Range")
            if wanted and self.headers.get("If-Range", tag) == tag:
                span = parse_range(wanted, stat.st_size)
            else:
                span = None
            if span is not None and span[0] >= span[1]:
                self._refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, ("Content-Range", f"bytes */{stat.st_size}"))
                return
            start, end = span or (0, stat.st_size)
            self._start(HTTPStatus.OK if span is None else HTTPStatus.PARTIAL_CONTENT, tag, path)
            if span is not None:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{stat.st_size}")
            self.send_header("Content-Length", str(end - start))
            self.send_header("Last-Modified", formatdate(stat.st_mtime, usegmt=True))
            self.end_headers()
            if with_body:
                file.seek(start)
                self._send(file, end - start)

    def _send(self, file: BinaryIO, length: int) -> None:
        while length > 0 and (chunk := file.read(min(CHUNK_BYTES, length))):
            self.wfile.write(chunk)
            length -= len(chunk)

    def _start(self, status: HTTPStatus, tag: str, path: Path) -> None:
        self.send_response(status)
        self.send_header("Content-Type", TYPES.get(path.suffix.lower(), "application/octet-stream"))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", tag)
        # Kept by the browser, but asked about each time: a rebuilt site shows at once, a large model is not sent twice.
        headers = {"Cache-Control": "no-cache", **dict(self._site_headers(path))}
        for name, value in headers.items():
            self.send_header(name, value)

    def _site_headers(self, path: Path) -> list[tuple[str, str]]:
        if self.server.with_headers:
            with contextlib.suppress(OSError):  # not built yet, or another folder than a site
                inside = path.relative_to(self.server.folder).as_posix()
                return read_headers((self.server.folder / "_headers").read_text(), inside)
        return [("X-Content-Type-Options", "nosniff")]

    def _file(self) -> Path | None:
        """Return the file that the address names, or answer for it and return None."""
        address = urllib.parse.urlsplit(self.path)
        name = urllib.parse.unquote(address.path)
        prefix = self.server.prefix
        if not name.startswith(prefix):
            if name + "/" == prefix:
                self._refuse(HTTPStatus.MOVED_PERMANENTLY, ("Location", prefix))
            else:
                self._refuse(HTTPStatus.NOT_FOUND)
            return None
        inside = posixpath.normpath("/" + name[len(prefix) :]).lstrip("/")
        # Neither a NUL nor what Windows would read as a drive or a parent folder.
        if "\0" in inside or "\\" in inside or ":" in inside:
            self._refuse(HTTPStatus.NOT_FOUND)
            return None
        path = (self.server.folder / inside).resolve()
        if not path.is_relative_to(self.server.folder):
            self._refuse(HTTPStatus.NOT_FOUND)
            return None
        if path.is_dir():
            if not name.endswith("/"):
                query = f"?{address.query}" if address.query else ""
                self._refuse(
                    HTTPStatus.MOVED_PERMANENTLY, ("Location", prefix + urllib.parse.quote(inside) + "/" + query)
                )
                return None
            path = path / "index.html"
        elif name.endswith("/"):
            self._refuse(HTTPStatus.NOT_FOUND)
            return None
        return path

    def _refuse(self, status: HTTPStatus, *headers: tuple[str, str]) -> None:
        body = f"{status.value} {status.phrase}\n".encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Type", TYPES[".txt"])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def parse_range(header: str, size_bytes: int) -> tuple[int, int] | None:
    """Return (start, end) of a single `bytes=` range, end excluded; start >= end when nothing of it is in the file.

    None for a header that asks for several ranges or makes no sense: HTTP lets a server ignore it and send everything.
    """
    match = re.fullmatch(r"\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", header)
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        return max(0, size_bytes - int(match[2])), size_bytes
    start = int(match[1])
    if match[2] and int(match[2]) < start:
        return None
    return start, min(size_bytes, int(match[2]) + 1 if match[2] else size_bytes)
