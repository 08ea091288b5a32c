"""A dataset in the page's words: the event that describes it, its facts and remarks."""

from __future__ import annotations

from dataclasses import replace

from lora_lab.data import Dataset, DatasetReport, build_report
from lora_lab.data.problems import Problem, ProblemGroup, well_formed
from lora_lab.workers.dataset.opened import Choices, OpenDataset, Validation
from lora_lab.workers.protocol import DatasetReady, Fact, TrainSettings, ValidationPart

SHOWN_PROBLEMS = 200
SHOWN_NOTES = 4


def describe_rows(dataset: OpenDataset, choices: Choices) -> DatasetReady:
    """Return the event for a dataset whose tokens are not counted yet: no model is open, or the counting has begun."""
    report = build_report(dataset.table)
    return DatasetReady(
        name=dataset.name,
        title=dataset.title,
        rows=report.rows,
        good_rows=report.good,
        problem_count=report.counts["error"],
        report=report.as_dict(SHOWN_PROBLEMS),
        facts=(_rows_fact(report, report.good),),
        notes=_notes(report),
        max_length=choices.max_length,
        masking=choices.masking,
        on_long=choices.on_long,
        suggested=None,
        can_train=False,
        use_mended=dataset.table.uses_mended,
        request=dataset.request,
        chat_format=choices.chat_format,
    )


def describe(dataset: OpenDataset, choices: Choices, suggested: TrainSettings | None) -> DatasetReady:
    """Return the event that describes a tokenized dataset at these choices, and remember that they were shown."""
    dataset.shown = choices
    cut = dataset.cut(choices)
    report = cut.report
    good = dataset.trained_count(choices)
    validation = None
    if dataset.validation is not None:
        validation = _validation_part(dataset.validation, choices)
        report = _with_overlap(report, dataset.validation)
    can_train = bool(good) and not report.asks and (validation is None or validation.good_rows > 0)
    return DatasetReady(
        name=dataset.name,
        title=dataset.title,
        rows=report.rows,
        good_rows=good,
        problem_count=cut.bad_rows,
        report=report.as_dict(SHOWN_PROBLEMS),
        facts=_facts(cut, choices, good, validation),
        notes=_notes(report),
        max_length=choices.max_length,
        masking=choices.masking,
        on_long=choices.on_long,
        suggested=suggested,
        can_train=can_train,
        use_mended=dataset.table.uses_mended,
        request=dataset.request,
        validation=validation,
        chat_format=choices.chat_format,
    )


def _validation_part(validation: Validation, choices: Choices) -> ValidationPart:
    cut = validation.rows.cut(choices)
    # Few rows are enough to check on.
    report = replace(cut.report, groups=tuple(group for group in cut.report.groups if group.kind != "few-rows"))
    return ValidationPart(
        name=validation.name,
        rows=report.rows,
        good_rows=len(cut.examples),
        problem_count=report.counts["error"],
        overlap=len(validation.overlap.indices),
        overlap_lines=validation.overlap.lines,
        report=report.as_dict(SHOWN_PROBLEMS),
    )


def _with_overlap(report: DatasetReport, validation: Validation) -> DatasetReport:
    """Return the report with a remark about the rows that stand in the validation file too."""
    count = len(validation.overlap.indices)
    if not count:
        return report
    line, other = validation.overlap.lines[0]
    rows = "row stands" if count == 1 else "rows stand"
    message = (
        f"{count:,} {rows} in the validation file too (this one: its line {other}); left out of what is trained on"
    )
    problem = Problem(line, message, kind="in-validation", severity="warning")
    lines = tuple(line for line, _ in validation.overlap.lines[:10])
    group = ProblemGroup(problem.kind, "warning", count, lines, problem.message, "", 0)
    counts = {**report.counts, "warning": report.counts["warning"] + count}
    return replace(report, noted=(problem, *report.noted), groups=(*report.groups, group), counts=counts)


def _rows_fact(report: DatasetReport, good: int) -> Fact:
    rows = f"{good:,}" if good == report.rows else f"{good:,} of {report.rows:,}"
    # Good rows that the validation file holds too are left out.
    label = "Rows" if good == report.rows else "Good rows" if good >= report.good else "Rows used"
    return Fact(label, rows, _kinds(report.formats))


def _facts(cut: Dataset, choices: Choices, good: int, validation: ValidationPart | None) -> tuple[Fact, ...]:
    report, tokens = cut.report, cut.tokens
    if not good:
        return (Fact("Good rows", f"{good:,} of {report.rows:,}"),)
    share = round(100 * tokens.trained_share)
    facts = [
        _rows_fact(report, good),
        Fact("Tokens", f"{tokens.total:,}", "Counted by the model's own tokenizer"),
        Fact("Trained", f"{share} %", "Share of the tokens that the model learns to write; the rest is only read"),
        Fact("Typical row", f"{tokens.p50:,} tokens", "Half of the rows are shorter"),
        Fact("Longest row", f"{tokens.max:,} tokens", f"95 % have at most {tokens.p95:,}"),
    ]
    if choices.on_long == "drop":
        dropped = sum(group.count for group in report.groups if group.kind == "too-long")
        said = f"{dropped:,} above {choices.max_length:,}" if dropped else "none"
        facts.append(Fact("Rows left out", said, "Rows longer than the setting “Longest row” are not trained"))
    else:
        truncated = f"{tokens.truncated:,} at {choices.max_length}" if tokens.truncated else "none"
        facts.append(Fact("Rows cut", truncated, "Rows longer than the setting “Longest row” lose their end"))
    if validation is not None:
        overlap = f"{validation.overlap:,} of your rows stand in it and are left out" if validation.overlap else ""
        facts.append(Fact("Validation rows", f"{validation.good_rows:,}", overlap))
    return tuple(facts)


def _notes(report: DatasetReport) -> tuple[str, ...]:
    # Of each kind one: a thousand rows with the same slip are one thing to know.
    warnings = [group for group in report.groups if group.severity == "warning"]
    firsts = {problem.kind: problem for problem in reversed(report.warnings)}
    notes = []
    for group in warnings[:SHOWN_NOTES]:
        first = firsts.get(group.kind)
        said = f"{group.message}; {group.hint}" if group.hint else group.message
        place = "" if first is None or first.line == 1 else f"line {first.line}: "
        more = f" ({group.count - 1:,} more like this)" if group.count > 1 else ""
        notes.append(_sentence(f"{place}{said}{more}."))
    if len(warnings) > SHOWN_NOTES:
        notes.append(f"… and {len(warnings) - SHOWN_NOTES:,} more kinds of remarks.")
    return tuple(well_formed(note) for note in notes)


def _kinds(kinds: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
