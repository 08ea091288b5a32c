"""`--adapter` with what other tools write: the logits are those with PEFT's files, and it is told what they are."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from lora_lab.cli import main as cli
from lora_lab.config import LoraConfig
from lora_lab.formats.byte_source import sources_from_path
from lora_lab.formats.peft import expected_shapes, write_adapter
from lora_lab.formats.zipping import pack_adapter
from lora_lab.model.files import open_model
from tests.adapter_makes import as_gguf, as_mlx
from tests.unit.data.helpers import run

LORA = LoraConfig(rank=4, alpha=6)


def test_every_make_gives_the_same_logits(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config = run(open_model(sources_from_path(tiny_model_folder))).config
    generator = np.random.default_rng(3)
    tensors = {key: generator.normal(scale=0.1, size=shape).astype(np.float32)
               for key, shape in expected_shapes(LORA, config).items()}  # fmt: skip
    files = write_adapter(tensors, LORA, config, None)
    for name, made in (("peft", files), ("mlx", as_mlx(tensors, LORA))):
        (tmp_path / name).mkdir()
        for file, data in made.items():
            (tmp_path / name / file).write_bytes(data)
    as_gguf(tmp_path / "right.gguf", tensors, LORA, config, "llama", permuted=True)
    as_gguf(tmp_path / "wrong.gguf", tensors, LORA, config, "llama", permuted=False)
    # A checkpoint inside the adapter's folder, of another training.
    (tmp_path / "peft.zip").write_bytes(pack_adapter({
        **{f"out/{name}": data for name, data in files.items()},
        **{f"out/checkpoint-2/{name}": data for name, data in write_adapter(
            {key: 2 * values for key, values in tensors.items()}, LORA, config, None).items()},
    }))  # fmt: skip
    (tmp_path / "peft" / "whole-model.gguf").write_bytes(b"not read: the weights are PEFT's")

    found, said = {}, {}
    for name in ("peft", "mlx", "right.gguf", "wrong.gguf", "peft.zip"):
        out = tmp_path / f"{name}.npy"
        assert cli.main(["logits", "--model", str(tiny_model_folder), "--adapter", str(tmp_path / name),
                         "--text", "What now?", "--out", str(out)]) == 0  # fmt: skip
        found[name], said[name] = np.load(out), capsys.readouterr().err
    for name in ("mlx", "right.gguf", "peft.zip"):
        np.testing.assert_array_equal(found[name], found["peft"])
    assert np.linalg.norm(found["wrong.gguf"] - found["peft"]) > 1e-2 * np.linalg.norm(found["peft"])
    assert "an adapter of mlx-lm" in said["mlx"] and "an adapter of llama.cpp" in said["right.gguf"]
    assert "the adapter in out was taken, not those in out/checkpoint-2" in said["peft.zip"]
    assert f"{tmp_path / 'peft'}: " not in said["peft"]


def test_what_is_no_adapter_is_said(tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.zip").write_bytes(b"no zip")
    shutil.copy(tmp_path / "x.zip", tmp_path / "x.gguf")
    for name, words in (
        ("none", "does not exist; wanted an adapter's folder, a zip of it, or a GGUF adapter"),
        ("empty", "adapter_config.json is missing; found no files"),
        ("x.zip", "the zip file is damaged"),
        ("x.gguf", "a GGUF file begins with"),
    ):
        arguments = ["logits", "--model", str(tiny_model_folder), "--text", "x", "--out", str(tmp_path / "x.npy")]
        assert cli.main([*arguments, "--adapter", str(tmp_path / name)]) == 1
        assert words in capsys.readouterr().err


def test_the_name_of_the_base_is_one_on_the_hub(tiny_model_folder: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = ["train", "--model", str(tiny_model_folder), "--data", "x", "--out", "x", "--base-model"]
    for wrong in ("model.gguf", "./models/tiny", "gpt2", "/tmp/x", "a/b/c", "C:\\models\\x"):
        with pytest.raises(SystemExit):
            cli.main([*arguments, wrong])
        assert "wanted OWNER/NAME" in capsys.readouterr().err
    parsed = cli.make_parser().parse_args([*arguments, "https://huggingface.co/owner/name/tree/main"])
    assert parsed.base_model == "owner/name"
