"""Adapters in zip files: of all makes, hostile ones among them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

import numpy as np
import pytest

from lora_lab.config import LoraConfig
from lora_lab.errors import AdapterError
from lora_lab.formats import zipping
from lora_lab.formats.peft import expected_shapes, read_adapter, read_chat_template, write_adapter
from lora_lab.formats.zipping import pack_adapter, unpack_adapter, unpack_with_remark
from lora_lab.model.families import llama

MODEL = llama.make_config(
    vocab_size=100,
    hidden_size=8,
    intermediate_size=12,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    head_dim=4,
    rms_norm_eps=1e-5,
    rope_theta=1e4,
    max_position_embeddings=64,
    tie_word_embeddings=True,
)


@pytest.fixture
def small() -> dict[str, bytes]:
    lora = LoraConfig(rank=2, alpha=4, targets=("q_proj",))
    tensors = {key: np.ones(shape, np.float32) for key, shape in expected_shapes(lora, MODEL).items()}
    return write_adapter(tensors, lora, MODEL, "x")


def zipped(write: Callable[[zipfile.ZipFile], None], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        write(archive)
    return buffer.getvalue()


def with_files(files: dict[str, bytes], folder: str = "") -> bytes:
    return zipped(lambda archive: [archive.writestr(folder + name, data) for name, data in files.items()] and None)


def test_zip_round_trip(small: dict[str, bytes]) -> None:
    for data in (pack_adapter(small), pack_adapter(small, "my-adapter"), with_files(small, "a\\b\\")):
        assert unpack_adapter(data) == small
    assert pack_adapter(small) == pack_adapter(dict(reversed(small.items())))
    with zipfile.ZipFile(io.BytesIO(pack_adapter(small, "x"))) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["x/README.md", "x/adapter_config.json", "x/adapter_model.safetensors"]
    assert read_adapter(unpack_adapter(pack_adapter(small)), MODEL)[0].rank == 2


def test_a_chat_template_goes_along_and_makes_no_adapter_by_itself(small: dict[str, bytes]) -> None:
    own = {**small, "chat_template.jinja": "{{ messages[0].content }}ü".encode()}
    assert unpack_adapter(pack_adapter(own)) == own and read_chat_template(own) == "{{ messages[0].content }}ü"
    assert unpack_adapter(with_files(small | {"base/chat_template.jinja": b"of a model beside it"})) == small
    assert read_chat_template(small) is None
    with pytest.raises(AdapterError, match=r"holds chat_template\.jinja; wanted adapter_config"):
        unpack_adapter(with_files({"chat_template.jinja": b"x"}))


def test_other_files_in_a_zip_do_not_matter(small: dict[str, bytes]) -> None:
    others = {
        "run/optimizer.pt": b"x", "README.md": b"of the repository", "__MACOSX/run/._adapter_config.json": b"x",
        "__MACOSX/run/adapter_config.json": b"x", "run/tokenizer.json": b"{}",
    }  # fmt: skip
    data = with_files({f"run/{name}": content for name, content in small.items()} | others)
    assert unpack_adapter(data) == small


def test_checkpoints_inside_are_passed_over_with_a_remark(small: dict[str, bytes]) -> None:
    def inside(*folders: str) -> bytes:
        return with_files({f"{folder}{name}": data for folder in folders for name, data in small.items()}
                          | {f"{folders[-1]}adapter_model.safetensors": b"of another step"})  # fmt: skip

    files, remark = unpack_with_remark(inside("out/", "out/checkpoint-50/", "out/checkpoint-100/"))
    assert files == small
    assert remark == "the adapter in out was taken, not those in out/checkpoint-100, out/checkpoint-50"
    files, remark = unpack_with_remark(inside("", "checkpoint-50/"))
    assert files == small and remark == "the adapter at its top was taken, not those in checkpoint-50"
    assert unpack_with_remark(with_files(small, "out/")) == (small, None)
    with pytest.raises(AdapterError, match="holds 2 adapters, in out/checkpoint-100, out/checkpoint-50; wanted one"):
        unpack_adapter(inside("out/checkpoint-50/", "out/checkpoint-100/"))
    with pytest.raises(AdapterError, match=r"holds 2 adapters, in a, b/c; wanted one"):  # neither holds the other
        unpack_adapter(inside("a/", "b/c/"))


def test_other_makes_in_a_zip() -> None:
    for files in (
        {"adapters.safetensors": b"x", "adapter_config.json": b"{}"},
        {"My-LoRA.GGUF": b"x"},
    ):
        assert unpack_adapter(with_files(files | {"0000100_adapters.safetensors": b"y"}, "adapters/")) == files


def test_zips_that_hold_no_adapter(small: dict[str, bytes]) -> None:
    with pytest.raises(AdapterError, match="the zip file is damaged or of an unknown kind"):
        unpack_adapter(b"PK\x03\x04 and then nothing")
    with pytest.raises(AdapterError, match="the zip file is damaged"):
        unpack_adapter(b"")
    with pytest.raises(
        AdapterError, match=r"holds photo.jpg; wanted adapter_config.json and adapter_model.safetensors"
    ):
        unpack_adapter(with_files({"photo.jpg": b"x"}))
    with pytest.raises(AdapterError, match="holds 2 adapters, in one, two; wanted one"):
        both = {f"{folder}/{name}": data for folder in ("one", "two") for name, data in small.items()}
        unpack_adapter(with_files(both))
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = zipped(lambda archive: [archive.writestr("adapter_config.json", b"{}") for _ in range(2)] and None)
    with pytest.raises(AdapterError, match=r"holds adapter_config.json twice"):
        unpack_adapter(twice)


@pytest.mark.parametrize("name", ["../adapter_config.json", "/etc/adapter_config.json", "a/../../adapter_config.json"])
def test_zips_that_point_outside(small: dict[str, bytes], name: str) -> None:
    with pytest.raises(AdapterError, match="points outside; wanted plain names"):
        unpack_adapter(with_files(small | {name: b"{}"}))


def test_zip_bombs_stop_early(small: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipping, "MAX_UNPACKED_BYTES", 1 << 20)
    bomb = with_files(small | {"adapter_model.safetensors": bytes(5 << 20)})
    assert len(bomb) < 50_000
    with pytest.raises(AdapterError, match=r"adapter_model\.safetensors unpacks to more than 1 MiB"):
        unpack_adapter(bomb)
    # An entry that claims to be small: in both of its headers, as zipfile reads only the last.
    true_size, false_size = (5 << 20).to_bytes(4, "little"), (1000).to_bytes(4, "little")
    with pytest.raises(AdapterError, match="damaged"):
        unpack_adapter(bomb.replace(true_size, false_size))
    many = zipped(lambda archive: [archive.writestr(f"{i}", b"") for i in range(10_001)] and None)
    with pytest.raises(AdapterError, match="has 10001 entries"):
        unpack_adapter(many)


def test_a_zip_with_a_flipped_byte(small: dict[str, bytes]) -> None:
    data = bytearray(pack_adapter(small))
    data[data.index(b"lora_alpha")] ^= 1
    with pytest.raises(AdapterError, match="damaged"):
        unpack_adapter(bytes(data))


@pytest.mark.parametrize(("method", "name"), [(zipfile.ZIP_LZMA, "LZMA"), (zipfile.ZIP_BZIP2, "BZIP2")])
def test_zips_of_other_methods(method: int, name: str) -> None:
    """Whole or damaged: the damage would come out as lzma.LZMAError or OSError."""
    whole = zipped(lambda archive: archive.writestr("adapter_config.json", bytes(range(256)) * 9), method)
    damaged = bytearray(whole)
    at = 30 + len("adapter_config.json")
    damaged[at + 4 : at + 12] = b"\xff" * 8
    for data in (bytes(damaged), whole):
        with pytest.raises(AdapterError, match=rf"adapter_config\.json is packed with {name}; wanted it stored or def"):
            unpack_adapter(data)


def test_an_encrypted_zip(small: dict[str, bytes]) -> None:
    data = bytearray(pack_adapter(small))
    at = 0
    while (at := data.find(b"PK\x01\x02", at)) >= 0:  # the flag in the central directory
        data[at + 8] |= 1
        at += 4
    with pytest.raises(AdapterError, match=r"cannot be opened: .*encrypted"):
        unpack_adapter(bytes(data))
