"""The safetensors format: 8 bytes of header length, a JSON header, raw data. Read by parts, written whole."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from .byte_source import ByteSource, BytesSource, FileFormatError
from .json_reader import JsonError, read_json
from .tensors import FORMS, StoredTensor, dequantize

# What the reference implementation accepts at most; a larger length means a damaged file, not a large model.
MAX_HEADER_BYTES = 100_000_000
# No model has more; the product of 100,000 sizes takes minutes and has more digits than Python prints.
MAX_DIMENSIONS = 8

# Bytes of an element. Types beyond F32, F16 and BF16 are listed, so that a file which holds one among others (an
# integer buffer, say) still opens; only using such a tensor is an error.
DTYPE_SIZES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E5M2": 1, "F8_E4M3": 1, "F8_E8M0": 1, "C64": 8,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip

# Those that `write` writes.
_ARRAY_DTYPES = {"F32": "<f4", "I32": "<i4", "I64": "<i8", "U8": "<u1"}


async def read_header(source: ByteSource) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Return every tensor by name (with form "f32", "f16", "bf16", ...) and the file's metadata.

    Checks the whole layout: all problems of the header in one FileFormatError.
    """
    header_bytes = _header_length(
        source.name, source.size_bytes, bytes(await source.read(0, min(8, source.size_bytes)))
    )
    return _parse_header(source, bytes(await source.read(8, header_bytes)))


def read_header_of(data: bytes, name: str) -> dict[str, StoredTensor]:
    """Return every tensor of a file in memory, undecoded: all of F32, F16 or BF16, other types are an error."""
    header_bytes = _header_length(name, len(data), bytes(data[:8]))
    tensors, _ = _parse_header(BytesSource(data, name), bytes(data[8 : 8 + header_bytes]))
    wrong = [
        f"{name}: {tensor.name} is {tensor.form.upper()}" for tensor in tensors.values() if tensor.form not in FORMS
    ]
    if wrong:
        raise FileFormatError("\n".join([*wrong, "wanted F32, F16 or BF16"]))
    return tensors


def decode(data: bytes, tensor: StoredTensor) -> np.ndarray:
    """Return one tensor of the file that `read_header_of` read, as float32. Its shape must be a wanted one."""
    raw = np.frombuffer(data, dtype=np.uint8)[tensor.offset : tensor.offset + tensor.size_bytes]
    return dequantize(tensor.form, raw, tensor.shape)


