"""Downloads: the first source with the right bytes wins, and half a file is never trusted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO

import pytest

from build_tools.base import ROOT, BuildError, FileHashes, atomic_writer, hash_bytes, hash_file, remove_stale_partials
from build_tools.fetch import (
    Downloads,
    Fetcher,
    Part,
    PinnedWheel,
    PypiMember,
    PypiMembers,
    Report,
    Source,
    SourceError,
    UrlSource,
)

CONTENT = bytes(range(256)) * 40
SHA256 = hash_bytes(CONTENT)


@dataclass
class ListedSource:
    """A source that gives `content`, or fails with `error` after having given it."""

    label: str = "a listed source"
    content: bytes = CONTENT
    error: BaseException | None = None
    asked: list[str] = field(default_factory=list)

    def fetch(self, out: BinaryIO, report: Report, downloads: Downloads) -> None:
        self.asked.append(self.label)
        out.write(self.content)
        if self.error is not None:
            raise self.error


@pytest.fixture
def fetcher(tmp_path: Path) -> Iterator[Fetcher]:
    with Fetcher(tmp_path / "parts", FileHashes(tmp_path / "hashes.json")) as fetcher:
        yield fetcher


def part(*sources: Source) -> Part:
    return Part("thing.bin", SHA256, sources)


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.is_file()]


def test_the_first_source_that_answers_wins(fetcher: Fetcher) -> None:
    broken, good, unused = ListedSource(error=SourceError("closed")), ListedSource(), ListedSource()
    path = fetcher.obtain(part(broken, good, unused))
    assert path.read_bytes() == CONTENT
    assert (len(broken.asked), len(good.asked), len(unused.asked)) == (1, 1, 0)
    assert leftovers(fetcher.folder) == ["thing.bin"]


def test_what_is_in_the_cache_is_not_fetched_again(fetcher: Fetcher) -> None:
    source = ListedSource()
    fetcher.obtain(part(source))
    fetcher.obtain(part(source))
    assert len(source.asked) == 1


def test_a_damaged_file_in_the_cache_is_fetched_again(fetcher: Fetcher) -> None:
    source = ListedSource()
    path = fetcher.obtain(part(source))
    path.write_bytes(CONTENT[:-1] + b"!")  # the same size: only the hash can tell
    assert fetcher.obtain(part(source)).read_bytes() == CONTENT
    assert len(source.asked) == 2


def test_wrong_bytes_are_refused_and_the_next_source_asked(fetcher: Fetcher) -> None:
    assert fetcher.obtain(part(ListedSource(content=b"forged"), ListedSource())).read_bytes() == CONTENT


def test_when_no_source_has_it_the_error_names_file_sources_reasons_and_remedy(fetcher: Fetcher) -> None:
    with pytest.raises(BuildError) as caught:
        fetcher.obtain(
            part(ListedSource("the first", error=SourceError("closed")), ListedSource("the second", b"forged"))
        )
    message = str(caught.value)
    assert message.startswith("thing.bin could not be had")
    assert re.search(r"the first\n\s+closed", message)
    assert re.search(rf"the second\n\s+its sha256 is {hash_bytes(b'forged')}, wanted {SHA256}", message)
    assert str(fetcher.folder / "thing.bin") in message
    assert leftovers(fetcher.folder) == []


def test_a_file_that_a_person_put_there_is_taken(fetcher: Fetcher) -> None:
    (fetcher.folder / "thing.bin").write_bytes(CONTENT)
    assert fetcher.obtain(part(ListedSource(error=SourceError("closed")))).read_bytes() == CONTENT


def test_ctrl_c_leaves_nothing(fetcher: Fetcher) -> None:
    with pytest.raises(KeyboardInterrupt):
        fetcher.obtain(part(ListedSource(content=CONTENT[:100], error=KeyboardInterrupt())))
    assert leftovers(fetcher.folder) == []


KILLED = """
import sys, time
from pathlib import Path
from build_tools.base import atomic_writer
with atomic_writer(Path(sys.argv[1])) as out:
    out.write(b"half")
    out.flush()
    print("half", flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_download_is_never_trusted(fetcher: Fetcher) -> None:
    target = fetcher.folder / "thing.bin"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(target)], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"half\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not target.exists()
    assert len(leftovers(fetcher.folder)) == 1  # the half file, under a name that nothing reads
    source = ListedSource()
    assert fetcher.obtain(part(source)).read_bytes() == CONTENT
    assert len(source.asked) == 1


