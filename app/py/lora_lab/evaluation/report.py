"""A report of a run, out of its record: a sentence of facts, a JSON object, one HTML file that needs nothing else."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from lora_lab.evaluation.answers import answers_of, is_match, matches_of
from lora_lab.evaluation.closed import to_plain
from lora_lab.evaluation.curves_svg import picture_of
from lora_lab.evaluation.neutral import in_words
from lora_lab.evaluation.record import RunRecord
from lora_lab.evaluation.results import ValidationResult
from lora_lab.evaluation.settings_travel import run_command
from lora_lab.evaluation.settings_values import BY_NAME, said
from lora_lab.setting_schema import plain

FORM = 1
TEMPLATE = Path(__file__).with_name("report.html.jinja")
STOPPED = {"end": "", "by hand": "stopped by hand", "early": "stopped early", "failed": "ended by an error"}


def headline(record: RunRecord) -> str:
    """Return what came of a run in one sentence of facts."""
    outcome, after, before = record.outcome, record.validation_kept, record.validation_before
    of = f"step {outcome.kept_step or outcome.steps:,} of {outcome.total_steps:,}"
    if after is not None:
        was = f"{loss_words(before.loss)} → " if before is not None else ""
        parts = [f"Validation loss {was}{loss_words(after.loss)} at step {after.step:,} of {outcome.total_steps:,}"]
    elif record.steps.loss:
        was = f"{loss_words(record.steps.loss[0])} → " if len(record.steps.loss) > 1 else ""
        parts = [f"Loss {was}{loss_words(_kept_loss(record))} at {of}; no rows were held back to check on"]
    else:
        parts = [f"The adapter of {of}; its losses are not known"]
    matches = matches_of(answers_of(record))
    if matches.of:
        plural = "answer matches" if matches.of == 1 else "answers match"
        parts.append(f"{matches.after} of {matches.of} {plural} the data")
    if outcome.steps < outcome.total_steps and STOPPED[outcome.stopped]:
        parts.append(f"{STOPPED[outcome.stopped]} after step {outcome.steps:,}")
    return "; ".join(parts) + "."


def _kept_loss(record: RunRecord) -> float:
    steps = record.steps
    found = [loss for step, loss in zip(steps.step, steps.loss, strict=True) if step <= record.outcome.kept_step]
    return found[-1] if found else steps.loss[-1]


def loss_words(loss: float) -> str:
    """Return a loss as people write it: 2.91, 0.048."""
    return f"{loss:.2f}" if loss >= 0.1 or loss == 0 else f"{loss:.3f}"


# ---------------------------------------------------------------------------------------------------- JSON


def report_json(record: RunRecord) -> dict[str, Any]:
    """Return the report as values for JSON: what the HTML shows, and the curves."""
    answers = answers_of(record)
    return {
        "form": FORM,
        "headline": headline(record),
        "name": record.name,
        "program": record.program,
        "verdict": to_plain(record.outcome.verdict),
        "outcome": to_plain(replace(record.outcome, verdict=None)),
        "before": _numbers(record.validation_before),
        "after": _numbers(record.validation_kept),
        "answers": [
            {**to_plain(one), "matches": is_match(one.after, one.expected) if one.expected else None} for one in answers
        ],
        "matches": vars(matches_of(answers)),
        "neutral": None if record.neutral is None else {
            **to_plain(record.neutral), "rose": record.neutral.rose, "advice": list(record.neutral.advice),
        },
        "model": to_plain(record.model),
        "data": {**to_plain(record.data), "sha256": record.data.sha256},
        "machine": to_plain(record.machine),
        "time": to_plain(record.time),
        "settings": to_plain(record.settings),
        "command": run_command(record, folder_name(record)),
        "samples": to_plain(record.samples),
        "steps": to_plain(record.steps),
        "validation": to_plain(record.validation),
    }  # fmt: skip


def report_json_bytes(record: RunRecord) -> bytes:
    """Return the same as a file."""
    return (json.dumps(report_json(record), ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()


def folder_name(record: RunRecord) -> str:
    """Return a name for the folder of a run that is done again."""
    kept = "".join(letter if letter.isalnum() else "-" for letter in record.name.lower())
    return "-".join(part for part in kept.split("-") if part)[:60] or "adapter"


def _numbers(validation: ValidationResult | None) -> dict[str, Any] | None:
    if validation is None:
        return None
    finite = math.isfinite(validation.perplexity)
    return {"step": validation.step, "loss": validation.loss, "accuracy": validation.accuracy,
            "perplexity": validation.perplexity if finite else None}  # fmt: skip


# ---------------------------------------------------------------------------------------------------- HTML


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
                                     lstrip_blocks=True)  # fmt: skip
    environment.filters.update(loss=loss_words, size=_size, duration=duration, number=plain)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def report_html(record: RunRecord) -> bytes:
    """Return the report as one HTML file: no script, no other file, light and dark by the reader's wish."""
    about, neutral = report_json(record), record.neutral
    risen = sorted(neutral.rows, key=lambda row: row.base - row.tuned)[:5] if neutral else []
    text = _template().render(
        about,
        record=record,
        picture=picture_of(record),
        settings_said=_settings_said(record),
        neutral_said=in_words(neutral.rose) if neutral else "",
        most_risen=[row for row in risen if row.tuned > row.base],
        columns=[("before", record.validation_before), ("after", record.validation_kept)],
    )
    return text.encode()


def _settings_said(record: RunRecord) -> list[tuple[str, str]]:
    """Return the settings as label and value, those of the table's order."""
    found = []
    for name, setting in BY_NAME.items():
        if name in record.settings:
            label = f"{setting.label} ({setting.term})" if setting.term else setting.label
            found.append((label, said(setting, record.settings[name])))
    return found


def _size(size_bytes: int) -> str:
    if size_bytes < 10_000:
        return f"{size_bytes:,} bytes"
    return f"{size_bytes / 1e3:,.0f} kB" if size_bytes < 1e6 else f"{size_bytes / 1e6:,.1f} MB"


def duration(seconds: float) -> str:
    """Return a time as people say it: 41 s, 3 min 05 s, 2 h 07 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"
