"""The one JSON reader for foreign bytes: what it reads, what it refuses, and that there is no other."""

from __future__ import annotations

import ast
import asyncio
import json
import random
from pathlib import Path

import pytest

from build_tools.base import ROOT
from lora_lab.data.files.container import find_container
from lora_lab.data.files.json_text import JsonFailure, load_json
from lora_lab.errors import MAX_CHARACTERS, AdapterError, LoraLabError, ModelError
from lora_lab.formats import json_reader, safetensors
from lora_lab.formats.byte_source import BytesSource, FileFormatError
from lora_lab.formats.json_reader import MAX_DEPTH, JsonError, is_deep_from, is_too_deep, may_be_deep, read_json
from lora_lab.formats.peft import read_adapter
from lora_lab.model.families import llama
from lora_lab.model.files import open_model

# Where Python's own reader may be called: behind a look at the depth, or on what this program wrote itself.
READERS = {"formats/json_reader.py", "data/files/json_text.py", "data/files/json_rows.py", "data/files/repair.py",
           "data/rows/row_table.py"}  # fmt: skip


def _strays(source: str) -> list[int]:
    """The lines on which a text is handed to Python's JSON reader."""
    names = ("loads", "load", "raw_decode", "JSONDecoder", "decode")
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and node.attr in names
        and isinstance(node.value, ast.Name)
        and node.value.id in ("json", "DECODER")
    ]


def test_no_foreign_text_is_read_by_another_reader() -> None:
    package = ROOT / "app/py/lora_lab"
    found = {str(path.relative_to(package)) for path in package.rglob("*.py") if _strays(path.read_text("utf-8"))}
    assert found <= READERS


def test_a_stray_reader_is_seen() -> None:
    assert _strays("import json\n\nx = json.loads(text)") == [3]
    assert _strays("DECODER.raw_decode(text)") == [1]
    assert not _strays("json.dumps(x); data.decode()")


def _deep(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 5_000, 20_000, 1_000_000])
def test_deep_texts_are_refused_before_they_are_read(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_reader.json, "loads", lambda *_, **__: pytest.fail("it was read"))
    for text in (_deep(depth), '{"a":' * depth + "1" + "}" * depth, '["]",' * depth + "1" + "]" * depth):
        with pytest.raises(JsonError, match="nested"):
            read_json(text)
        if depth > 2 * MAX_DEPTH:
            with pytest.raises(JsonError, match="nested"):
                read_json(text[: len(text) // 2])


def test_the_greatest_depth_is_read() -> None:
    assert read_json(_deep(MAX_DEPTH)) == json.loads(_deep(MAX_DEPTH))
    shallow = json.dumps(["[" * 5000, "\\" * 7 + '"[{' * 3000, {"a]": "{" * 9000}] * 20)
    assert not is_too_deep(shallow) and read_json(shallow.encode()) == json.loads(shallow)


def test_what_is_no_json_is_named() -> None:
    for data, said in [
        (b"\xff", "not UTF-8"),
        (b"{", "line 1"),
        (b"", "line 1"),
        (b"1" * 5000, "digits"),
        (b"[" + b"0," * 7_000_000 + b"0]", "values"),
    ]:
        with pytest.raises(JsonError, match=said):
            read_json(data)
    assert read_json(b"\xef\xbb\xbf[1]") == [1]


def _read_from(text: str, start: int) -> str:
    """What Python's reader sees of a value: up to its end, or to the first character that it does not take."""
    try:
        return text[: json.JSONDecoder().raw_decode(text, start)[1]]
    except json.JSONDecodeError as error:
        return text[: error.pos]


def test_the_quick_look_at_depth_agrees_with_the_slow_one() -> None:
    """On whole values as on broken texts, of which a value may begin anywhere; it may only be too careful."""
    rng, deep = random.Random(5), 0
    pieces = ['"', "[" * 60, "[" * 90, "]" * 20, '{"a":', "}", "\\", '"\\"]",', '"[]",', '"\\\\",', "1,", "\ud800"]
    for _ in range(2000):
        text = "".join(rng.choices(pieces, k=rng.randint(1, 20)))
        starts = [place for place, char in enumerate(text) if char in "[{" and text[place - 1 : place] != char]
        if any(is_deep_from(_read_from(text, start), start) for start in starts):
            deep += 1
            assert may_be_deep(text)
    assert deep > 20
    for depth in (MAX_DEPTH, MAX_DEPTH + 1):
        for inner in ('"]"', '"\\""', '"\\\\"', '"["', "1"):
            text = f"[{inner}," * depth + inner + "]" * depth
            assert may_be_deep(text, sure=True) == is_deep_from(text, 0, whole=True) == (depth > MAX_DEPTH)


def test_every_reader_refuses_deep_json(tiny_model_folder: Path) -> None:
    good = {path.name: path.read_bytes() for path in tiny_model_folder.iterdir()}
    for name in (name for name in good if name.endswith(".json")):
        files = {**good, name: _deep(20_000).encode()}
        with pytest.raises(ModelError, match="nested more than"):
            asyncio.run(open_model([BytesSource(data, f"tiny/{name}") for name, data in files.items()]))
    header = ('{"a":' * 20_000 + "1" + "}" * 20_000).encode()
    with pytest.raises(FileFormatError, match="nested more than"):
        safetensors.read_header_of(len(header).to_bytes(8, "little") + header, "x")
    model = llama.make_config(
        vocab_size=9, hidden_size=8, intermediate_size=12, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=4,
        rms_norm_eps=1e-5, rope_theta=1e4, max_position_embeddings=64, tie_word_embeddings=True,
    )  # fmt: skip
    with pytest.raises(AdapterError, match="nested more than"):
        read_adapter({"adapter_config.json": _deep(20_000).encode(), "adapter_model.safetensors": b""}, model)
    assert isinstance(load_json(_deep(20_000)), JsonFailure)
    find_container('{"a":\n' + "[" * 20_000, "", frozenset())


def test_files_that_are_too_large_are_not_read(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_lab.model.folder.MAX_JSON_BYTES", 10)
    files = [BytesSource(path.read_bytes(), f"tiny/{path.name}") for path in tiny_model_folder.iterdir()]
    with pytest.raises(ModelError, match=r"config\.json has [\d,]+ bytes; wanted at most 10"):
        asyncio.run(open_model(files))


def test_an_error_is_short() -> None:
    assert len(str(LoraLabError("x" * 10**7))) == MAX_CHARACTERS
    assert str(ModelError("short")) == "short"
