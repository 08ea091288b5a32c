"""The worker and files that mean harm, or hold more that is wrong than anyone would read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_lab.workers.protocol import PreviewMapping, ReadDataset, SaveCleaned
from tests.unit.workers.helpers import Session, check_well_formed, drive, failures, named

HOSTILE = [
    {"prompt": "<script>alert(1)</script><img src=x onerror=alert(1)>", "completion": "</textarea>\0\x1b[31m"},
    {"prompt": "\u202eright to left", "completion": "\ufffe\uffff\ufdd0 noncharacters"},
    {"prompt": "deep", "completion": "[" * 5000},
    {"__proto__": "x", "constructor": "y", "\ud800 half a key": "z"},
    {"prompt": "half \ud83d", "completion": "\udc00"},
    {"prompt": "a", "completion": "b", "extra": 10**30},
]


def test_nothing_that_a_file_holds_breaks_the_wire(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [*map(json.dumps, HOSTILE), "\ud800 no JSON", '{"a": 1e999999}', '{"prompt": "\0"', "[" * 3000]

    async def work(session: Session) -> None:
        await session.send(ReadDataset((named("evil\ud800<b>.jsonl", "\n".join(lines)),)))
        assert session.ready.rows == len(lines)
        await session.send(PreviewMapping({"prompt": "\ud800 half a key", "reply": "__proto__"}))
        await session.send(ReadDataset(text="\n".join(lines)))
        await session.send(SaveCleaned())

    # Every event has been held against what a JavaScript string can be (Page.post); that this can fail is shown below.
    assert failures(drive(tiny_model_folder, monkeypatch, work)) == []


def test_a_half_character_would_be_noticed() -> None:
    with pytest.raises(UnicodeEncodeError):
        check_well_formed({"text": ["\ud800"]})
    with pytest.raises(UnicodeEncodeError):
        check_well_formed({"\ud800": 1})


def test_many_problems_are_cut_to_an_even_share(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(session: Session) -> None:
        lines = ['{"text": "a",}'] * 900 + ["{'text': 'b'}"] * 900 + ['{"text": ""}'] * 5
        await session.send(ReadDataset(text="\n".join(lines)))
        told = session.ready.report["problems"]
        by_kind: dict[str, list[int]] = {}
        for problem in told:
            by_kind.setdefault(problem["kind"], []).append(problem["line"])
        assert len(told) == 200
        assert len(by_kind["empty-content"]) == 5  # the rare kind is whole, however late it stands
        assert by_kind["trailing-comma"][:3] == [1, 2, 3] and by_kind["single-quotes"][:3] == [901, 902, 903]
        assert abs(len(by_kind["trailing-comma"]) - len(by_kind["single-quotes"])) <= 1

    drive(tiny_model_folder, monkeypatch, work)