def test_half_files_are_removed_once_they_are_old(tmp_path: Path) -> None:
    young, old = tmp_path / "a.partial-1", tmp_path / "a.partial-2"
    for path in (young, old):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    remove_stale_partials(tmp_path)
    assert (young.exists(), old.exists()) == (True, False)


def test_an_interrupted_write_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")

    def write_and_fail() -> None:
        with atomic_writer(target) as out:
            out.write(b"new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    assert target.read_bytes() == b"old"
    assert leftovers(tmp_path) == ["file"]


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/gone":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT if self.path == "/whole" else CONTENT[:5000])

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_file_at_an_address(fetcher: Fetcher, server_url: str) -> None:
    assert fetcher.obtain(part(UrlSource(f"{server_url}/whole"))).read_bytes() == CONTENT


@pytest.mark.parametrize(("path", "reason"), [("/gone", "answered 404"), ("/cut", "5,000 of 10,240|IncompleteRead")])
def test_a_server_that_refuses_or_breaks_off(fetcher: Fetcher, server_url: str, path: str, reason: str) -> None:
    with pytest.raises(BuildError, match=reason):
        fetcher.obtain(part(UrlSource(server_url + path)))
    assert leftovers(fetcher.folder) == []


def test_a_server_that_does_not_answer_is_asked_once(fetcher: Fetcher) -> None:
    dead = "http://127.0.0.1:9/thing"  # the discard port, where nothing listens
    fetcher.obtain(part(UrlSource(dead), ListedSource()))
    other = Part("other.bin", SHA256, (UrlSource(dead),))
    with pytest.raises(BuildError, match="did not answer a moment ago"):
        fetcher.obtain(other)


@pytest.fixture
def local_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PinnedWheel:
    """A wheel that pip finds in a folder, with no network."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "carrier-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("carrier/thing.bin", CONTENT)
        wheel.writestr("carrier-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n")
        wheel.writestr("carrier-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("carrier-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return PinnedWheel("carrier==1.0", hash_file(folder / "carrier-1.0-py3-none-any.whl"))


def test_a_file_inside_a_wheel(fetcher: Fetcher, local_wheel: PinnedWheel) -> None:
    source = PypiMember(local_wheel, "carrier/thing.bin")
    assert fetcher.obtain(part(source)).read_bytes() == CONTENT
    with pytest.raises(BuildError, match=r"There is no item named 'carrier/other.bin'"):
        fetcher.obtain(Part("other.bin", SHA256, (PypiMember(local_wheel, "carrier/other.bin"),)))


def test_a_file_in_pieces(fetcher: Fetcher, local_wheel: PinnedWheel) -> None:
    piece = PypiMember(local_wheel, "carrier/thing.bin")
    source = PypiMembers((piece, piece))
    assert fetcher.obtain(Part("twice.bin", hash_bytes(CONTENT * 2), (source,))).read_bytes() == CONTENT * 2
    assert source.label.count("carrier/thing.bin") == 2
    with pytest.raises(BuildError, match="its sha256 is"):
        fetcher.obtain(Part("once.bin", SHA256, (source,)))


def test_a_wheel_that_pip_cannot_find(fetcher: Fetcher, local_wheel: PinnedWheel) -> None:
    with pytest.raises(BuildError, match=r"No matching distribution found for carrier==2\.0"):
        fetcher.obtain(part(PypiMember(replace(local_wheel, requirement="carrier==2.0"), "carrier/thing.bin")))


def test_a_wheel_with_other_bytes_is_refused_before_it_is_opened(fetcher: Fetcher, local_wheel: PinnedWheel) -> None:
    with pytest.raises(BuildError, match="DO NOT MATCH THE HASHES"):
        fetcher.obtain(part(PypiMember(replace(local_wheel, sha256="0" * 64), "carrier/thing.bin")))
    assert fetcher.obtain(part(PypiMember(local_wheel, "carrier/thing.bin"))).is_file()  # the control
