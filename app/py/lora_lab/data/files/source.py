"""The bytes of a dataset file -> its text, piece by piece: gzip opened, the encoding found, other files refused.

A file that cannot be read as text, or not to its end, gives a problem instead of an error: what stood before is kept.
"""

from __future__ import annotations

import codecs
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from lora_lab.data.files.encodings import codec_of, label_of
from lora_lab.data.problems import Problem
from lora_lab.errors import LoraLabError
from lora_lab.formats.byte_source import ByteSource, BytesSource, FileSource

CHUNK_BYTES = 1 << 20
# A gzip file of a few megabytes can hold gigabytes of zeros.
MAX_UNPACKED_BYTES = 4 << 30
_HEAD_BYTES = 1 << 16
_CONTROLS = bytes(byte for byte in range(32) if byte not in b"\t\n\v\f\r\x1b")
_REFUSED = (
    (b"PAR1", "parquet", "a Parquet file", "Parquet is not read here; export it as JSON Lines or CSV"),
    (b"PK\x03\x04", "binary", "a zip archive (or an Excel file)", "unpack it, or save the table as CSV"),
    (b"ARROW1", "binary", "an Arrow file", "export it as JSON Lines or CSV"),
    (b"GGUF", "binary", "a GGUF model", "a dataset is wanted here; models have a place of their own"),
    (b"\x28\xb5\x2f\xfd", "binary", "a zstd archive", "unpack it first, or pack it with gzip"),
    (b"BZh", "binary", "a bzip2 archive", "unpack it first, or pack it with gzip"),
    (b"\xfd7zXZ\x00", "binary", "an xz archive", "unpack it first, or pack it with gzip"),
    (b"7z\xbc\xaf", "binary", "a 7z archive", "unpack it first"),
    (b"\x89PNG", "binary", "a picture", "a dataset is wanted here"),
    (b"\xff\xd8\xff", "binary", "a picture", "a dataset is wanted here"),
    (b"%PDF", "binary", "a PDF", "save its text as a text file"),
    (b"\xd0\xcf\x11\xe0", "binary", "an old Office file", "save it as CSV or as text"),
    (b"SQLite format 3\x00", "binary", "an SQLite database", "export the table as CSV"),
)

HALF = "lora-lab-half"  # the error handler of UTF-16 and UTF-32


def _half_character(error: UnicodeError) -> tuple[str, int]:
    """Put one half character in place of what is no character; one that is cut off at the end stays an error.

    A row whose text holds it is told of as half a character; U+D800 stands for no byte that is no UTF-8.
    """
    if not isinstance(error, UnicodeDecodeError) or error.reason.startswith(("truncated", "unexpected end")):
        raise error
    return "\ud800", error.end


codecs.register_error(HALF, _half_character)


class DataSource:
    """One file of a dataset: a name, its size where known, and its bytes in chunks.

    They are read once; twice where an encoding was chosen and the file may be UTF-8 all the same.
    """

    def __init__(self, name: str, chunks: Callable[[], AsyncIterator[bytes]], size_bytes: int = 0) -> None:
        self.name, self.size_bytes, self.chunks = name, size_bytes, chunks

    @classmethod
    def from_bytes(cls, raw: bytes | bytearray | memoryview | str, name: str = "") -> DataSource:
        """Take bytes that are in memory; a string is taken as the file's text."""
        data = raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw
        return cls.from_source(BytesSource(data, name))

    @classmethod
    def from_path(cls, path: Path) -> DataSource:
        """Take a file on disk. Raises LoraLabError when there is none."""
        if path.is_dir():
            raise LoraLabError(f"{path} is a folder; wanted a file")
        try:
            path.stat()
        except OSError as error:
            raise LoraLabError(f"{path}: {error.strerror}") from error
        return cls.from_source(FileSource(path))

    @classmethod
    def from_source(cls, source: ByteSource) -> DataSource:
        """Take any source of bytes: a browser's File (`BlobSource`), a URL, a file on disk."""

        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, source.size_bytes, CHUNK_BYTES):
                yield bytes(await source.read(start, min(CHUNK_BYTES, source.size_bytes - start)))

        return cls(source.name, chunks, source.size_bytes)


