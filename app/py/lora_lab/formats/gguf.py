"""The GGUF format (versions 2 and 3, little-endian): typed metadata, tensor descriptions, aligned raw data.

Only the header is read here; it is parsed from a growing prefix of the file, which itself may be gigabytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from .byte_source import ByteSource, FileFormatError
from .tensors import StoredTensor

MAGIC = b"GGUF"
DEFAULT_ALIGNMENT = 32
FIRST_READ_BYTES = 4 << 20  # holds the header of a model with 50,000 tokens
MAX_HEADER_BYTES = 512 << 20
MAX_DIMENSIONS = 4

# GGML's type number: (name, elements in a block, bytes of a block).
TENSOR_TYPES: dict[int, tuple[str, int, int]] = {
    0: ("f32", 1, 4), 1: ("f16", 1, 2), 2: ("q4_0", 32, 18), 3: ("q4_1", 32, 20), 6: ("q5_0", 32, 22),
    7: ("q5_1", 32, 24), 8: ("q8_0", 32, 34), 9: ("q8_1", 32, 40), 10: ("q2_k", 256, 84), 11: ("q3_k", 256, 110),
    12: ("q4_k", 256, 144), 13: ("q5_k", 256, 176), 14: ("q6_k", 256, 210), 15: ("q8_k", 256, 292),
    16: ("iq2_xxs", 256, 66), 17: ("iq2_xs", 256, 74), 18: ("iq3_xxs", 256, 98), 19: ("iq1_s", 256, 50),
    20: ("iq4_nl", 32, 18), 21: ("iq3_s", 256, 110), 22: ("iq2_s", 256, 82), 23: ("iq4_xs", 256, 136),
    24: ("i8", 1, 1), 25: ("i16", 1, 2), 26: ("i32", 1, 4), 27: ("i64", 1, 8), 28: ("f64", 1, 8),
    29: ("iq1_m", 256, 56), 30: ("bf16", 1, 2), 34: ("tq1_0", 256, 54), 35: ("tq2_0", 256, 66),
    39: ("mxfp4", 32, 17),
}  # fmt: skip

# Metadata type number: numpy type.
_NUMBERS = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 10: "<u8", 11: "<i8", 12: "<f8"}
_BOOL, _STRING, _ARRAY = 7, 8, 9
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


@dataclass(frozen=True)
class GgufFile:
    """What a GGUF file's header says."""

    source: ByteSource
    version: int
    # Strings, bools, ints and floats; lists of strings; numpy arrays of numbers and bools.
    metadata: dict[str, Any]
    # By GGUF's own names ("blk.0.attn_q.weight"), in the file's order. Shapes are row-major, [out, in].
    tensors: dict[str, StoredTensor]
    # Where each entry of the metadata begins and ends in the file, its key included.
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def scalars(self) -> dict[str, str | bool | int | float]:
        """The metadata without its arrays: a key that should hold one value and holds an array counts as missing."""
        return {key: value for key, value in self.metadata.items() if not isinstance(value, list | np.ndarray)}


class _NeedMore(Exception):
    """The prefix read so far ends before the item does."""


class _Cursor:
    """Reads values off the prefix of the file that is in memory. Knows the file's size, so absurd lengths fail."""

    def __init__(self, source: ByteSource, data: bytes) -> None:
        self.source = source
        self.data = data
        self.position = 0
        self.key = "the header"  # what is being read, for errors

    def fail(self, problem: str) -> FileFormatError:
        return FileFormatError(f"{self.source.name}: {self.key}: {problem}")

    def take(self, length: int) -> int:
        """Step over `length` bytes and return where they begin."""
        begin = self.position
        if begin + length > len(self.data):
            self._missing(begin + length)
        self.position = begin + length
        return begin

    def _missing(self, end: int) -> None:
        if end > self.source.size_bytes:
            raise self.fail(
                f"would end at byte {end}, but the file has {self.source.size_bytes}; it is cut off or damaged"
            )
        if end > MAX_HEADER_BYTES:
            raise self.fail(f"the header is longer than {MAX_HEADER_BYTES} bytes")
        raise _NeedMore

    def u32(self) -> int:
        value: int = _U32.unpack_from(self.data, self.take(4))[0]
        return value

    def u64(self) -> int:
        value: int = _U64.unpack_from(self.data, self.take(8))[0]
        return value

    def string(self) -> str:
        length = self.u64()
        begin = self.take(length)
        try:
            return self.data[begin : begin + length].decode()
        except UnicodeDecodeError as error:
            raise self.fail(f"a string is not UTF-8 ({error})") from error

    def strings(self, count: int) -> list[str]:
        """Read `count` strings. A tokenizer has 100,000 of them, so the loop does as little as it can."""
        if count * 8 > self.source.size_bytes:
            raise self.fail(f"an array of {count} strings in a file of {self.source.size_bytes} bytes")
        data, position, length_at = self.data, self.position, _U64.unpack_from
        values: list[str] = []
        append = values.append
        try:
            for _ in range(count):
                begin = position + 8
                position = begin + length_at(data, position)[0]
                append(str(data[begin:position], "utf-8"))
        except (struct.error, OverflowError):  # a length lies beyond the prefix; a slice beyond it only comes out short
            self._missing(position + 8)
        except UnicodeDecodeError as error:
            if position > len(data):  # a character cut in two by the prefix's end
                self._missing(position)
            raise self.fail(f"string {len(values)} is not UTF-8 ({error})") from error
        if position > len(data):
            self._missing(position)
        self.position = position
        return values

    def value(self, type_number: int) -> Any:
        """Read one metadata value."""
        if type_number == _STRING:
            return self.string()
        if type_number == _BOOL:
            return bool(self.data[self.take(1)])
        if type_number == _ARRAY:
            return self.array()
        return self._numbers(type_number, 1)[0].item()

    def array(self) -> Any:
        """Read an array: a list of strings, or a numpy array. Arrays of arrays are not used by any model."""
        type_number, count = self.u32(), self.u64()
        if type_number == _STRING:
            return self.strings(count)
        if type_number == _BOOL:
            return self._numbers(0, count) != 0
        if type_number == _ARRAY:
            raise self.fail("an array of arrays is not supported")
        return self._numbers(type_number, count)

    def _numbers(self, type_number: int, count: int) -> np.ndarray:
        if type_number not in _NUMBERS:
            raise self.fail(f"has the unknown type {type_number}")
        dtype = np.dtype(_NUMBERS[type_number])
        begin = self.take(count * dtype.itemsize)
        return np.frombuffer(self.data, dtype=dtype, count=count, offset=begin).copy()


