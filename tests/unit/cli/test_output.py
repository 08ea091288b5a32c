"""Where an adapter goes: the old one or the new one whole at every moment; looked at before; elsewhere if need be."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lora_lab.cli import main as cli
from lora_lab.cli import output
from lora_lab.cli.output import NEW, OLD, check_room, place, place_somewhere, prepare_out
from lora_lab.errors import LoraLabError

NEW_FILES = {"adapter_model.safetensors": b"new weights", "adapter_config.json": b"{}", "README.md": b"new card"}
OLD_FILES = {**dict.fromkeys(NEW_FILES, b"old"), "chat_template.jinja": b"old template"}


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(params=["one step", "two steps"])
def swap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Systems that exchange two folders in one step, and others."""
    if request.param == "two steps":
        monkeypatch.setattr(output, "_swap", lambda first, second: False)
    yield request.param


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder with an earlier adapter, and what else a person keeps there."""
    folder = tmp_path / "adapter"
    (folder / "notes").mkdir(parents=True)
    for name, data in OLD_FILES.items():
        (folder / name).write_bytes(data)
    (folder / "notes" / "mine.txt").write_text("mine")
    return folder


def test_a_new_folder(tmp_path: Path, swap: str) -> None:
    prepare_out(tmp_path / "a" / "b")
    place(tmp_path / "a" / "b", NEW_FILES)
    assert content(tmp_path) == {f"a/b/{name}": data for name, data in NEW_FILES.items()}
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o777 & ~umask


def test_an_earlier_adapter_is_replaced_and_what_else_is_there_stays(out: Path, swap: str) -> None:
    before = out / "adapter_model.safetensors"
    kept = before.open("rb")
    place(out, NEW_FILES)
    assert content(out) == {**NEW_FILES, "notes/mine.txt": b"mine"}
    assert kept.read() == b"old", "the old file was written into"
    kept.close()
    assert [path.name for path in out.parent.iterdir()] == ["adapter"]


def test_a_models_own_template_stays(out: Path) -> None:
    (out / "config.json").write_text("{}")
    place(out, NEW_FILES)
    assert content(out)["chat_template.jinja"] == b"old template"


STEPS: list[tuple[Any, str]] = [
    (output, "write_synced"), (output.shutil, "copytree"), (output, "sync_folder"), (output, "_exchange"),
    (output.tempfile, "mkdtemp"),
]  # fmt: skip


@pytest.mark.parametrize(("owner", "name"), STEPS, ids=[name for _, name in STEPS])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_where_it_breaks_the_earlier_adapter_is_whole_and_nothing_else_is_left(
    out: Path, owner: Any, name: str, count: int, swap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def breaks(*arguments: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > count:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments, **more)

    monkeypatch.setattr(owner, name, breaks)
    try:
        place(out, NEW_FILES)
    except OSError as error:
        assert "No space left on device" in str(error.strerror)
        if name != "mkdtemp":
            assert error.filename, "the message names no file"
    old, new = {**OLD_FILES, "notes/mine.txt": b"mine"}, {**NEW_FILES, "notes/mine.txt": b"mine"}
    assert content(out) in (old, new)
    assert [path.name for path in out.parent.iterdir()] == ["adapter"]


def test_a_move_that_is_cut_off_between_its_two_steps_is_undone_by_the_next_run(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(self: Path, target: Path) -> None:
        if self.suffix == NEW:
            raise Killed
        real(self, target)

    real = Path.rename
    monkeypatch.setattr(output, "_swap", lambda first, second: False)
    monkeypatch.setattr(output.Path, "rename", killed)
    monkeypatch.setattr(output.shutil, "rmtree", lambda *_, **__: None)  # a process that is killed removes nothing
    with pytest.raises(Killed):
        place(out, NEW_FILES)
    assert not out.exists()
    assert {path.suffix for path in out.parent.iterdir()} == {NEW, OLD}
    monkeypatch.undo()
    prepare_out(out)
    assert content(out.parent) == {f"adapter/{name}": data for name, data in OLD_FILES.items()} | {
        "adapter/notes/mine.txt": b"mine"
    }


def test_it_is_put_elsewhere_and_said_where(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out.parent.joinpath("file").write_text("in the way")
    where = place_somewhere(out.parent / "file", NEW_FILES)
    assert where == out.parent / "file-2"
    assert content(where) == NEW_FILES
    assert f"could not be put into {out.parent / 'file'} (" in capsys.readouterr().err


def test_a_disk_that_is_full_is_found_before(tmp_path: Path) -> None:
    check_room(tmp_path / "out", 1)
    with pytest.raises(LoraLabError, match=r"has [\d,.]+ MiB free; .* choose a smaller --rank"):
        check_room(tmp_path / "out", 1 << 60)


def test_a_folder_around_that_refuses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(output.tempfile, "TemporaryDirectory", refuse)
    with pytest.raises(LoraLabError, match=f"{tmp_path} cannot be written .Permission denied"):
        prepare_out(tmp_path / "out")


@pytest.mark.parametrize(
    ("made", "words"),
    [("file", "is a file; wanted a folder"), ("here", "is the folder that you are in"), ("/", "that you are in")],
)
def test_places_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: str, words: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(LoraLabError, match=words):
        prepare_out(tmp_path / made)


@pytest.mark.parametrize("option", ["--out", "--data", "--log", "--init-adapter", "--resume", "--val-file"])
@pytest.mark.parametrize("nothing", ["", " "])
def test_no_path_is_the_current_folder_by_its_absence(
    option: str, nothing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "--data", "d", "--out", "o", option, nothing]
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    assert f"{option}: {nothing!r} found; wanted a path" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--alpha", "1e30"), ("--steps", str(10**18)), ("--warmup-steps", str(10**30)), ("--epochs", "1e30"),
        ("--rank", str(10**18)), ("--batch", str(10**18)), ("--accumulate", str(10**18)),
        ("--activation-memory", str(10**18)), ("--checkpoint-every", str(10**18)), ("--max-length", str(10**18)),
    ],
)  # fmt: skip
def test_numbers_that_no_run_can_have_are_refused_at_once(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["train", "--data", "d", "--out", "o", option, value])
    assert end.value.code == 2
    assert f"argument {option}: {value} must be at most" in capsys.readouterr().err
