"""A GGUF model in several files, written by the `gguf` package: opened together, and what is amiss with the parts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from lora_lab.errors import ModelError
from lora_lab.formats.byte_source import FileSource, sources_from_path
from lora_lab.formats.part_names import part_names, whole_name
from lora_lab.model.files import ModelFiles, open_model
from tests.tiny_gguf import write_tiny_gguf
from tests.unit.formats.helpers import opened, weights_of


def write_parts(folder: Path, name: str, model: Path, small_first_part: bool = False, **options) -> list[Path]:
    """Write a tiny model in parts of 8 tensors; return their paths."""
    made = folder / name
    made.mkdir()
    write_tiny_gguf(
        model, made / f"{name}.gguf", tensors_a_part=8, small_first_part=small_first_part, **options
    )  # fmt: skip
    return sorted(made.iterdir())


def open_files(*paths: Path) -> ModelFiles:
    return asyncio.run(open_model([FileSource(path) for path in paths]))


@pytest.mark.parametrize("small_first_part", [False, True])
def test_the_parts_are_the_whole(tiny_model_folder: Path, tmp_path: Path, small_first_part: bool) -> None:
    whole = opened(write_tiny_gguf(tiny_model_folder, tmp_path / "whole.gguf"))
    parts = write_parts(tmp_path, "cut", tiny_model_folder, small_first_part)
    assert len(parts) == (4 if small_first_part else 3)
    found = open_files(*reversed(parts))  # in whatever order they were chosen
    assert (found.config, found.tokenizer, found.name) == (whole.config, whole.tokenizer, whole.name)
    assert {tensor.source.name for tensor in found.tensors.values()} == {
        path.name for path in (parts[1:] if small_first_part else parts)
    }
    expected = weights_of(whole)
    for name, weight in weights_of(found).items():
        np.testing.assert_array_equal(weight, expected[name], strict=True)


def test_any_part_stands_for_all_on_the_command_line(tiny_model_folder: Path, tmp_path: Path) -> None:
    parts = write_parts(tmp_path, "cut", tiny_model_folder)
    (parts[0].parent / "other.gguf").write_bytes(b"GGUF")
    for path in parts:
        assert [source.path for source in sources_from_path(path)] == parts
    assert [source.path for source in sources_from_path(parts[0].parent / "other.gguf")] == [
        parts[0].parent / "other.gguf"
    ]
    parts[1].unlink()
    with pytest.raises(ModelError, match=r"^cut-00002-of-00003\.gguf is missing: cut-00001-of-00003\.gguf is one of 3"):
        asyncio.run(open_model(sources_from_path(parts[2])))


def test_what_is_amiss_is_named(tiny_model_folder: Path, tmp_path: Path) -> None:
    first, second, third = write_parts(tmp_path, "cut", tiny_model_folder)
    others = write_parts(tmp_path, "other", tiny_model_folder)
    for paths, message in (
        ([second], "cut-00001-of-00003.gguf is missing: cut-00002-of-00003.gguf is one of 3 parts of a split model\n"
                   "cut-00003-of-00003.gguf is missing: cut-00002-of-00003.gguf is one of 3 parts of a split model"),
        ([first, others[1], third],
         "cut-00001-of-00003.gguf and other-00002-of-00003.gguf have different names; wanted the parts of one model"),
        ([first, second, second, third],
         "cut-00002-of-00003.gguf and cut-00002-of-00003.gguf are both part 2 of 3"),
    ):  # fmt: skip
        with pytest.raises(ModelError) as refused:
            open_files(*paths)
        assert str(refused.value) == message


def test_parts_without_the_names_go_by_their_numbers(tiny_model_folder: Path, tmp_path: Path) -> None:
    parts = write_parts(tmp_path, "cut", tiny_model_folder)
    renamed = [path.rename(path.with_name(f"{letter}.gguf")) for path, letter in zip(parts, "xyz", strict=True)]
    assert open_files(*renamed).tensors.keys() == opened(tiny_model_folder).tensors.keys()
    with pytest.raises(ModelError, match=r"^Part 2 of 3 is missing: x\.gguf is one of 3 parts"):
        open_files(renamed[0], renamed[2])


def test_parts_of_two_models_are_refused(tiny_model_folder: Path, tmp_path: Path) -> None:
    parts = write_parts(tmp_path, "cut", tiny_model_folder)
    tied = write_parts(tmp_path, "extra", tiny_model_folder, leave_out=frozenset({"tokenizer.ggml.merges"}))
    # The same names and numbers, cut otherwise: as after a download of two versions of a model.
    longer = tmp_path / "longer"
    longer.mkdir()
    write_tiny_gguf(tiny_model_folder, longer / "cut.gguf", tensors_a_part=11)
    with pytest.raises(ModelError, match=r"is one of 3 parts, cut-00002-of-00002\.gguf one of 2; wanted the parts of"):
        open_files(parts[0], longer / "cut-00002-of-00002.gguf")
    # What no number tells: tensors that are there twice, others that are not.
    twice = tied[0].with_name(parts[1].name)
    moved = bytearray(parts[0].read_bytes())
    at = moved.index(b"split.no") + len(b"split.no") + 4
    assert moved[at : at + 2] == bytes(2)
    moved[at] = 1
    twice.write_bytes(moved)
    with pytest.raises(
        ModelError, match=r"cut-00002-of-00003\.gguf: the tensor \S+ is in cut-00001-of-00003\.gguf, too"
    ):
        open_files(parts[0], twice, parts[2])


@pytest.mark.parametrize("count", [65_535, 3])
def test_a_damaged_count_is_no_flood(tiny_model_folder: Path, tmp_path: Path, count: int) -> None:
    path = write_tiny_gguf(tiny_model_folder, tmp_path / "a.gguf", metadata={"split.count": count})
    with pytest.raises(ModelError) as refused:
        open_files(path)
    lines = str(refused.value).splitlines()
    assert len(lines) == min(10, count - 1)
    assert lines[0] == f"Part 2 of {count} is missing: a.gguf is one of {count} parts of a split model"


def test_names_of_parts() -> None:
    assert part_names("M-Q4-00002-of-00003.gguf") == [f"M-Q4-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    assert whole_name("M-Q4-00002-of-00003.GGUF") == whole_name("M-Q4.gguf") == "M-Q4"
    for name in ("M.gguf", "M-00004-of-00003.gguf", "M-00000-of-00003.gguf", "M-1-of-3.gguf", "M-00001-of-00002.txt"):
        assert part_names(name) == [name]