async def read_gguf(source: ByteSource) -> GgufFile:
    """Read a GGUF file's header. Damage is a FileFormatError that says what, where and what was wanted."""
    cursor = _Cursor(source, b"")
    await _extend(cursor, min(FIRST_READ_BYTES, source.size_bytes))
    if cursor.data[:4] != MAGIC:
        raise FileFormatError(f"{source.name}: begins with {cursor.data[:4]!r}; a GGUF file begins with {MAGIC!r}")
    cursor.take(4)
    version = cursor.u32()
    if version not in (2, 3):
        kind = "big-endian" if version in (2 << 24, 3 << 24) else f"version {version}"
        raise FileFormatError(f"{source.name}: is {kind} GGUF; wanted little-endian, version 2 or 3")
    tensor_count, entry_count = cursor.u64(), cursor.u64()
    # The smallest entries have 13 and 24 bytes; a larger count would only be noticed after a long while.
    if entry_count * 13 + tensor_count * 24 > source.size_bytes:
        raise cursor.fail(f"{entry_count} entries and {tensor_count} tensors in {source.size_bytes} bytes")

    metadata: dict[str, Any] = {}
    spans: dict[str, tuple[int, int]] = {}
    while len(metadata) < entry_count:
        begin = cursor.position
        key, value = await _with_enough_bytes(cursor, _read_entry)
        if key in metadata:
            raise FileFormatError(f"{source.name}: the key {key} stands twice")
        metadata[key], spans[key] = value, (begin, cursor.position)
    described: dict[str, tuple[tuple[int, ...], int, int]] = {}
    while len(described) < tensor_count:
        name, shape, type_number, offset = await _with_enough_bytes(cursor, _read_description)
        if name in described:
            raise FileFormatError(f"{source.name}: the tensor {name} stands twice")
        described[name] = (shape, type_number, offset)
    return GgufFile(source, version, metadata, _place_tensors(source, metadata, described, cursor.position), spans)


def _read_entry(cursor: _Cursor) -> tuple[str, Any]:
    key = cursor.string()
    cursor.key = key
    return key, cursor.value(cursor.u32())


def _read_description(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    name = cursor.string()
    cursor.key = name
    dimensions = cursor.u32()
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise cursor.fail(f"has {dimensions} dimensions; wanted 1 to {MAX_DIMENSIONS}")
    sizes = tuple(cursor.u64() for _ in range(dimensions))
    return name, sizes[::-1], cursor.u32(), cursor.u64()  # GGUF names the fastest dimension first


async def _extend(cursor: _Cursor, size_bytes: int) -> None:
    have = len(cursor.data)
    cursor.data += bytes(await cursor.source.read(have, size_bytes - have))


async def _with_enough_bytes(cursor: _Cursor, read_item: Any) -> Any:
    """Read one item; when the prefix is too short, double it and read the item again from its beginning."""
    begin = cursor.position
    while True:
        try:
            return read_item(cursor)
        except _NeedMore:
            cursor.position = begin
            await _extend(cursor, min(2 * len(cursor.data), cursor.source.size_bytes))


def _place_tensors(
    source: ByteSource,
    metadata: dict[str, Any],
    described: dict[str, tuple[tuple[int, ...], int, int]],
    header_end: int,
) -> dict[str, StoredTensor]:
    """Turn descriptions into places in the file; all problems in one FileFormatError."""
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise FileFormatError(f"{source.name}: general.alignment is {alignment!r}; wanted a power of two")
    data_start = -(-header_end // alignment) * alignment
    problems: list[str] = []
    tensors: dict[str, StoredTensor] = {}
    spans: list[tuple[int, int, str]] = []
    for name, (shape, type_number, offset) in described.items():
        if type_number not in TENSOR_TYPES:
            problems.append(f"{name}: has the unknown type {type_number}")
            continue
        form, block, block_bytes = TENSOR_TYPES[type_number]
        if shape[-1] % block:
            problems.append(f"{name}: a row of {shape[-1]} elements cannot be {form}; wanted a multiple of {block}")
            continue
        size_bytes = prod(shape) // block * block_bytes
        begin = data_start + offset
        if offset % alignment:
            problems.append(f"{name}: lies at offset {offset}; wanted a multiple of {alignment}")
        if begin + size_bytes > source.size_bytes:
            problems.append(
                f"{name}: ends at byte {begin + size_bytes}, but the file has {source.size_bytes}; it is cut off"
            )
        tensors[name] = StoredTensor(name, shape, form, source, begin, size_bytes)
        spans.append((begin, begin + size_bytes, name))
    spans.sort()
    for (_, end, before), (begin, _, name) in pairwise(spans):
        if begin < end:
            problems.append(f"{name}: begins at byte {begin}, inside {before}, which ends at {end}")
    if problems:
        raise FileFormatError("\n".join(f"{source.name}: {problem}" for problem in problems))
    return tensors
