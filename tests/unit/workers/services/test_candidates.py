"""Models that a person thinks of opening: what their headers say, while the open one and a run go on as they are."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lora_lab.workers.protocol import CheckModel, Failed, ModelChecked
from lora_lab.workers.services.candidates import Candidates
from tests.unit.workers.helpers import SETTINGS, Page, named
from tests.unit.workers.services.helpers import FakeDataset, FakeDatasets, FakeGpu, files_in, run_alone, split_of
from tests.unit.workers.test_fits import FakeDevice


def check(command: CheckModel, *, gpu: Any = "roomy", dataset: Any = None, training: bool = False) -> ModelChecked:
    page, runs = Page(), SimpleNamespace(training=training)
    found = FakeGpu(FakeDevice(1 << 30) if gpu == "roomy" else gpu)
    candidates = Candidates(page, found, FakeDatasets(dataset), runs)  # type: ignore[arg-type]
    run_alone(page, candidates, command)
    assert page.all(Failed) == []
    (told,) = page.all(ModelChecked)
    return told


def test_what_a_model_is_and_whether_it_fits(tiny_model_folder: Path) -> None:
    files = files_in(tiny_model_folder)
    told = check(CheckModel(files, SETTINGS, 7))
    assert (told.request, told.verdict, told.name) == (7, "fits", "tiny")
    assert told.words.startswith("Fits this GPU: a run with the present settings and rows of 64 tokens takes ")
    assert told.about.endswith(" in F32, 0.1 million parameters, 2 layers") and told.memory_bytes > 0
    of_data = check(CheckModel(files, SETTINGS), dataset=FakeDataset(split_of(9)))
    assert "your data" in of_data.words and 0 < of_data.memory_bytes < told.memory_bytes
    full = check(CheckModel(files, SETTINGS), gpu=FakeDevice(told.memory_bytes // 2))
    assert full.verdict == "too large"


def test_what_is_not_known_is_said(tiny_model_folder: Path) -> None:
    files = files_in(tiny_model_folder)
    assert check(CheckModel(files, None)).verdict == "unknown"
    alone = check(CheckModel(files, SETTINGS), gpu=None)
    assert (alone.verdict, alone.words) == ("unknown", "There is no GPU here to train it on.")
    assert alone.about
    device = FakeDevice(0)
    running = check(CheckModel(files, SETTINGS), gpu=device, training=True)
    assert running.verdict == "unknown" and running.memory_bytes > 0 and device.peak_memory_bytes == 0


def test_files_that_are_no_model_are_refused_in_words(tiny_model_folder: Path) -> None:
    files = tuple(file for file in files_in(tiny_model_folder) if not file.name.endswith("tokenizer.json"))
    told = check(CheckModel(files, SETTINGS, 3))
    assert (told.request, told.verdict, told.name) == (3, "refused", "") and "tokenizer.json is missing" in told.words


@pytest.mark.parametrize(
    ("error", "said"),
    [(OSError("it is gone"), "it is gone"), (MemoryError(), "ran out of memory"), (ValueError("x"), "unexpected")],
)
def test_whatever_goes_wrong_the_dialog_is_answered(
    tiny_model_folder: Path, error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr("lora_lab.workers.services.candidates.open_model", fail)
    told = check(CheckModel(files_in(tiny_model_folder), SETTINGS, 5))
    assert (told.request, told.verdict) == (5, "refused") and said in told.words


@pytest.mark.parametrize("first_is_slow", [True, False])
def test_a_newer_question_takes_an_older_ones_place(tiny_model_folder: Path, first_is_slow: bool) -> None:
    page, goes_on = Page(), asyncio.Event()
    candidates = Candidates(page, FakeGpu(None), FakeDatasets(), SimpleNamespace(training=False))  # type: ignore[arg-type]

    class SlowBlob:
        size = 40

        def slice(self, *_: int) -> Any:
            async def wait() -> Any:
                await goes_on.wait()
                raise OSError("gone")

            return SimpleNamespace(arrayBuffer=wait)

    slow = named("slow.gguf", b"")
    object.__setattr__(slow, "blob", SlowBlob())

    async def main() -> None:
        first = asyncio.ensure_future(candidates.check(CheckModel((slow,) if first_is_slow else (), SETTINGS, 1)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await candidates.check(CheckModel(files_in(tiny_model_folder), SETTINGS, 2))
        goes_on.set()
        await first

    asyncio.run(main())
    assert [told.request for told in page.all(ModelChecked)] == ([2] if first_is_slow else [1, 2])
