"""What to change where a run does not fit: only what saves something, the most first, with how much."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from lora_lab.errors import OutOfMemoryError
from lora_lab.workers.protocol import TrainSettings
from lora_lab.workers.run.advice import less_memory
from tests.unit.workers.helpers import SETTINGS
from tests.unit.workers.services.helpers import split_of


class FakePlanner:
    """A run takes 100 MB, 10 a row at once (all of them, or one), 1 a rank; half as much when memory is saved."""

    most = 10**12

    def plan(self, settings: TrainSettings, *_: Any) -> Any:
        rows = settings.rows_at_once or settings.batch
        total = (100 + 10 * rows + settings.rank) * 10**6 // (2 if settings.save_memory else 1)
        if total > self.most:
            raise OutOfMemoryError("no room")
        return SimpleNamespace(memory=SimpleNamespace(total_bytes=total))


def advice(settings: TrainSettings, planner: FakePlanner) -> list[str]:
    return less_memory(planner, settings, split_of(8))[:-1]  # type: ignore[arg-type]


def test_each_setting_says_how_much_it_saves() -> None:
    assert advice(SETTINGS, FakePlanner()) == [
        "Save memory switched on: 98 MB, 98 MB less",
        "Rows at once set to 1: 126 MB, 70 MB less",
        "Rank 8 in place of 16: 188 MB, 8 MB less",
    ]


def test_a_run_that_cannot_be_planned_is_told_what_others_would_take() -> None:
    planner = FakePlanner()
    planner.most = 130 * 10**6
    assert advice(SETTINGS, planner) == ["Save memory switched on: 98 MB", "Rows at once set to 1: 126 MB"]


def test_what_is_as_small_as_it_can_be_gets_no_advice_of_that_kind() -> None:
    assert advice(replace(SETTINGS, save_memory=True, rows_at_once=1, rank=1), FakePlanner()) == []
