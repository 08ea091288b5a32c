"""Files above 2 and 4 GiB, sparse on the disk: every tensor's first and last bytes, by every kind of source."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bench.write_model import write_model
from build_tools.server import SiteServer
from lora_lab.formats import safetensors
from lora_lab.formats.byte_source import FileFormatError, FileSource
from lora_lab.formats.tensors import StoredTensor
from lora_lab.model.families import llama
from lora_lab.model.files import open_model
from tests.unit.formats.helpers import Run, serving

END_BYTES = 100  # compared at both ends of each tensor
# 6.1 GB in f32: tensors begin beyond 2^31 and beyond 2^32, and some lie across either.
BIG = llama.make_config(
    vocab_size=512, hidden_size=2560, intermediate_size=100_000, num_layers=2, num_heads=4, num_kv_heads=2,
    head_dim=640, rms_norm_eps=1e-5, rope_theta=10000.0, max_position_embeddings=2048, tie_word_embeddings=False,
    name="big", bos_token_id=1, eos_token_ids=(2,),
)  # fmt: skip


@dataclass(frozen=True)
class Big:
    """A file, where its tensors lie, and the sha256 of what stands at their ends, read with the system's own call."""

    path: Path
    tensors: dict[str, StoredTensor]
    digests: dict[str, str]


def ends(tensor: StoredTensor) -> list[int]:
    """Return where the two stretches begin that are compared."""
    return [tensor.offset, tensor.offset + tensor.size_bytes - END_BYTES]


def look_at(path: Path, tensors: dict[str, StoredTensor]) -> Big:
    with path.open("rb") as file:
        found = {
            name: [os.pread(file.fileno(), END_BYTES, offset) for offset in ends(tensor)]
            for name, tensor in tensors.items()
        }
    assert all(any(stretch) for stretches in found.values() for stretch in stretches), "holes prove nothing"
    starts = [tensor.offset for tensor in tensors.values()]
    assert min(starts) < 2**31
    assert max(starts) > 2**32
    for border in (2**31, 2**32):
        assert any(tensor.offset < border < tensor.offset + tensor.size_bytes for tensor in tensors.values())
    assert path.stat().st_blocks * 512 < 32 << 20, "the file is not sparse"
    return Big(path, tensors, {name: digest(stretches) for name, stretches in found.items()})


def digest(stretches: list[bytes]) -> str:
    return hashlib.sha256(b"".join(stretches)).hexdigest()


def write_safetensors(path: Path) -> None:
    """Write four tensors of 1.6 GB each, of which the ends are there."""
    shape, random = (20_000, 20_000), np.random.default_rng(0)
    size = 4 * shape[0] * shape[1]
    places = {f"t{i}": [i * size, (i + 1) * size] for i in range(4)}
    header = {name: {"dtype": "F32", "shape": shape, "data_offsets": place} for name, place in places.items()}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        start = file.tell()
        file.truncate(start + 4 * size)
        for i in range(4):
            for at in (i * size, (i + 1) * size - END_BYTES):
                file.seek(start + at)
                file.write(random.bytes(END_BYTES))


@pytest.fixture(scope="module", params=["gguf", "safetensors"])
def big(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Big]:
    path = tmp_path_factory.mktemp("big") / f"big.{request.param}"
    if request.param == "gguf":
        write_model(path, BIG, "f32", "f32", sparse=True)
        tensors = asyncio.run(open_model([FileSource(path)])).tensors
    else:
        write_safetensors(path)
        tensors = asyncio.run(safetensors.read_header(FileSource(path)))[0]
    yield look_at(path, tensors)
    path.unlink()


def test_from_a_file(big: Big) -> None:
    async def read() -> dict[str, str]:
        source = FileSource(big.path)
        return {
            name: digest([bytes(await source.read(offset, END_BYTES)) for offset in ends(tensor)])
            for name, tensor in big.tensors.items()
        }

    assert asyncio.run(read()) == big.digests


PROGRAM = """
import hashlib, json
from lora_lab.formats import safetensors
from lora_lab.formats.byte_source import BlobSource, FileSource, UrlSource
from lora_lab.model.files import open_model

async def main():
    source = {source}
    opened = await open_model([source]) if {is_model} else None
    tensors = opened.tensors if opened else (await safetensors.read_header(source))[0]
    digests = {{}}
    for name, tensor in tensors.items():
        found = [await source.read(offset, {length}) for offset in
                 (tensor.offset, tensor.offset + tensor.size_bytes - {length})]
        digests[name] = hashlib.sha256(b"".join(map(bytes, found))).hexdigest()
    return json.dumps({{"size": source.size_bytes, "digests": digests}})
"""


def program(big: Big, source: str) -> str:
    return PROGRAM.format(source=source, is_model=big.path.suffix == ".gguf", length=END_BYTES)


def test_from_slices_in_pyodide(big: Big, in_pyodide: Run) -> None:
    """As the page's Blobs, and as bench/run.py reads a model under Node."""
    found = in_pyodide(program(big, f"BlobSource(file, {big.path.name!r})"), file=big.path)
    assert found == {"size": big.path.stat().st_size, "digests": big.digests}


def test_from_a_server_in_pyodide(big: Big, in_pyodide: Run) -> None:
    for url in serving(SiteServer(big.path.parent, port=0)):
        found = in_pyodide(program(big, f"await UrlSource.open(url + {big.path.name!r})"), url=url)
    assert found == {"size": big.path.stat().st_size, "digests": big.digests}


def test_what_pyodides_own_files_cannot_is_named(big: Big, in_pyodide: Run) -> None:
    """Why bench/file_blob.mjs is there: the control."""
    code = f"""
import js, json, pyodide_js
from lora_lab.formats.byte_source import FileFormatError, FileSource
from pyodide.ffi import to_js

async def main():
    files = pyodide_js.FS
    files.mkdirTree("/big")
    root = to_js({{"root": {str(big.path.parent)!r}}}, dict_converter=js.Object.fromEntries)
    files.mount(files.filesystems.NODEFS, root, "/big")
    source = FileSource("/big/{big.path.name}")
    try:
        near = bytes(await source.read(0, 4)).hex()
        await source.read(2**31, 4)
    except FileFormatError as error:
        return json.dumps([near, str(error)])
    finally:
        files.unmount("/big")
"""
    near, message = in_pyodide(code)
    assert near == big.path.open("rb").read(4).hex()
    assert message == f"/big/{big.path.name}: cannot be read beyond 2 GiB by this Python"


def test_a_file_that_was_cut_since(tmp_path: Path) -> None:
    path = tmp_path / "cut.bin"
    with path.open("wb") as file:
        file.truncate(5 << 30)
    source = FileSource(path)
    os.truncate(path, (4 << 30) + 10)
    with pytest.raises(FileFormatError, match=rf"got 10 bytes of 100 at offset {4 << 30}; was the file cut\?"):
        asyncio.run(source.read(4 << 30, 100))
