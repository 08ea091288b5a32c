"""`lora-lab export` and `push`: what is written where, a full disk, Ctrl-C, and a hub that takes a commit."""

from __future__ import annotations

import asyncio
import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lora_lab.cli import export_sink
from lora_lab.cli.export import default_out
from lora_lab.cli.export_options import EXPORTS
from lora_lab.cli.main import main
from lora_lab.evaluation.card_facts import card_facts
from lora_lab.evaluation.record import DataFacts, DataFile, record_bytes
from lora_lab.export import KINDS
from lora_lab.formats.peft import write_adapter
from tests.export_cases import adapter_for, open_path
from tests.unit.evaluation.records import record


@pytest.fixture
def adapter(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """An adapter of the tiny model, with a record."""
    config = open_path(tiny_model_folder).config
    lora, tensors = adapter_for(config)
    run = record(data=DataFacts("ships.jsonl", (DataFile("ships.jsonl", 9, "ab" * 32),), 9, 0, 0, 90, 30))
    folder = tmp_path / "ships"
    folder.mkdir()
    for name, content in write_adapter(tensors, lora, config, None, None, card_facts(run, record_bytes(run))).items():
        (folder / name).write_bytes(content)
    return folder


def run(*arguments: str | Path) -> int:
    return main([str(one) for one in arguments])


def test_the_kinds_are_those_of_the_room() -> None:
    assert EXPORTS == KINDS


@pytest.mark.parametrize("kind", EXPORTS)
def test_everything_can_be_exported(
    adapter: Path, tiny_model_folder: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = adapter.parent / "out" / ("model.gguf" if kind in ("gguf", "gguf-adapter") else "model")
    assert run("export", adapter, "--to", kind, "--model", tiny_model_folder, "--out", out, "--base-model", "o/n") == 0
    said = capsys.readouterr().err
    assert f"{out}: " in said and "To use it, " in said
    assert out.is_file() == (kind in ("gguf", "gguf-adapter"))
    assert [path.name for path in out.parent.iterdir()] == [out.name]  # nothing is left of putting it together
    assert ("--measure FILE tells" in said) == (kind == "merged")  # in bf16; the others keep the f32 of the model


def test_the_card_says_where_it_came_from(adapter: Path, tiny_model_folder: Path) -> None:
    out = adapter.parent / "out"
    assert (
        run("export", adapter, "--to", "peft", "--model", tiny_model_folder, "--out", out, "--base-model", "o/n") == 0
    )
    card = (out / "README.md").read_text()
    assert "ships.jsonl" in card and f"last step {3 / 40**0.5:.4f}" in card and "o/n" in card
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == "o/n"
    assert (out / "chat_template.jinja").exists() and (out / "lora-lab-run.json").exists()


def test_a_damaged_record_is_told_and_stays_behind(
    adapter: Path, tiny_model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (adapter / "lora-lab-run.json").write_text('{"rows": "many"}')
    out = adapter.parent / "out"
    assert run("export", adapter, "--to", "peft", "--model", tiny_model_folder, "--out", out) == 0
    assert "lora-lab-run.json cannot be used" in capsys.readouterr().err
    assert "## Training" not in (out / "README.md").read_text() and not (out / "lora-lab-run.json").exists()


def test_where_it_goes_unless_somebody_says() -> None:
    assert default_out(Path("a/ships"), "ollama") == Path("ships-ollama")
    assert default_out(Path("ships.zip"), "gguf") == Path("ships-gguf.gguf")


def test_what_is_there_is_not_overwritten(
    adapter: Path, tiny_model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = adapter.parent / "out"
    out.write_text("mine")
    assert run("export", adapter, "--to", "mlx", "--model", tiny_model_folder, "--out", out) == 1
    assert f"--out {out} is there already" in capsys.readouterr().err
    assert out.read_text() == "mine"


def test_a_disk_without_room_is_told_before(
    adapter: Path, tiny_model_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(adapter)._replace(free=1000)
    monkeypatch.setattr(export_sink.shutil, "disk_usage", lambda path: usage)
    out = adapter.parent / "out"
    assert run("export", adapter, "--to", "merged", "--model", tiny_model_folder, "--out", out) == 1
    assert "the disk has 0.0 MB free; this export takes 0." in capsys.readouterr().err
    assert not out.exists()


def test_a_disk_that_fills_up_is_told_by_name_and_leaves_no_half(
    adapter: Path, tiny_model_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program takes the room while we write."""
    write, written = export_sink.DiskSink.write, 0

    async def full(self: export_sink.DiskSink, piece: bytes) -> None:
        nonlocal written
        written += len(piece)
        if written > 100_000:
            with self._telling():
                raise OSError(errno.ENOSPC, "No space left on device")
        await write(self, piece)

    monkeypatch.setattr(export_sink.DiskSink, "write", full)
    out = adapter.parent / "out"
    assert run("export", adapter, "--to", "merged", "--model", tiny_model_folder, "--out", out) == 1
    assert f"{out / 'model.safetensors'}: No space left on device" in capsys.readouterr().err
    assert sorted(path.name for path in adapter.parent.iterdir()) == ["ships"]


def test_ctrl_c_leaves_nothing(adapter: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import signal

    async def interrupted(self: export_sink.DiskSink, piece: bytes) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(60)

    monkeypatch.setattr(export_sink.DiskSink, "write", interrupted)
    out = adapter.parent / "out"
    assert run("export", adapter, "--to", "merged", "--model", tiny_model_folder, "--out", out) == 130
    assert sorted(path.name for path in adapter.parent.iterdir()) == ["ships"]


def test_only_what_is_merged_can_be_measured(
    adapter: Path, tiny_model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("export", adapter, "--to", "mlx", "--model", tiny_model_folder, "--measure", "rows.jsonl")
    assert run(*arguments) == 1
    assert "--measure: mlx is not merged" in capsys.readouterr().err


def test_one_make_goes_on_as_another(adapter: Path, tiny_model_folder: Path) -> None:
    """What came from mlx-lm goes to llama.cpp."""
    first, second = adapter.parent / "mlx", adapter.parent / "a.gguf"
    assert run("export", adapter, "--to", "mlx", "--model", tiny_model_folder, "--out", first) == 0
    assert run("export", first, "--to", "gguf-adapter", "--model", tiny_model_folder, "--out", second) == 0
    from gguf import GGUFReader

    tensors = {tensor.name: tensor.data for tensor in GGUFReader(second).tensors}
    wanted = adapter_for(open_path(tiny_model_folder).config)[1]
    key = "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight"
    assert np.array_equal(tensors["blk.0.ffn_up.weight.lora_a"], wanted[key])
