"""A hub on this machine for tests: it answers the paths of huggingface.co that we ask, and misbehaves when told.

    GET  /api/models/OWNER/NAME[/revision/REVISION]?blobs=true   what the repository holds
    HEAD /OWNER/NAME/resolve/REVISION/FILE                       X-Repo-Commit, X-Linked-Size, X-Linked-ETag
    GET  the same                                                large: 302 to the storage, which answers ranges
                                                                 small: 307 to another path of the hub

As the real one does (looked at in September and October 2026): headers that a page may read are named by
Access-Control-Expose-Headers; a gated repository's list is given to all, its files are not; a repository that is not
there is a 401 to whoever sends no token. The storage refuses preflights, as the real one has been seen to: a page's
request with any header but a plain Range fails here too.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, unquote, urlsplit

from build_tools.server import parse_range

EXPOSED = (
    "X-Repo-Commit,X-Request-Id,X-Error-Code,X-Error-Message,X-Total-Count,ETag,Link,Accept-Ranges,Content-Range,"
    "X-Linked-Size,X-Linked-ETag,X-Xet-Hash"
)
LARGE = (".gguf", ".safetensors", ".bin", ".pt", ".onnx")  # those that the hub keeps in its storage, with a sha256
CHUNK_BYTES = 1 << 16


@dataclass
class Repository:
    """A repository of the local hub. Files are bytes, or a path (a sparse one may have gigabytes)."""

    name: str
    files: dict[str, bytes | Path]
    card: dict[str, Any] = field(default_factory=lambda: {"license": "apache-2.0"})
    gated: str | bool = False  # "auto", "manual"
    more: dict[str, Any] = field(default_factory=dict)  # further keys of the answer: safetensors, gguf, …
    hashes: dict[str, str] = field(default_factory=dict)  # sha256 by path, for files too large to be hashed

    @property
    def sha(self) -> str:
        return hashlib.sha1(self.name.encode()).hexdigest()

    def size_bytes(self, path: str) -> int:
        content = self.files[path]
        return content.stat().st_size if isinstance(content, Path) else len(content)

    def sha256(self, path: str) -> str:
        if path not in self.hashes:
            with self.open(path) as file:
                self.hashes[path] = hashlib.file_digest(file, "sha256").hexdigest()
        return self.hashes[path]

    def open(self, path: str) -> BinaryIO:
        content = self.files[path]
        return content.open("rb") if isinstance(content, Path) else io.BytesIO(content)

    def answer(self) -> dict[str, Any]:
        """Return what /api/models says of it."""
        siblings = []
        for path in self.files:
            entry: dict[str, Any] = {"rfilename": path, "size": self.size_bytes(path), "blobId": "0" * 40}
            if path.endswith(LARGE):
                entry["lfs"] = {"sha256": self.sha256(path), "size": self.size_bytes(path), "pointerSize": 134}
            siblings.append(entry)
        head = {"_id": "1", "id": self.name, "modelId": self.name, "author": self.name.split("/")[0], "sha": self.sha}
        state = {"private": False, "gated": self.gated, "disabled": False, "cardData": self.card}
        return {**head, **state, "siblings": siblings, **self.more}


@dataclass(frozen=True)
class Request:
    """One request that came: to "hub" or to "storage"."""

    where: str
    method: str
    path: str  # unquoted, without what follows the question mark
    range: str | None
    token: str | None


class HubServer:
    """The local hub. Use it as a context; `requests` holds all that came, in their order.

    What it shall do wrong is set from outside: each fault of a file happens once, unless it says otherwise.
    """

    def __init__(self, *repositories: Repository) -> None:
        self.repositories = {repository.name: repository for repository in repositories}
        self.requests: list[Request] = []
        self.tokens: set[str] = set()  # those that open gated repositories
        self.renamed: dict[str, str] = {}  # old name: new name
        self.cut_after: dict[str, int] = {}  # file: bytes of an answer, then the connection ends
        self.cut_always: dict[str, int] = {}  # the same, every time
        self.stall_after: dict[str, int] = {}  # file: bytes of an answer, then nothing comes
        self.wrong_bytes: set[str] = set()  # files whose last byte is another; every time
        self.fail_once: dict[str, int] = {}  # a piece of a request's path: the status that is answered
        self.fail_always: dict[str, int] = {}  # the same, every time
        self.answers: dict[str, object] = {}  # repository: what /api/models says in place of the truth
        self.closing = threading.Event()  # ends what stalls
        self.lock = threading.Lock()
        self._servers: dict[str, _Server] = {}
        self._ports = {"hub": 0, "storage": 0}

    def __enter__(self) -> HubServer:
        self.go_online()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_offline()

    def go_online(self) -> None:
        """Listen, on the ports of before where there were any."""
        self.closing.clear()
        for where in self._ports:
            server = self._servers[where] = _Server(self, where, self._ports[where])
            self._ports[where] = server.server_address[1]
            threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()

    def go_offline(self) -> None:
        """End every connection and refuse new ones."""
        self.closing.set()
        for server in self._servers.values():
            server.shutdown()
            server.server_close()
            server.end_connections()
        self._servers = {}

    @property
    def url(self) -> str:
        """The hub's origin, for HF_ENDPOINT or the page's setting."""
        return f"http://127.0.0.1:{self._ports['hub']}"

    @property
    def storage_url(self) -> str:
        """The origin that large files come from."""
        return f"http://127.0.0.1:{self._ports['storage']}"

    def sent(self, where: str, method: str = "GET") -> list[str]:
        """Return the paths of the requests of one kind, in their order."""
        return [request.path for request in self.requests if (request.where, request.method) == (where, method)]

    def take(self, faults: dict[str, int], key: str) -> int | None:
        """Return a fault that shall happen now, and forget it."""
        with self.lock:
            return faults.pop(key, None)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, hub: HubServer, where: str, port: int) -> None:
        self.hub, self.where = hub, where
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def end_connections(self) -> None:
        for connection in tuple(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that go away, and connections that were ended, are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_OPTIONS(self) -> None:
        self._log()
        if self.server.where == "storage":
            self._send(403)
        else:
            self._send(
                204, {"Access-Control-Allow-Methods": "GET,HEAD,OPTIONS", "Access-Control-Allow-Headers": "Range"}
            )

    # ------------------------------------------------------------------------------------------ which answer

    def _answer(self) -> None:
        hub, path = self.server.hub, self._log()
        for piece in tuple(hub.fail_once):
            if piece in path and (status := hub.take(hub.fail_once, piece)) is not None:
                return self._refuse(status, None, "Internal Error" if status >= 500 else "Too Many Requests")
        for piece, status in hub.fail_always.items():
            if piece in path:
                return self._refuse(status, None, "Internal Error")
        parts = path.strip("/").split("/")
        if self.server.where == "storage":
            return self._file("/".join(parts[:2]), "/".join(parts[3:]))
        if parts[:2] == ["api", "models"] and len(parts) >= 4:
            name, rest = "/".join(parts[2:4]), parts[4:]
            if repository := self._repository(name, "/api/models/", rest):
                revision = rest[1] if rest[:1] == ["revision"] else "main"
                if self._known_revision(repository, revision):
                    self._json(200, hub.answers.get(name, repository.answer()))
            return None
        if parts[:3] == ["api", "resolve-cache", "models"]:
            return self._file("/".join(parts[3:5]), "/".join(parts[6:]))
        if len(parts) >= 5 and parts[2] == "resolve":
            return self._resolve("/".join(parts[:2]), parts[2:])
        return self._refuse(404, None, "Not Found")

    def _resolve(self, name: str, rest: list[str]) -> None:
        """Answer /OWNER/NAME/resolve/REVISION/FILE; `rest` begins at resolve."""
        hub, revision, path = self.server.hub, rest[1], "/".join(rest[2:])
        repository = self._repository(name, "/", rest)
        if repository is None or not self._known_revision(repository, revision):
            return None
        token = self._token()
        if repository.gated and token not in hub.tokens:
            said = f"Access to model {name} is restricted"
            return self._refuse(403 if token else 401, "GatedRepo", said)
        commit = {"X-Repo-Commit": repository.sha}
        if path not in repository.files:
            return self._refuse(404, "EntryNotFound", "Entry not found", commit)
        large = path.endswith(LARGE)
        if large:
            target = f"{hub.storage_url}/{name}/{repository.sha256(path)}/{quote(path)}?Expires=1&Signature=x"
        else:
            target = f"/api/resolve-cache/models/{name}/{repository.sha}/{quote(path)}?etag=x"
        tag = repository.sha256(path) if large else repository.sha256(path)[:40]
        headers = {**commit, "X-Linked-Size": str(repository.size_bytes(path)), "X-Linked-ETag": f'"{tag}"'}
        return self._send(302 if large else 307, {**headers, "Location": target, "Accept-Ranges": "bytes"})

    def _repository(self, name: str, before: str, rest: list[str]) -> Repository | None:
        """Return a repository; None, and an answer is given, where it has another name or is not there."""
        hub = self.server.hub
        if new := hub.renamed.get(name):
            query = urlsplit(self.path).query
            target = "/".join([f"{before}{new}", *map(quote, rest)]) + (f"?{query}" if query else "")
            self._send(307, {"Location": target})
            return None
        repository = hub.repositories.get(name)
        if repository is None:
            known = self._token() is not None
            said = "Repository not found" if known else "Invalid username or password."
            self._refuse(404 if known else 401, "RepoNotFound", said)
        return repository

    def _known_revision(self, repository: Repository, revision: str) -> bool:
        if revision in ("main", repository.sha):
            return True
        self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return False

    def _file(self, name: str, path: str) -> None:
        """Answer with a file's bytes, or a range of them."""
        hub = self.server.hub
        repository = hub.repositories[name]
        size, tag = repository.size_bytes(path), f'"{repository.sha256(path)[:40]}"'
        wanted = parse_range(self.headers.get("Range") or "", size)
        if wanted is not None and wanted[0] >= wanted[1]:
            return self._refuse(416, None, "Range Not Satisfiable", {"Content-Range": f"bytes */{size}"})
        start, end = wanted or (0, size)
        headers = {"Accept-Ranges": "bytes", "ETag": tag, "X-Repo-Commit": repository.sha}
        if wanted is not None:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        self._start(200 if wanted is None else 206, headers, end - start)
        if self.command == "HEAD":
            return None
        cut, stall = hub.take(hub.cut_after, path), hub.take(hub.stall_after, path)
        cut = hub.cut_always.get(path, cut)
        given = min(end, *(start + fault for fault in (cut, stall) if fault is not None), end)
        with repository.open(path) as file:
            self._copy(file, start, given, size if path in hub.wrong_bytes else None)
        if stall is not None:
            hub.closing.wait()
        if given < end:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        return None

    def _copy(self, file: BinaryIO, start: int, end: int, spoiled_size: int | None) -> None:
        file.seek(start)
        for at in range(start, end, CHUNK_BYTES):
            chunk = bytearray(file.read(min(CHUNK_BYTES, end - at)))
            if spoiled_size is not None and at + len(chunk) == spoiled_size:
                chunk[-1] ^= 1
            self.wfile.write(chunk)

    # ------------------------------------------------------------------------------------------ how it is sent

    def _log(self) -> str:
        path = unquote(urlsplit(self.path).path)
        request = Request(self.server.where, self.command, path, self.headers.get("Range"), self._token())
        self.server.hub.requests.append(request)
        return path

    def _token(self) -> str | None:
        said = self.headers.get("Authorization") or ""
        return said.removeprefix("Bearer ") if said.startswith("Bearer ") else None

    def _refuse(self, status: int, code: str | None, message: str, more: dict[str, str] | None = None) -> None:
        headers = {**(more or {}), "X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self._json(status, {"error": message}, headers)

    def _json(self, status: int, value: object, headers: dict[str, str] | None = None) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self._send(status, {"Content-Type": "application/json; charset=utf-8", **(headers or {})}, body)

    def _send(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self._start(status, headers or {}, len(body))
        if self.command != "HEAD":
            self.wfile.write(body)

    def _start(self, status: int, headers: dict[str, str], length: int) -> None:
        self.send_response(status)
        origin = self.headers.get("Origin")
        both = {"Access-Control-Allow-Origin": origin or "https://huggingface.co", "Vary": "Origin"}
        for name, value in {**both, "Access-Control-Expose-Headers": EXPOSED, **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
