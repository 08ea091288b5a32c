"""The local server: ranges, types, revalidation, and nothing outside its folder."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from build_tools.base import BuildError
from build_tools.server import SiteServer, parse_range

DATA = bytes(range(256)) * 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("server")
    (top / "secret.txt").write_text("outside")
    folder = top / "dist"
    (folder / "models").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html>")
    (folder / "models" / "m.gguf").write_bytes(DATA)
    (folder / "a b.json").write_text("{}")
    (folder / "empty.txt").write_bytes(b"")
    for name in ("x.wasm", "x.mjs", "x.js", "x.whl", "x.wgsl", "x.jsonl", "x.css", "x.woff2"):
        (folder / name).write_text(name)
    return folder


@pytest.fixture(scope="module", params=["/", "/sub/path/"])
def server(folder: Path, request: pytest.FixtureRequest) -> Iterator[SiteServer]:
    with SiteServer(folder, port=0, prefix=request.param) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(
    server: SiteServer, path: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    connection.request(method, server.prefix + path, headers=headers or {})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def test_whole_file(server: SiteServer) -> None:
    response, body = ask(server, "models/m.gguf")
    assert (response.status, body) == (200, DATA)
    assert response.headers["Accept-Ranges"] == "bytes"
    assert response.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=5000-", 5000, 5120),
        ("bytes=-20", 5100, 5120),
        ("bytes=5000-999999", 5000, 5120),
        ("bytes=-999999", 0, 5120),
    ],
)
def test_range(server: SiteServer, header: str, start: int, end: int) -> None:
    response, body = ask(server, "models/m.gguf", {"Range": header})
    assert response.status == 206
    assert body == DATA[start:end]
    assert response.headers["Content-Range"] == f"bytes {start}-{end - 1}/5120"
    assert response.headers["Content-Length"] == str(end - start)


@pytest.mark.parametrize("header", ["bytes=5120-", "bytes=6000-7000", "bytes=-0"])
def test_range_outside_the_file(server: SiteServer, header: str) -> None:
    response, _ = ask(server, "models/m.gguf", {"Range": header})
    assert response.status == 416
    assert response.headers["Content-Range"] == "bytes */5120"


@pytest.mark.parametrize("header", ["bytes=5-2", "bytes=0-1,4-5", "bytes=-", "lines=0-1", "bytes=a-b", ""])
def test_a_range_that_makes_no_sense_is_ignored(header: str) -> None:
    assert parse_range(header, 5120) is None


def test_if_range(server: SiteServer) -> None:
    tag = ask(server, "models/m.gguf")[0].headers["ETag"]
    assert ask(server, "models/m.gguf", {"Range": "bytes=0-9", "If-Range": tag})[0].status == 206
    response, body = ask(server, "models/m.gguf", {"Range": "bytes=0-9", "If-Range": '"older"'})
    assert (response.status, body) == (200, DATA)


def test_revalidation(server: SiteServer, folder: Path) -> None:
    tag = ask(server, "x.js")[0].headers["ETag"]
    response, body = ask(server, "x.js", {"If-None-Match": f'W/"other", {tag}'})
    assert (response.status, body) == (304, b"")
    (folder / "x.js").write_text("a new one")
    response, body = ask(server, "x.js", {"If-None-Match": tag})
    assert (response.status, body) == (200, b"a new one")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("", "text/html; charset=utf-8"),
        ("x.wasm", "application/wasm"),
        ("x.mjs", "text/javascript; charset=utf-8"),
        ("x.js", "text/javascript; charset=utf-8"),
        ("x.whl", "application/zip"),
        ("x.wgsl", "text/wgsl; charset=utf-8"),
        ("x.jsonl", "application/jsonl; charset=utf-8"),
        ("x.css", "text/css; charset=utf-8"),
        ("x.woff2", "font/woff2"),
        ("models/m.gguf", "application/octet-stream"),
        ("a%20b.json", "application/json"),
    ],
)
def test_types(server: SiteServer, name: str, kind: str) -> None:
    response, _ = ask(server, name)
    assert (response.status, response.headers["Content-Type"]) == (200, kind)


def test_head(server: SiteServer) -> None:
    response, body = ask(server, "models/m.gguf", method="HEAD")
    assert (response.status, body, response.headers["Content-Length"]) == (200, b"", "5120")


def test_empty_file(server: SiteServer) -> None:
    assert ask(server, "empty.txt")[1] == b""


@pytest.mark.parametrize(
    "path",
    [
        "missing",
        "models/",
        "../secret.txt",
        "%2e%2e/secret.txt",
        "models/../../secret.txt",
        "..%2fsecret.txt",
        "x.js/",
        "a\\b",
        "a%00b",
        "%5c..%5csecret.txt",
    ],
)
def test_not_found(server: SiteServer, path: str) -> None:
    response, body = ask(server, path)
    assert response.status == 404
    assert b"outside" not in body


def test_a_link_out_of_the_folder_is_not_followed(server: SiteServer, folder: Path) -> None:
    link = folder / "link.txt"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.parent / "secret.txt")
    assert ask(server, "link.txt")[0].status == 404


def test_a_folder_without_its_slash_is_sent_on(server: SiteServer) -> None:
    response, _ = ask(server, "models?model=tiny")
    assert (response.status, response.headers["Location"]) == (301, f"{server.prefix}models/?model=tiny")


def test_other_methods_are_refused(server: SiteServer) -> None:
    assert ask(server, "x.js", method="POST")[0].status == 501


def test_outside_the_sub_path(folder: Path) -> None:
    with SiteServer(folder, port=0, prefix="lab") as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
        connection.request("GET", "/x.css")
        response = connection.getresponse()
        response.read()
        assert response.status == 404
        connection.request("GET", "/lab")
        response = connection.getresponse()
        assert (response.status, response.headers["Location"]) == (301, "/lab/")
        connection.close()
        server.shutdown()
        thread.join()


def test_only_this_machine_can_connect(server: SiteServer) -> None:
    assert server.server_address[0] == "127.0.0.1"


def test_a_taken_port_is_said_plainly(server: SiteServer, folder: Path) -> None:
    port = server.server_address[1]
    with pytest.raises(BuildError, match=rf"Port {port} cannot be had: another program uses it.*--port"):
        SiteServer(folder, port)
