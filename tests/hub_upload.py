"""A hub on this machine that takes uploads, as huggingface_hub makes them: a repository, what goes how, LFS, a commit.

POST /api/repos/create                              409 where it is there already
POST /api/validate-yaml                             whether a card has a front matter
POST /api/models/OWNER/NAME/preupload/REVISION      "lfs" for .safetensors, "regular" for the others
POST /OWNER/NAME.git/info/lfs/objects/batch         where to put what is large, by its sha256
PUT  /storage/SHA256                                refused where the bytes are not those
POST /api/models/OWNER/NAME/commit/REVISION         lines of JSON: header, file, lfsFile
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class UploadHub:
    """Use it as a context. `repositories` holds what came in, by repository and path."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.storage: dict[str, bytes] = {}
        self.fail: dict[str, int] = {}  # a piece of a path: the status that is answered, every time

    def __enter__(self) -> UploadHub:
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: UploadHub

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_PUT(self) -> None:
        body, name = self._body(), self.path.rpartition("/")[2]
        if hashlib.sha256(body).hexdigest() != name:
            return self._json(400, {"error": "wrong sha256"})
        self.hub.storage[name] = body
        return self._json(200, {})

    def do_POST(self) -> None:
        body, path = self._body(), self.path.split("?")[0]
        self.hub.requests.append(path)
        for piece, status in self.hub.fail.items():
            if piece in path:
                return self._json(status, {"error": "no"})
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self._json(401, {"error": "Invalid username or password."})
        if path == "/api/validate-yaml":
            card = json.loads(body)["content"]
            errors = [] if card.startswith("---\n") else [{"message": "no front matter"}]
            return self._json(200, {"errors": errors, "warnings": []})
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        parts = path.strip("/").split("/")
        if path.endswith("/info/lfs/objects/batch"):
            url = f"{self.hub.url}/storage/"
            objects = [
                {**one, "actions": {"upload": {"href": url + one["oid"], "header": {}}}}
                for one in json.loads(body)["objects"]
            ]
            return self._json(200, {"transfer": "basic", "objects": objects})
        name = "/".join(parts[2:4])
        if name not in self.hub.repositories:
            return self._json(404, {"error": "Repository not found"})
        if parts[4] == "preupload":
            files = [
                {"path": one["path"], "uploadMode": "lfs" if one["path"].endswith(".safetensors") else "regular",
                 "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]  # fmt: skip
            return self._json(200, {"files": files})
        return self._commit(name, [json.loads(line) for line in body.splitlines()])

    def _create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}" if wanted.get("organization") else wanted["name"]
        url = {"url": f"{self.hub.url}/{name}"}
        if name in self.hub.repositories:
            return self._json(409, {"error": "You already created this model repo", **url})
        self.hub.repositories[name] = {}
        if wanted.get("private") or wanted.get("visibility") == "private":
            self.hub.private.add(name)
        return self._json(200, {**url, "name": name, "id": name})

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.hub.messages.append(value["summary"])
            elif line["key"] == "file":
                self.hub.repositories[name][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.hub.repositories[name][value["path"]] = self.hub.storage[value["oid"]]
        answer = {"success": True, "commitOid": "c" * 40, "commitUrl": f"{self.hub.url}/{name}/commit/{'c' * 40}"}
        self._json(200, {**answer, "hookOutput": ""})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _json(self, status: int, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
