"""`lora-lab push`: what a hub on this machine holds afterwards, and the sentence for each way to fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import close_session, constants

from lora_lab.cli.main import main
from lora_lab.formats.peft import read_adapter, write_adapter
from tests.export_cases import adapter_for, open_path
from tests.hub_upload import UploadHub

TOKEN = "hf_test"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[UploadHub]:
    with UploadHub(TOKEN) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub
        close_session()


@pytest.fixture
def adapter(tiny_model_folder: Path, tmp_path: Path) -> Path:
    config = open_path(tiny_model_folder).config
    lora, tensors = adapter_for(config)
    folder = tmp_path / "ships"
    folder.mkdir()
    for name, content in write_adapter(tensors, lora, config, "o/base").items():
        (folder / name).write_bytes(content)
    return folder


def push(adapter: Path, model: Path, *more: str) -> int:
    return main(["push", str(adapter), "owner/ships", "--model", str(model), *more])


def test_the_hub_holds_the_adapter_with_card_and_template(
    hub: UploadHub, adapter: Path, tiny_model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(adapter, tiny_model_folder, "--private", "--message", "Ships") == 0, hub.requests
    files = hub.repositories["owner/ships"]
    base = open_path(tiny_model_folder)
    _, tensors = adapter_for(base.config)
    found = read_adapter(files, base.config)[1]
    assert all(np.array_equal(found[key], values) for key, values in tensors.items())
    assert b'base_model: "o/base"' in files["README.md"]
    assert files["chat_template.jinja"].decode() == base.files.tokenizer.chat_template
    assert (hub.private, hub.messages) == ({"owner/ships"}, ["Ships"])
    assert capsys.readouterr().out.strip() == f"{hub.url}/owner/ships/commit/{'c' * 40}"


def test_a_second_push_goes_to_the_same_repository(hub: UploadHub, adapter: Path, tiny_model_folder: Path) -> None:
    assert push(adapter, tiny_model_folder) == 0
    assert push(adapter, tiny_model_folder) == 0
    assert len(hub.messages) == 2


def test_without_a_token_it_says_how_to_get_one(
    hub: UploadHub, adapter: Path, tiny_model_folder: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.delenv("HF_TOKEN")
    assert push(adapter, tiny_model_folder) == 1
    assert "`hf auth login` keeps one" in capsys.readouterr().err
    assert hub.repositories == {}


def test_a_wrong_token_and_a_hub_that_is_down_are_told(
    hub: UploadHub, adapter: Path, tiny_model_folder: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("HF_TOKEN", "another")
    assert push(adapter, tiny_model_folder) == 1
    assert "lora-lab: " in capsys.readouterr().err
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.fail["/commit/"] = 403
    assert push(adapter, tiny_model_folder) == 1
    assert "lora-lab: " in capsys.readouterr().err
    assert hub.repositories == {"owner/ships": {}}


def test_a_name_that_is_none_is_a_mistake_in_the_arguments(adapter: Path, tiny_model_folder: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["push", str(adapter), "ships.zip", "--model", str(tiny_model_folder)])
    assert ended.value.code == 2
