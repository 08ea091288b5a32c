"""GGUF headers, sizes and row permutation against the `gguf` package, and damaged files."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter
from gguf.constants import GGML_QUANT_SIZES
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_lab.errors import LoraLabError
from lora_lab.formats import gguf as gguf_format
from lora_lab.formats import tensors as tensor_forms
from lora_lab.formats.byte_source import BytesSource, FileFormatError, FileSource
from lora_lab.formats.gguf import GgufFile, read_gguf
from tests.tiny_gguf import permute


def read(data: bytes) -> GgufFile:
    return asyncio.run(read_gguf(BytesSource(data, "m.gguf")))


# ---------------------------------------------------------------------------------------------------- forms


def test_sizes_that_do_not_fit_are_errors() -> None:
    with pytest.raises(FileFormatError, match="a row of 33 elements cannot be q4_0; wanted a multiple of 32"):
        tensor_forms.row_size_bytes("q4_0", 33)
    with pytest.raises(FileFormatError, match="a row of 576 elements cannot be q6_k; wanted a multiple of 256"):
        tensor_forms.row_size_bytes("q6_k", 576)
    for form in ("iq2_xxs", "tq1_0", "mxfp4"):
        with pytest.raises(FileFormatError, match=f"form {form} are not supported; wanted one of f32, .*, iq4_xs"):
            tensor_forms.row_size_bytes(form, 256)
    with pytest.raises(FileFormatError, match=r"33 bytes for a q8_0 tensor of shape \(1, 32\); wanted 34"):
        tensor_forms.dequantize("q8_0", np.zeros(33, np.uint8), (1, 32))


@pytest.mark.parametrize(("heads", "head_dim", "columns"), [(1, 2, 1), (3, 10, 7), (4, 16, 64)])
def test_unpermuting_undoes_the_converter(heads: int, head_dim: int, columns: int) -> None:
    rows = np.random.default_rng(4).normal(size=(heads * head_dim, columns)).astype(np.float32)
    stored = permute(rows, heads)
    np.testing.assert_array_equal(tensor_forms.unpermute_rows(stored, heads), rows)
    if head_dim > 2:  # with two rows a head there is nothing to interleave
        assert not np.array_equal(tensor_forms.unpermute_rows(rows, heads), stored)
    with pytest.raises(FileFormatError, match="rows cannot be"):
        tensor_forms.unpermute_rows(rows, heads * head_dim)


def test_the_table_of_types_is_the_packages() -> None:
    table = {int(kind): (kind.name.lower(), *sizes) for kind, sizes in GGML_QUANT_SIZES.items()}
    assert {number: table[number] for number in gguf_format.TENSOR_TYPES} == gguf_format.TENSOR_TYPES
    ours = {form: sizes for form, *sizes in gguf_format.TENSOR_TYPES.values()}
    assert {form: tuple(ours[form]) for form in tensor_forms.FORMS} == tensor_forms.BLOCK_SIZES


# ---------------------------------------------------------------------------------------------------- headers


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file by the package, with every type of metadata and two kinds of tensors."""
    path = tmp_path_factory.mktemp("gguf") / "all.gguf"
    writer = GGUFWriter(str(path), "llama")
    writer.add_uint8("n.u8", 255)
    writer.add_int8("n.i8", -128)
    writer.add_uint16("n.u16", 65535)
    writer.add_int16("n.i16", -32768)
    writer.add_uint32("n.u32", 2**32 - 1)
    writer.add_int32("n.i32", -(2**31))
    writer.add_uint64("n.u64", 2**64 - 1)
    writer.add_int64("n.i64", -(2**63))
    writer.add_float32("n.f32", 1e-5)
    writer.add_float64("n.f64", 1e-300)
    writer.add_bool("n.bool", True)
    writer.add_string("n.string", "Ġ ä 👋 \0 end")
    writer.add_array("a.strings", ["", "a", "ÄÖ", "👋" * 100])
    writer.add_array("a.ints", [1, -2, 3])
    writer.add_array("a.floats", [0.5, -1.25])
    writer.add_array("a.bools", [True, False, True])
    writer.add_tensor("matrix", np.arange(12, dtype=np.float32).reshape(3, 4))
    writer.add_tensor("vector", np.arange(5, dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def check_against_the_package(path: Path, file: GgufFile) -> None:
    reader = GGUFReader(path)
    fields = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    found = {key: v.tolist() if isinstance(v, np.ndarray) else v for key, v in file.metadata.items()}
    assert found == fields
    assert all(type(found[key]) is type(fields[key]) for key in fields)
    assert list(file.tensors) == [tensor.name for tensor in reader.tensors]
    for tensor in reader.tensors:
        ours = file.tensors[tensor.name]
        assert ours.shape == tuple(int(size) for size in tensor.shape)[::-1]
        assert (ours.offset, ours.size_bytes) == (tensor.data_offset, tensor.n_bytes)
        assert ours.form == tensor.tensor_type.name.lower()


@pytest.mark.parametrize("first_read", [24, 100, 333, 4 << 20])
def test_reads_what_the_package_writes(
    written: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first_read: int
) -> None:
    """Also when the header is longer than what is read at first, wherever that cuts it."""
    monkeypatch.setattr(gguf_format, "FIRST_READ_BYTES", first_read)
    path = tmp_path / "all.gguf"
    path.write_bytes(written)
    file = asyncio.run(read_gguf(FileSource(path)))
    check_against_the_package(path, file)
    np.testing.assert_array_equal(asyncio.run(file.tensors["matrix"].to_f32()), np.arange(12.0).reshape(3, 4))
    np.testing.assert_array_equal(asyncio.run(file.tensors["vector"].to_f32()), np.arange(5.0))


def test_every_length_of_the_first_read_gives_the_same(written: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read(written)
    for first_read in range(24, len(written), 7):
        monkeypatch.setattr(gguf_format, "FIRST_READ_BYTES", first_read)
        file = read(written)
        assert file.tensors.keys() == whole.tensors.keys()
        assert file.metadata["a.strings"] == whole.metadata["a.strings"]


def test_smollm2_header(smollm2_path: Path) -> None:
    file = asyncio.run(read_gguf(FileSource(smollm2_path)))
    check_against_the_package(smollm2_path, file)
    assert len(file.metadata["tokenizer.ggml.merges"]) == 48_900


# ---------------------------------------------------------------------------------------------------- damage


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def built(
    entries: list[bytes] | None = None,
    tensors: list[bytes] | None = None,
    data_bytes: int = 0,
    *,
    magic: bytes = b"GGUF",
    version: bytes = struct.pack("<I", 3),
    counts: tuple[int, int] | None = None,
) -> bytes:
    """A GGUF file by hand, so that it can be wrong in any place."""
    entries, tensors = entries or [], tensors or []
    head = magic + version + struct.pack("<QQ", *(counts or (len(tensors), len(entries))))
    head += b"".join(entries) + b"".join(tensors)
    return head + bytes(-len(head) % 32 + data_bytes)


def described(name: str, sizes: list[int], kind: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, kind, offset)


def string_array(count: int, *values: bytes) -> bytes:
    return text("list") + struct.pack("<IIQ", 9, 8, count) + b"".join(values)


DAMAGED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", r"begins with b''; a GGUF file begins with b'GGUF'"),
    "another file": (b"PK\x03\x04" + bytes(60), r"begins with b'PK"),
    "only the magic": (b"GGUF", r"the header: would end at byte 8, but the file has 4"),
    "version 1": (built(version=struct.pack("<I", 1)), r"is version 1 GGUF; wanted little-endian, version 2 or 3"),
    "big-endian": (built(version=struct.pack(">I", 3)), r"is big-endian GGUF"),
    "absurd counts": (built(counts=(2**60, 2**60)), r"\d+ entries and \d+ tensors in 32 bytes"),
    "more entries than there are": (built(counts=(0, 2), data_bytes=32), r"has the unknown type|stands twice|cut off"),
    "unknown type": (built([text("key") + struct.pack("<II", 77, 0)]), r"key: has the unknown type 77"),
    "unknown array type": (built([text("key") + struct.pack("<IIQ", 9, 77, 1)]), r"key: has the unknown type 77"),
    "array of arrays": (built([text("key") + struct.pack("<IIQ", 9, 9, 1)]), r"key: an array of arrays"),
    "string too long": (
        built([text("key") + struct.pack("<IQ", 8, 10**6)]),
        r"key: would end at byte \d+, but the file has \d+; it is cut off or damaged",
    ),
    "string of 2^64 bytes": (built([text("key") + struct.pack("<IQ", 8, 2**64 - 1)]), r"key: would end at byte \d{20}"),
    "key too long": (built([struct.pack("<Q", 2**63)]), r"would end at byte"),
    "array too long": (built([text("key") + struct.pack("<IIQ", 9, 4, 2**61)]), r"key: would end at byte"),
    "too many strings": (built([string_array(2**62)]), r"list: an array of \d+ strings in a file of \d+ bytes"),
    "a string in an array too long": (
        built([string_array(2, text("ok"), struct.pack("<Q", 10**9))]),
        r"list: would end at byte 1000000\d+",
    ),
    "a string in an array of 2^64 bytes": (
        built([string_array(3, text("ok"), struct.pack("<Q", 2**64 - 1), text("x"))], data_bytes=100),
        r"list: would end at byte \d{20}",
    ),
    "a string that is not UTF-8": (
        built([string_array(2, text("ok"), struct.pack("<Q", 1) + b"\xff")]),
        r"list: string 1 is not UTF-8",
    ),
    "the same key twice": (
        built([text("key") + struct.pack("<II", 4, 1)] * 2),
        r"the key key stands twice",
    ),
    "the same tensor twice": (
        built(tensors=[described("a", [4], 0, 0), described("a", [4], 0, 32)], data_bytes=64),
        r"the tensor a stands twice",
    ),
    "no dimensions": (built(tensors=[described("a", [], 0, 0)]), r"a: has 0 dimensions; wanted 1 to 4"),
    "too many dimensions": (built(tensors=[described("a", [1] * 9, 0, 0)]), r"a: has 9 dimensions"),
    "unknown tensor type": (built(tensors=[described("a", [4], 99, 0)], data_bytes=32), r"a: has the unknown type 99"),
    "half a block": (
        built(tensors=[described("a", [48, 2], 2, 0)], data_bytes=64),
        r"a: a row of 48 elements cannot be q4_0; wanted a multiple of 32",
    ),
    "tensor beyond the end": (
        built(tensors=[described("a", [16], 0, 0)], data_bytes=60),
        r"a: ends at byte \d+, but the file has \d+; it is cut off",
    ),
    "tensor of absurd size": (built(tensors=[described("a", [2**62, 2**62], 0, 0)]), r"a: ends at byte \d{30,}"),
    "offset not aligned": (
        built(tensors=[described("a", [4], 0, 16)], data_bytes=64),
        r"a: lies at offset 16; wanted a multiple of 32",
    ),
    "overlap": (
        built(tensors=[described("a", [16], 0, 0), described("b", [8], 0, 32)], data_bytes=64),
        r"b: begins at byte \d+, inside a, which ends at \d+",
    ),
    "alignment of zero": (
        built([text("general.alignment") + struct.pack("<II", 4, 0)]),
        r"general.alignment is 0; wanted a power of two",
    ),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damage_is_named(kind: str) -> None:
    data, message = DAMAGED[kind]
    with pytest.raises(FileFormatError, match=message) as error:
        read(data)
    assert str(error.value).startswith("m.gguf: ")


def test_the_undamaged_file_is_read() -> None:
    """The control for the above: the same builder with nothing wrong."""
    entries = [text("key") + struct.pack("<II", 4, 7), string_array(2, text("one"), text("two"))]
    file = read(built(entries, [described("a", [16], 0, 0), described("b", [32, 2], 8, 64)], 64 + 68))
    assert file.metadata == {"key": 7, "list": ["one", "two"]}
    assert {name: (tensor.shape, tensor.form) for name, tensor in file.tensors.items()} == {
        "a": ((16,), "f32"),
        "b": ((2, 32), "q8_0"),
    }


def test_all_problems_of_the_tensors_at_once() -> None:
    tensors = [described("a", [16], 0, 0), described("b", [16], 0, 32), described("c", [4], 99, 0)]
    with pytest.raises(FileFormatError) as error:
        read(built(tensors=tensors, data_bytes=64))
    named = [line.split(": ")[1] for line in str(error.value).splitlines()]
    assert sorted(named) == ["b", "b", "c"]  # b leaves the file and lies inside a


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_flipped_or_cut_bytes_give_a_clear_error_or_a_header(written: bytes, data: st.DataObject) -> None:
    damaged = bytearray(written[: data.draw(st.integers(0, len(written)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    result: Any
    try:
        result = read(bytes(damaged))
    except LoraLabError as error:
        assert str(error)
    else:
        assert all(tensor.offset + tensor.size_bytes <= len(damaged) for tensor in result.tensors.values())
