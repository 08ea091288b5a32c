"""Writing GGUF (version 3, little-endian): the header whole, the data after it by whoever has it, piece by piece.

Knows nothing of what the keys mean. An entry is bytes: those of another file can be taken over as they are.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from .byte_source import FileFormatError
from .gguf import DEFAULT_ALIGNMENT, MAGIC, TENSOR_TYPES, GgufFile
from .tensors import row_size_bytes

VERSION = 3
_TYPE_NUMBERS = {name: number for number, (name, _, _) in TENSOR_TYPES.items()}
_U32, _F32, _BOOL, _STRING, _ARRAY, _U64 = 4, 6, 7, 8, 9, 10
_ARRAY_TYPES = {"uint8": 0, "int8": 1, "uint16": 2, "int16": 3, "uint32": 4, "int32": 5, "float32": 6, "uint64": 10,
                "int64": 11, "float64": 12}  # fmt: skip


@dataclass(frozen=True)
class NewTensor:
    """A tensor that is to be written: `shape` row-major, [out, in]; `form` one of tensors.FORMS."""

    name: str
    shape: tuple[int, ...]
    form: str

    @property
    def size_bytes(self) -> int:
        """What its data take. FileFormatError when the form cannot hold such rows."""
        return prod(self.shape[:-1]) * row_size_bytes(self.form, self.shape[-1])


def entry(key: str, value: Any) -> bytes:
    """Return one key with its value: text, bool, int (u32, or u64), float (f32), a list of texts, an array of numbers.

    FileFormatError for anything else.
    """
    return _string(key) + _value(key, value)


def _value(key: str, value: Any) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", _BOOL, value)
    if isinstance(value, int):
        if not 0 <= value < 2**64:
            raise FileFormatError(f"{key} is {value}; wanted a whole number of at least 0")
        return struct.pack("<II", _U32, value) if value < 2**32 else struct.pack("<IQ", _U64, value)
    if isinstance(value, float):
        return struct.pack("<If", _F32, value)
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _string(value)
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.name in _ARRAY_TYPES:
        head = struct.pack("<IIQ", _ARRAY, _ARRAY_TYPES[value.dtype.name], len(value))
        return head + value.astype(value.dtype.newbyteorder("<")).tobytes()
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return struct.pack("<IIQ", _ARRAY, _STRING, len(value)) + b"".join(map(_string, value))
    raise FileFormatError(f"{key} is {str(value)[:60]!r}; wanted text, a number, a list of texts or an array")


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


async def entries_of(gguf: GgufFile, but: frozenset[str] = frozenset()) -> dict[str, bytes]:
    """Return a file's own entries by key, byte for byte, those of `but` and of a split left out."""
    found = {}
    for key, (begin, end) in gguf.spans.items():
        if key not in but and not key.startswith("split.") and key != "general.alignment":
            found[key] = bytes(await gguf.source.read(begin, end - begin))
    return found


def header(entries: Sequence[bytes], tensors: Sequence[NewTensor]) -> bytes:
    """Return all that stands before the data, which follow in the order of `tensors`, each padded (`padding`)."""
    parts = [MAGIC, struct.pack("<IQQ", VERSION, len(tensors), len(entries)), *entries]
    offset = 0
    for tensor in tensors:
        sizes = tensor.shape[::-1]  # GGUF names the fastest dimension first
        parts.append(_string(tensor.name) + struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes))
        parts.append(struct.pack("<IQ", _TYPE_NUMBERS[tensor.form], offset))
        offset += tensor.size_bytes + padding(tensor.size_bytes)
    size = sum(map(len, parts))
    return b"".join([*parts, bytes(padding(size))])


def padding(size_bytes: int) -> int:
    """Return how many zeros follow so many bytes."""
    return -size_bytes % DEFAULT_ALIGNMENT


def file_size(head: bytes, tensors: Sequence[NewTensor]) -> int:
    """Return the bytes of the whole file."""
    return len(head) + sum(tensor.size_bytes + padding(tensor.size_bytes) for tensor in tensors)