class TextStream:
    """The text of a source. `head` is its beginning, once `open` has run; `problems` what was found on the way.

    Bytes that are no text of the encoding become half characters (U+DC80 to U+DCFF), in UTF-16 and UTF-32 U+D800, to be
    found by whoever reads the rows: only there line and column are known. `chosen` is the encoding (of
    `encodings.CHOICES`) for a file that is not UTF-8, nor marked as UTF-16; `uses_chosen` whether this is one.
    """

    def __init__(self, source: DataSource, max_bytes: int = MAX_UNPACKED_BYTES, chosen: str | None = None) -> None:
        self.source = source
        self.chosen, self.uses_chosen = chosen, False
        self.problems: list[Problem] = []
        self.head = ""
        self.encoding = "utf-8"
        self.is_gzip = False
        self.has_mark = False
        self.done_bytes = 0  # of the file as it is stored
        self._max_bytes = max_bytes
        self._chunks: AsyncIterator[bytes] = self._empty()
        self._first = b""

    async def open(self) -> bool:
        """Read the beginning. Return whether there is a text to read; if not, `problems` say why."""
        raw = self._raw_chunks()
        first = await _gather(raw, _HEAD_BYTES)
        self._chunks = raw
        if first[:2] == b"\x1f\x8b":
            self.is_gzip = True
            self._chunks = self._unpack(first, raw)
            first = await _gather(self._chunks, _HEAD_BYTES)
        if self._refuse(first):
            return False
        skip = self._find_encoding(first)
        if skip is None:
            return False
        if self.chosen and self.encoding == "utf-8" and not self.has_mark and not await self._is_utf8():
            self.uses_chosen, self.encoding = True, codec_of(self.chosen)
            self._say(1, "encoding", f"the file is not UTF-8; it was read as {label_of(self.chosen)}", "", "info")
        self._first = first[skip:]
        decoder = codecs.getincrementaldecoder(self.encoding)(self._errors)
        self.head = decoder.decode(self._first)
        return True

    @property
    def _errors(self) -> str:
        return HALF if self.encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"

    async def _is_utf8(self) -> bool:
        """Whether the whole file is UTF-8. Goes through it once more, which costs next to nothing beside the rows."""
        again = TextStream(self.source, self._max_bytes)
        if not await again.open():
            return True
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            decoder.decode(again._first)
            async for chunk in again._chunks:
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
        return True

    async def blocks(self) -> AsyncIterator[str]:
        """Yield the text in pieces of about a megabyte, cut anywhere; line ends of old Macintosh files become \\n."""
        decoder = codecs.getincrementaldecoder(self.encoding)(self._errors)
        # Old Macintosh files end their lines with a lone carriage return.
        is_mac = "\n" not in self.head and "\r" in self.head.rstrip("\r") + self.head[-1:]
        try:
            yield self._lines(decoder.decode(self._first), is_mac)
            self._first = b""
            async for chunk in self._chunks:
                yield self._lines(decoder.decode(chunk), is_mac)
            yield self._lines(decoder.decode(b"", final=True), is_mac)
        except UnicodeDecodeError as error:  # UTF-16 and UTF-32 only
            self._say(1, "encoding", f"the file is not whole {self.encoding.upper()}: {error.reason}",
                      "save it in the encoding UTF-8")  # fmt: skip

    @staticmethod
    def _lines(text: str, is_mac: bool) -> str:
        return text.replace("\r", "\n") if is_mac else text

    def _say(self, line: int, kind: str, message: str, hint: str, severity: str = "error") -> None:
        self.problems.append(Problem(line, message, None, kind=kind, hint=hint, severity=severity))  # type: ignore[arg-type]

    async def _empty(self) -> AsyncIterator[bytes]:
        nothing: tuple[bytes, ...] = ()
        for chunk in nothing:
            yield chunk

    async def _raw_chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self.source.chunks():
            self.done_bytes += len(chunk)
            yield chunk

    async def _unpack(self, first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Open gzip, also of several members one behind the other."""
        unpacked = 0
        member = zlib.decompressobj(wbits=31)
        data, is_full = first, False
        try:
            while True:
                while data or is_full:
                    if member.eof:
                        if data[:2] != b"\x1f\x8b":
                            if data.strip(b"\0"):
                                self._say(1, "gzip", "the gzip archive has other bytes behind its end",
                                          "they are left out", "warning")  # fmt: skip
                            return
                        member = zlib.decompressobj(wbits=31)
                    out = member.decompress(data, CHUNK_BYTES)
                    data = member.unused_data if member.eof else member.unconsumed_tail
                    is_full = len(out) == CHUNK_BYTES and not member.eof  # more may wait inside
                    unpacked += len(out)
                    if unpacked > self._max_bytes:
                        self._say(1, "too-large", f"unpacked the file has more than {self._max_bytes:,} bytes",
                                  "split it")  # fmt: skip
                        return
                    if out:
                        yield out
                try:
                    data = await anext(rest)
                except StopAsyncIteration:
                    break
        except zlib.error as error:
            self._say(1, "gzip", f"the gzip archive is damaged ({error})", "what stands before the damage is read")
            return
        if not member.eof:
            self._say(1, "gzip", "the gzip archive is cut off before its end", "what is there of it is read")

    def _refuse(self, head: bytes) -> bool:
        for magic, kind, what, hint in _REFUSED:
            if head.startswith(magic):
                self._say(1, kind, f"this is {what}, not a text file", hint)
                return True
        return False

    def _find_encoding(self, head: bytes) -> int | None:
        """Set the encoding; return how many bytes its mark takes, None when this is no text."""
        for mark, name in (
            (codecs.BOM_UTF8, "utf-8"),
            (codecs.BOM_UTF32_LE, "utf-32-le"),
            (codecs.BOM_UTF32_BE, "utf-32-be"),
            (codecs.BOM_UTF16_LE, "utf-16-le"),
            (codecs.BOM_UTF16_BE, "utf-16-be"),
        ):
            if head.startswith(mark):
                self.encoding, self.has_mark = name, True
                if name != "utf-8":
                    self._tell_encoding()
                return len(mark)
        sample = head[: 1 << 12]
        even, odd, half = sample[::2].count(0), sample[1::2].count(0), max(1, len(sample) // 2)
        if max(even, odd) * 20 >= half and max(even, odd) >= 8 * min(even, odd):
            self.encoding = "utf-16-be" if even > odd else "utf-16-le"
            self._tell_encoding()
            return 0
        controls = len(sample) - len(sample.translate(None, _CONTROLS))
        # Not by the share alone: a short text may hold one or two by accident.
        if even + odd > max(2, len(sample) // 100) or controls > max(16, len(sample) // 20):
            self._say(1, "binary", "this is a binary file, not text", "only text is read, in the encoding UTF-8")
            return None
        return 0

    def _tell_encoding(self) -> None:
        name = self.encoding.upper().removesuffix("-LE").removesuffix("-BE")
        self._say(1, "encoding", f"the file is {name}, not UTF-8; it was read as such", "", "info")


async def _gather(chunks: AsyncIterator[bytes], least: int) -> bytes:
    parts, size = [], 0
    async for chunk in chunks:
        parts.append(chunk)
        size += len(chunk)
        if size >= least:
            break
    return b"".join(parts)


async def whole_lines(blocks: AsyncIterator[str]) -> AsyncIterator[list[str]]:
    """Turn text cut anywhere into lists of whole lines, without their \\n. A last empty line is no line."""
    pending: list[str] = []
    async for block in blocks:
        cut = block.rfind("\n")
        if cut < 0:
            pending.append(block)
            continue
        pending.append(block[:cut])
        yield "".join(pending).split("\n")
        pending = [block[cut + 1 :]]
    last = "".join(pending)
    if last:
        yield last.split("\n")
