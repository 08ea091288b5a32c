"""What to change where a run does not fit: which settings take less memory, and how much less."""

from __future__ import annotations

from dataclasses import replace

from lora_lab.errors import LoraLabError
from lora_lab.workers.dataset.opened import Split
from lora_lab.workers.protocol import TrainSettings
from lora_lab.workers.run.planner import Planner


def less_memory(planner: Planner, settings: TrainSettings, split: Split) -> list[str]:
    """Return one line for each setting that would make the run smaller, the one that saves most first.

    Nothing is allocated for it. Where the run itself cannot be planned, the lines say what the other would take.
    """
    now = _total(planner, settings, split)
    tried = []
    for words, changed in _smaller(settings):
        then = _total(planner, changed, split)
        if then is not None and (now is None or then < now):
            tried.append((then, f"{words}: {_megabytes(then)}" + (f", {_megabytes(now - then)} less" if now else "")))
    lines = [line for _, line in sorted(tried)]
    return [*lines, "Shorter rows (Longest row), a smaller model, or other programs and tabs closed help, too."]


def _smaller(settings: TrainSettings) -> list[tuple[str, TrainSettings]]:
    found = []
    if not settings.save_memory:
        found.append(("Save memory switched on", replace(settings, save_memory=True)))
    if settings.rows_at_once != 1 and settings.batch > 1:
        found.append(("Rows at once set to 1", replace(settings, rows_at_once=1)))
    if settings.sample_every != 0:
        found.append(("No answers while it learns", replace(settings, sample_every=0)))
    if settings.rank > 1:
        half = settings.rank // 2
        found.append((f"Rank {half} in place of {settings.rank}", replace(settings, rank=half)))
    return found


def _total(planner: Planner, settings: TrainSettings, split: Split) -> int | None:
    try:
        return planner.plan(settings, split.trained, split.held).memory.total_bytes
    except LoraLabError:
        return None


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.0f} MB"
