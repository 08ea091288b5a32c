"""One row for the preview: what is sent of it, where jumps and searches lead, and rows that are very long."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lora_lab.data.tokens.batches import encode_row
from lora_lab.workers.dataset import shown_row
from lora_lab.workers.protocol import (
    PlanTraining,
    ReadDataset,
    ReadValidation,
    RowShown,
    ShowRow,
    TrainSettings,
)
from tests.unit.workers.helpers import Session, drive, named, pairs

SETTINGS = TrainSettings(10, 8, 2e-4, 16, 32, 64, 0, ("q_proj", "v_proj"))


async def show(session: Session, **wanted: object) -> RowShown:
    await session.send(ShowRow(**wanted))  # type: ignore[arg-type]
    return session.page.last(RowShown)


@pytest.mark.parametrize("masking", ["assistant", "last", "all"])
def test_the_tokens_shown_are_those_that_are_trained(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch, masking: str
) -> None:
    turns = [("user", "Hi"), ("assistant", "Hello."), ("user", "And?"), ("assistant", "Ünïcødé 🙂 no more.")]
    data = [{"messages": [{"role": role, "content": text} for role, text in turns]}, *pairs(3)]

    async def work(session: Session) -> None:
        await session.send(
            ReadDataset((named("d.jsonl", data),), settings=replace(SETTINGS, max_length=50, masking=masking))
        )
        model, dataset = session.worker.models.model, session.worker.datasets.dataset
        assert model is not None and dataset is not None
        for index in range(4):
            shown = await show(session, index=index, request=index + 5)
            result = encode_row(dataset.table.row(index), model.tokenizer, model.template, 1 << 30, masking)  # type: ignore[arg-type]
            example = result.example  # type: ignore[union-attr]
            trained = [bool(on) and place < 50 for place, on in enumerate(example.trained)]
            assert list(shown.token_ids) == example.tokens.tolist()
            assert list(shown.trained) == trained
            assert (shown.request, shown.index, shown.count, shown.line) == (index + 5, index, 4, index + 1)
            assert (shown.length, shown.kept) == (len(trained), min(50, len(trained)))
            assert "".join(shown.texts) == model.tokenizer.decode(example.tokens.tolist())
            assert len(shown.texts) == len(shown.special) == len(trained)

    drive(tiny_model_folder, monkeypatch, work)


def test_steps_and_jumps(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(session: Session) -> None:
        await session.send(ReadDataset((named("d.jsonl", pairs(20)),), settings=SETTINGS))
        assert session.worker.datasets.dataset is not None and session.worker.datasets.dataset.rows.encoded is not None
        lengths = session.worker.datasets.dataset.rows.encoded.lengths.tolist()
        assert (await show(session, index=19, jump="next")).index == 0
        assert (await show(session, index=0, jump="previous")).index == 19
        assert (await show(session, index=99)).index == 19
        assert (await show(session, jump="longest")).length == max(lengths)
        assert (await show(session, jump="shortest")).length == min(lengths)
        random = {(await show(session, index=3, jump="random", request=number)).index for number in range(30)}
        assert len(random) > 8
        long = [index for index, length in enumerate(lengths) if length > 64]
        assert 0 < len(long) < 20
        at, walked = 19, []
        for _ in long:
            at = (await show(session, index=at, jump="truncated")).index
            walked.append(at)
        assert walked == long
        await session.send(PlanTraining(replace(SETTINGS, max_length=1000)))
        assert (await show(session, jump="truncated")).why
        assert (await show(session, line=7)).index == 6
        assert "Line 99" in (await show(session, line=99)).why

    drive(tiny_model_folder, monkeypatch, work)


def test_a_search_finds_every_row_in_both_directions(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [
        "plain Needle",
        'a "needle" quoted',
        "n\u00e9edle",
        "hay",
        "NEEDLE\nline",
        "hay",
        "\u004eeedle",
        "new\\needle",
    ]
    data = [{"prompt": "Where?", "completion": text} for text in said]
    lines = [json.dumps(row) for row in data]
    lines[6] = lines[6].replace("Needle", "\\u004eeedle")
    lines.insert(3, "{not a row")  # indices count the rows that can be shown
    wanted = [0, 1, 4, 6, 7]

    async def walk(session: Session, words: str, jump: str | None, count: int, start: int) -> list[int]:
        at, found = start, []
        for _ in range(count):
            shown = await show(session, index=at, search=words, jump=jump)
            assert not shown.why
            at = shown.index
            found.append(at)
        return found

    async def work(session: Session) -> None:
        await session.send(ReadDataset((named("d.jsonl", "\n".join(lines)),)))
        assert await walk(session, "needle", None, 6, 7) == [*wanted, 0]
        assert await walk(session, "needle", "previous", 6, 0) == [*reversed(wanted), 7]
        assert await walk(session, "N\u00c9EDLE", None, 1, 0) == [2]
        assert await walk(session, '"needle"', None, 1, 5) == [1]
        assert await walk(session, "needle\nline", None, 1, 5) == [4]
        assert await walk(session, "\\needle", None, 1, 0) == [7]
        assert (await show(session, search="thread")).why
        # The control: without the row that is written with an escape the walk is another.
        assert [index for index in wanted if "needle" in lines[index + (index >= 3)].lower()] != wanted

    drive(tiny_model_folder, monkeypatch, work)


def test_a_very_long_row_is_sent_in_part_and_at_once(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown_row, "SHOWN_TOKENS", 1000)  # fewer than the tiny model's context

    async def work(session: Session) -> None:
        data = [{"prompt": "short", "completion": "one"}, {"prompt": "long", "completion": "many words " * 20_000}]
        await session.send(ReadDataset((named("d.jsonl", data),)))
        began = time.monotonic()
        shown = await show(session, jump="longest")
        assert time.monotonic() - began < 1
        assert len(shown.texts) == len(shown.token_ids) == len(shown.trained) == 1000
        assert shown.length > 40_000
        assert any("Shown are the first" in note for note in shown.notes)

    drive(tiny_model_folder, monkeypatch, work)


def test_rows_that_are_not_trained_say_so(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(session: Session) -> None:
        await session.send(ReadDataset((named("d.jsonl", pairs(9)),), settings=replace(SETTINGS, on_long="drop")))
        assert "more than 64" in (await show(session, jump="longest")).notes[0]
        assert "not trained on" not in (await show(session, index=0)).notes[0]
        await session.send(ReadValidation((named("v.jsonl", pairs(1)),)))
        assert "validation file" in (await show(session, index=0)).notes[0]

    drive(tiny_model_folder, monkeypatch, work)


def test_without_tokens_there_is_a_reason(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(session: Session) -> None:
        await session.send(ReadDataset((named("d.jsonl", pairs(9)),)))
        assert "model" in (await show(session, request=3)).why
        assert session.page.last(RowShown).request == 3

    drive(tiny_model_folder, monkeypatch, work, model=False)