def read_arrays(data: bytes, name: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return every array of a file in memory that `write` can have written, and the file's metadata.

    The arrays are views of `data`. FileFormatError for a damaged file, or one with arrays of other types.
    """
    header_bytes = _header_length(name, len(data), bytes(data[:8]))
    tensors, metadata = _parse_header(BytesSource(data, name), bytes(data[8 : 8 + header_bytes]))
    arrays = {}
    for tensor in tensors.values():
        dtype = _ARRAY_DTYPES.get(tensor.form.upper())
        if dtype is None:
            raise FileFormatError(f"{name}: {tensor.name} is {tensor.form.upper()}; wanted {', '.join(_ARRAY_DTYPES)}")
        raw = np.frombuffer(data, np.uint8, tensor.size_bytes, tensor.offset)
        if tensor.offset % np.dtype(dtype).itemsize:
            raw = raw.copy()  # some processors read numbers from their own multiples only
        arrays[tensor.name] = raw.view(dtype).reshape(tensor.shape)
    return arrays, metadata


def lay_out(
    entries: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str] | None = None
) -> tuple[bytes, list[str]]:
    """Return a file's beginning, up to the data, and the order in which the tensors' data follow, without gaps.

    `entries`: form ("f32", "f16", "bf16", ...) and shape by name. The order is the `safetensors` package's.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    order = sorted(entries, key=lambda name: (-DTYPE_SIZES[entries[name][0].upper()], name))
    offset = 0
    for name in order:
        form, shape = entries[name]
        end = offset + prod(shape) * DTYPE_SIZES[form.upper()]
        header[name] = {"dtype": form.upper(), "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the data starts at a multiple of 8
    return len(text).to_bytes(8, "little") + text, order


def write(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """Return a safetensors file, laid out as the `safetensors` package does: by the size of the types, then by name.

    FileFormatError for arrays of other types than float32, int32, int64 and uint8.
    """
    types = {np.dtype(dtype): name for name, dtype in _ARRAY_DTYPES.items()}
    entries = {}
    for name, tensor in tensors.items():
        array = np.asarray(tensor)
        if array.dtype not in types:
            raise FileFormatError(f"{name} is {array.dtype}; wanted float32, int32, int64 or uint8")
        entries[name] = (types[array.dtype], array.shape)
    head, order = lay_out(entries, metadata)
    chunks = []
    for name in order:
        array = np.asarray(tensors[name])
        flat = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(-1)
        chunks.append(memoryview(flat.view(np.uint8)))
    return b"".join([head, *chunks])


def _header_length(name: str, size_bytes: int, first_bytes: bytes) -> int:
    if len(first_bytes) < 8:
        raise FileFormatError(f"{name}: {size_bytes} bytes; a safetensors file has at least 8")
    header_bytes = int.from_bytes(first_bytes, "little")
    if header_bytes > min(MAX_HEADER_BYTES, size_bytes - 8):
        raise FileFormatError(
            f"{name}: the header is said to have {header_bytes} bytes, but {size_bytes - 8} follow; "
            "the file is cut off or is not a safetensors file"
        )
    return header_bytes


def _parse_header(source: ByteSource, text: bytes) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    header = _parse_json_object(source.name, text)
    metadata = header.pop("__metadata__", None) or {}
    problems = []
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        problems.append(f"__metadata__ is {_short(metadata)}; wanted strings by name")
    data_start = 8 + len(text)
    tensors: dict[str, StoredTensor] = {}
    spans: list[tuple[int, int, str]] = []
    for name, entry in header.items():
        problem = _entry_problem(entry)
        if problem:
            problems.append(f"{name}: {problem}")
            continue
        begin, end = entry["data_offsets"]
        spans.append((begin, end, name))
        form = entry["dtype"].lower()
        tensors[name] = StoredTensor(name, tuple(entry["shape"]), form, source, data_start + begin, end - begin)
    problems += _layout_problems(spans, source.size_bytes - data_start, complete=not problems)
    if problems:
        raise FileFormatError("\n".join(f"{source.name}: {problem}" for problem in problems))
    return tensors, metadata


def _parse_json_object(name: str, text: bytes) -> dict[str, Any]:
    """Parse the header; a key given twice would silently win over the first, so it is an error."""

    def object_of_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
            raise FileFormatError(f"{name}: {', '.join(twice)} stands twice in the header")
        return result

    try:
        header = read_json(text, object_of_pairs)
    except JsonError as error:
        raise FileFormatError(f"{name}: the header is not JSON ({error}); this is not a safetensors file") from error
    if not isinstance(header, dict):
        raise FileFormatError(f"{name}: the header is {_short(header)}; wanted a JSON object")
    return header


def _entry_problem(entry: Any) -> str | None:
    """Return what is wrong with one tensor's entry, or None."""
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        return f"the entry is {_short(entry)}; wanted dtype, shape and data_offsets"
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_SIZES:
        return f"dtype is {_short(dtype)}; wanted one of {', '.join(DTYPE_SIZES)}"
    if not isinstance(shape, list) or not all(_is_count(size) for size in shape):
        return f"shape is {_short(shape)}; wanted a list of sizes"
    if len(shape) > MAX_DIMENSIONS:
        return f"the shape has {len(shape)} dimensions; wanted at most {MAX_DIMENSIONS}"
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_count(offset) for offset in offsets):
        return f"data_offsets is {_short(offsets)}; wanted [begin, end]"
    size_bytes = prod(shape) * DTYPE_SIZES[dtype]
    if offsets[1] - offsets[0] != size_bytes:
        return f"data_offsets {offsets} span {offsets[1] - offsets[0]} bytes; {dtype} {shape} needs {size_bytes}"
    return None


def _layout_problems(spans: list[tuple[int, int, str]], data_bytes: int, complete: bool) -> list[str]:
    """Find tensors that overlap or leave the file; and, where all are known, holes (the format allows none)."""
    problems = []
    position, before = 0, "the header"
    for begin, end, name in sorted(spans):
        if end > data_bytes:
            problems.append(f"{name}: ends at byte {end} of the data, which has {data_bytes}; the file is cut off")
        if begin < position:
            problems.append(f"{name}: begins at byte {begin} of the data, inside {before}, which ends at {position}")
        elif begin > position and complete:
            problems.append(f"{name}: begins at byte {begin} of the data, but {before} ends at {position}")
        if end >= position:
            position, before = end, name
    if complete and not problems and position != data_bytes:
        problems.append(f"{data_bytes - position} bytes follow the last tensor; wanted none")
    return problems


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
