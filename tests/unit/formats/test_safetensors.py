"""Byte sources and safetensors, both ways against the `safetensors` package, and damaged files."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load as load_numpy
from safetensors.numpy import save as save_numpy
from safetensors.torch import save as save_torch

from lora_lab.errors import LoraLabError
from lora_lab.formats import safetensors
from lora_lab.formats.byte_source import BytesSource, FileFormatError, FileSource, sources_from_path


def read_all_lazily(data: bytes) -> dict[str, np.ndarray]:
    """Through the path that large models take: the header first, then tensor by tensor."""

    async def read() -> dict[str, np.ndarray]:
        tensors, _ = await safetensors.read_header(BytesSource(data, "model.safetensors"))
        return {name: await tensor.to_f32() for name, tensor in tensors.items()}

    return asyncio.run(read())


def read_all(data: bytes, name: str) -> dict[str, np.ndarray]:
    """Through the path that adapters take: a file in memory."""
    return {key: safetensors.decode(data, tensor) for key, tensor in safetensors.read_header_of(data, name).items()}


def file_of(header: Any, data_bytes: int) -> bytes:
    """A safetensors file with this header, whatever it says, over `data_bytes` zero bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(data_bytes)


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


# ---------------------------------------------------------------------------------------------------- sources


def test_file_and_bytes_read_alike(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5
    path = tmp_path / "some.bin"
    path.write_bytes(data)
    for source in (FileSource(path), BytesSource(data, "some.bin")):
        assert (source.name, source.size_bytes) == ("some.bin", 1280)
        assert bytes(asyncio.run(source.read(250, 12))) == data[250:262]
        assert bytes(asyncio.run(source.read(1280, 0))) == b""
        for offset, length in ((1279, 2), (-1, 2), (0, 1281)):
            with pytest.raises(FileFormatError, match=r"some\.bin: wanted .* the file has 1280 bytes"):
                asyncio.run(source.read(offset, length))


def test_a_file_that_shrinks_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "some.bin"
    path.write_bytes(bytes(100))
    source = FileSource(path)
    path.write_bytes(bytes(60))
    with pytest.raises(FileFormatError, match=r"got 20 bytes of 60 at offset 40"):
        asyncio.run(source.read(40, 60))
    with pytest.raises(FileFormatError, match="cannot be opened"):
        FileSource(tmp_path / "none.bin")


def test_sources_of_a_folder_carry_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    (folder / "sub").mkdir(parents=True)
    (folder / "b.json").write_text("{}")
    (folder / "a.json").write_text("{}")
    assert [source.name for source in sources_from_path(folder)] == ["my-model/a.json", "my-model/b.json"]
    assert [source.name for source in sources_from_path(folder / "a.json")] == ["a.json"]


# ---------------------------------------------------------------------------------------------------- both ways


def test_reads_what_the_package_writes() -> None:
    generator = torch.Generator().manual_seed(3)
    tensors = {
        "whole": torch.randn(5, 123, generator=generator),
        "half": torch.randn(7, 33, generator=generator).to(torch.float16),
        "brain": torch.randn(3, 2, 5, generator=generator).to(torch.bfloat16),
        "single": torch.tensor([1.5, -0.0, float("inf"), 1e-42]),
        "scalar": torch.tensor(2.5),
    }
    data = save_torch(tensors, metadata={"format": "pt", "note": 'ä " \\ \n'})
    read = read_all_lazily(data)
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == np.float32
        np.testing.assert_array_equal(read[name], tensor.float().numpy(), strict=True)
        np.testing.assert_array_equal(read_all(data, "x")[name], read[name], strict=True)
    _, metadata = asyncio.run(safetensors.read_header(BytesSource(data, "x")))
    assert metadata == {"format": "pt", "note": 'ä " \\ \n'}


def test_nan_bits_survive() -> None:
    nan = np.array([0x7FC00001, 0xFF800001], dtype=np.uint32).view(np.float32)
    read = read_all(safetensors.write({"x": nan}), "x")["x"]
    assert read.view(np.uint32).tolist() == [0x7FC00001, 0xFF800001]


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=12).filter(lambda name: name != "__metadata__" and name.isprintable()),
        st.lists(st.integers(0, 5), max_size=3),
        max_size=5,
    )
)
def test_writes_the_bytes_that_the_package_writes(shapes: dict[str, list[int]]) -> None:
    tensors = {name: np.random.default_rng(0).normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    data = safetensors.write(tensors, {"format": "pt"})
    assert data == save_numpy({name: array.copy() for name, array in tensors.items()}, metadata={"format": "pt"})
    loaded = load_numpy(data)
    assert loaded.keys() == tensors.keys()
    for name, array in tensors.items():
        np.testing.assert_array_equal(loaded[name], array, strict=True)


def test_writes_a_view_in_row_major_order() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    np.testing.assert_array_equal(load_numpy(safetensors.write({"x": array}))["x"], array)
    with pytest.raises(FileFormatError, match="x is float64; wanted float32"):
        safetensors.write({"x": np.zeros(3)})


def test_other_types_open_but_cannot_be_decoded() -> None:
    data = save_numpy({"ids": np.arange(4, dtype=np.int64), "x": np.ones(2, dtype=np.float32)})
    tensors, _ = asyncio.run(safetensors.read_header(BytesSource(data, "m")))
    assert (tensors["ids"].form, tensors["ids"].size_bytes) == ("i64", 32)
    with pytest.raises(FileFormatError, match="form i64 are not supported; wanted one of f32, f16, bf16"):
        asyncio.run(tensors["ids"].to_f32())
    with pytest.raises(FileFormatError, match="m: ids is I64\nwanted F32, F16 or BF16"):
        read_all(data, "m")


# ---------------------------------------------------------------------------------------------------- damage

DAMAGED = {
    "empty": (b"", r"0 bytes; a safetensors file has at least 8"),
    "too short": (b"\x05\0\0", r"3 bytes; a safetensors file has at least 8"),
    "absurd header length": (b"\xff" * 8 + b"{}", r"said to have 18446744073709551615 bytes, but 2 follow"),
    "header over the limit": ((100_000_001).to_bytes(8, "little") + bytes(100), r"said to have 100000001 bytes"),
    "not JSON": (file_of(b"PK\x03\x04 nothing like it", 0), r"the header is not JSON .* not a safetensors file"),
    "not UTF-8": (file_of(b'{"\xff": 1}', 0), r"the header is not JSON"),
    "not an object": (file_of([1, 2], 0), r"the header is \[1, 2\]; wanted a JSON object"),
    "deep nesting": (file_of(b"[" * 100_000, 0), r"the header is not JSON"),
    "twice the same name": (
        file_of(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],'
                b'"data_offsets":[0,4]}}', 4),
        r"a stands twice in the header",
    ),
    "unknown dtype": (file_of({"a": entry([1], 0, 4, "F99")}, 4), r"a: dtype is 'F99'; wanted one of F64, F32"),
    "no dtype": (file_of({"a": {"shape": [1], "data_offsets": [0, 4]}}, 4), r"wanted dtype, shape and data_offsets"),
    "negative size": (file_of({"a": entry([-1, -4], 0, 16)}, 16), r"a: shape is \[-1, -4\]; wanted a list of sizes"),
    "shape of strings": (file_of({"a": entry(["4"], 0, 16)}, 16), r"a: shape is \['4'\]"),
    "shape and size differ": (file_of({"a": entry([2, 3], 0, 20)}, 20), r"span 20 bytes; F32 \[2, 3\] needs 24"),
    "offsets backwards": (file_of({"a": entry([1], 4, 0)}, 4), r"span -4 bytes; F32 \[1\] needs 4"),
    "overflowing shape": (file_of({"a": entry([2**62, 2**62], 0, 8)}, 8), r"needs \d{30,}"),
    "too many dimensions": (
        file_of({"a": entry([2**62] * 100_000, 0, 8)}, 8), r"a: the shape has 100000 dimensions; wanted at most 8"
    ),
    "cut off": (file_of({"a": entry([4], 0, 16)}, 15), r"a: ends at byte 16 of the data, which has 15; .* cut off"),
    "overlap": (
        file_of({"a": entry([4], 0, 16), "b": entry([4], 8, 24)}, 24),
        r"b: begins at byte 8 of the data, inside a, which ends at 16",
    ),
    "hole": (file_of({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, 12), r"b: begins at byte 8 .* a ends at 4"),
    "bytes left over": (file_of({"a": entry([1], 0, 4)}, 6), r"2 bytes follow the last tensor; wanted none"),
    "metadata of numbers": (file_of({"__metadata__": {"x": 1}}, 0), r"__metadata__ is \{'x': 1\}; wanted strings"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGED)
def test_damage_is_named(kind: str) -> None:
    data, message = DAMAGED[kind]
    with pytest.raises(FileFormatError, match=message):
        asyncio.run(safetensors.read_header(BytesSource(data, "model.safetensors")))
    with pytest.raises(FileFormatError, match=message):
        read_all(data, "model.safetensors")


def test_all_problems_at_once() -> None:
    data = file_of({"a": entry([4], 0, 12), "b": entry([1], 0, 4, "F7"), "c": entry([9], 12, 48)}, 20)
    with pytest.raises(FileFormatError) as error:
        asyncio.run(safetensors.read_header(BytesSource(data, "m")))
    lines = str(error.value).splitlines()
    assert [line.split(":")[1].strip() for line in lines] == ["a", "b", "c"]


def test_the_undamaged_file_is_read() -> None:
    """The control for the above: the same builder with a right header."""
    data = file_of({"a": entry([4], 0, 16), "b": entry([2, 3], 16, 40)}, 40)
    assert {name: array.shape for name, array in read_all_lazily(data).items()} == {"a": (4,), "b": (2, 3)}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_flipped_or_cut_bytes_give_a_clear_error_or_a_whole_file(data: st.DataObject) -> None:
    """Whatever happens to the bytes, nothing but our own error may come out, and never a wrong number of values."""
    good = safetensors.write({"a": np.ones((3, 4), np.float32), "b": np.zeros(5, np.float32)}, {"format": "pt"})
    damaged = bytearray(good[: data.draw(st.integers(0, len(good)))])
    for _ in range(data.draw(st.integers(0, 3))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = read_all_lazily(bytes(damaged))
    except LoraLabError as error:
        assert str(error)
    else:
        for array in read.values():
            assert np.prod(array.shape) == array.size
