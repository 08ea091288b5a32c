"""What a model is called on the hub: said once, known the next time, for that model alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_lab.cli import base_names
from lora_lab.cli.base_names import remember_base, remembered_base
from lora_lab.formats.byte_source import BytesSource

MODEL = [BytesSource(b"weights", "folder/model.safetensors"), BytesSource(b"{}", "folder/config.json")]
MOVED = [BytesSource(b"{}", "other/config.json"), BytesSource(b"weights", "other/model.safetensors")]
OTHER = [BytesSource(b"weights!", "folder/model.safetensors"), BytesSource(b"{}", "folder/config.json")]


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "home" / "base_models.json"
    monkeypatch.setattr(base_names, "_path", lambda: path)
    return path


def test_a_name_is_known_the_next_time_for_this_model_alone() -> None:
    assert remembered_base(MODEL) is None
    remember_base(MODEL, "me/mine")
    assert remembered_base(MODEL) == remembered_base(MOVED) == "me/mine"
    assert remembered_base(OTHER) is None
    remember_base(MODEL, "me/renamed")
    remember_base(OTHER, "me/other")
    assert (remembered_base(MODEL), remembered_base(OTHER)) == ("me/renamed", "me/other")


def test_only_so_many_are_kept() -> None:
    for number in range(base_names.REMEMBERED + 2):
        remember_base([BytesSource(b"", f"{number}.gguf")], f"me/{number}")
    assert remembered_base([BytesSource(b"", "1.gguf")]) is None
    assert remembered_base([BytesSource(b"", "2.gguf")]) == "me/2"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": ' * 20_000, "{\"config.json model.safetensors 9\": 3}"])
def test_a_spoiled_file_says_nothing_and_is_written_anew(store: Path, text: str) -> None:
    store.parent.mkdir()
    store.write_text(text)
    assert remembered_base(MODEL) is None
    remember_base(MODEL, "me/mine")
    assert remembered_base(MODEL) == "me/mine"


def test_a_path_is_no_name(store: Path) -> None:
    remember_base(MODEL, "/home/me/models/mine.gguf")
    assert remembered_base(MODEL) is None


def test_where_nothing_can_be_written_nothing_is_known(store: Path) -> None:
    store.parent.write_text("a file where the folder should be")
    remember_base(MODEL, "me/mine")
    assert remembered_base(MODEL) is None
