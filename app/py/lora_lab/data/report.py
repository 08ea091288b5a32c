"""What there is to know about a dataset before training on it: formats, problems by kind, contents, tokens."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from lora_lab.data.files.encodings import EncodingPreview, previews
from lora_lab.data.problems import Problem, ProblemGroup, ProblemLog, Severity, shown
from lora_lab.data.rows.columns_text import columns_as_text
from lora_lab.data.rows.content import ContentReport
from lora_lab.data.rows.mapping import ColumnMapping
from lora_lab.data.rows.readings import Reading
from lora_lab.data.rows.row_table import RowTable
from lora_lab.data.rows.unused import UnusedColumn, is_for_templates
from lora_lab.data.tokens.batches import batch_order
from lora_lab.data.tokens.packing import LENGTH_MULTIPLE, sequence_lengths

# OpenAI's fine-tuning guide asks for ten examples at least.
_FEW_ROWS = 10
_LENGTH_STEP = 32
_HISTOGRAM_BARS = 40


@dataclass(frozen=True)
class TokenReport:
    """A dataset in the model's own tokens. Lengths are those before the cut to `max_length`, unless they say `kept`."""

    max_length: int
    total: int
    p50: int
    p95: int
    max: int
    kept: int
    trained: int  # after the cut
    truncated: int  # rows that were cut
    tokens_cut: int
    histogram: tuple[tuple[int, int, int], ...]  # (from, to, rows): rows of from <= tokens < to
    padding_share: float  # of the tokens computed when 8 rows at once are padded to the longest of them
    packing_saves: float  # of the tokens computed, what packing rows into common sequences leaves out

    @property
    def trained_share(self) -> float:
        """The part of the kept tokens that is trained, 0 to 1."""
        return self.trained / self.kept if self.kept else 0.0


@dataclass(frozen=True)
class DatasetReport:
    """A dataset in numbers and words. `good` rows can be trained on as they are, `mendable` ones once mended."""

    files: tuple[str, ...]
    format: str
    formats: dict[str, int]
    rows: int
    good: int
    mendable: int
    improvable: int  # of the good ones, those that would be better mended
    counts: dict[Severity, int]  # of problems, also of those that are not kept word for word
    groups: tuple[ProblemGroup, ...]
    noted: tuple[Problem, ...]  # the first 1,000 of each kind, by file and line
    content: ContentReport
    columns: dict[str, int]
    unknown: int  # rows whose columns have other names than any format's
    unused: tuple[UnusedColumn, ...]  # columns of good rows that no turn was made of
    mapping: ColumnMapping | None
    suggested_mapping: ColumnMapping | None
    readings: tuple[Reading, ...]  # the ways to read the rows, where there are several
    asks: tuple[str, ...]  # why one of them has to be chosen before training
    encoding: str | None = None  # that was chosen for files that are not UTF-8
    encodings: tuple[EncodingPreview, ...] = ()  # what a place that is no UTF-8 would be in others
    tokens: TokenReport | None = None  # None: no model was there to count them

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The errors: rows (or files) that cannot be used as they are."""
        return tuple(problem for problem in self.noted if problem.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What deserves a look, but can be trained on."""
        return tuple(problem for problem in self.noted if problem.severity == "warning")

    @property
    def bad(self) -> int:
        """Rows that cannot be used as they are."""
        return self.rows - self.good

    @property
    def suggested_max_length(self) -> int:
        """512, or the 95th percentile rounded up when that is less."""
        p95 = self.tokens.p95 if self.tokens else 0
        return min(512, max(_LENGTH_STEP, math.ceil(p95 / _LENGTH_STEP) * _LENGTH_STEP))

    def as_dict(self, max_problems: int | None = None) -> dict[str, Any]:
        """Return plain values for the page and for JSON; `problems` are those of every severity.

        Of more than `max_problems`, each kind gets an even share, its first lines first.
        """
        values = asdict(replace(self, noted=()))
        del values["noted"]
        values["problems"] = [problem.as_dict() for problem in self.some_problems(max_problems)]
        values["readings"] = [reading.as_dict() for reading in self.readings]
        for name in ("mapping", "suggested_mapping"):
            mapping: ColumnMapping | None = getattr(self, name)
            values[name] = mapping.as_dict() if mapping is not None else None
        values["groups"] = [group.as_dict() for group in self.groups]
        values["bad"] = self.bad
        if self.tokens is not None:
            values["tokens"]["trained_share"] = self.tokens.trained_share
            values["suggested_max_length"] = self.suggested_max_length
        return values

    def some_problems(self, limit: int | None) -> list[Problem]:
        """Return at most `limit` of what is noted, by file and line: of each kind the first, then the second, …"""
        if limit is None or len(self.noted) <= limit:
            return list(self.noted)
        turn_of: Counter[tuple[str, str]] = Counter()
        turns = []
        for place, problem in enumerate(self.noted):
            turn_of[problem.kind, problem.severity] += 1
            turns.append((turn_of[problem.kind, problem.severity], place))
        return [self.noted[place] for place in sorted(place for _, place in sorted(turns)[:limit])]

    def as_text(self, max_problems: int = 20) -> str:
        """Return the report for a terminal; the first `max_problems` errors and warnings are written out."""
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.formats.items())
        lines = [f"{self.rows} rows, {self.good} good" + (f" ({kinds})" if kinds else "")]
        if self.mendable:
            lines.append(f"{self.mendable} more could be mended")
        if self.improvable:
            lines.append(f"{self.improvable} of the good ones would be better mended")
        if self.tokens is not None and self.good:
            tokens = self.tokens
            lines.append(
                f"tokens: {tokens.total} in all; p50 {tokens.p50}, p95 {tokens.p95}, max {tokens.max}; "
                f"{tokens.trained} trained ({100 * tokens.trained_share:.0f} %); {tokens.truncated} rows cut to "
                f"{tokens.max_length}"
            )
        for name, severity, entries in (("problem", "error", self.problems), ("warning", "warning", self.warnings)):
            count = self.counts[severity]  # type: ignore[index]
            if count:
                lines.append(f"{count} {name}{'s' if count != 1 else ''}:")
                lines.extend(f"  {entry}" for entry in entries[:max_problems])
            if count > min(max_problems, len(entries)):
                lines.append(f"  … and {count - min(max_problems, len(entries))} more")
        lines.extend(columns_as_text(self.unused, self.readings, self.asks, self.mapping))
        if self.encodings:
            lines.append("Not UTF-8. Which of these reads right? Say so with --encoding:")
            lines.extend(f"  {choice.name:10}{shown(choice.text)}  ({choice.label})" for choice in self.encodings)
        return "\n".join(lines)


def build_report(
    table: RowTable, tokens: TokenReport | None = None, log: ProblemLog | None = None, good: int | None = None
) -> DatasetReport:
    """Return the report of a table; with a model also `tokens`, what encoding found (`log`), and the good rows."""
    content = table.content.build()
    good = table.good if good is None else good
    gathered = ProblemLog()
    for problem in _file_warnings(table, content, good):
        gathered.add(problem)
    gathered.extend(table.problems)
    if log is not None:
        gathered.extend(log)
    order = {name: place for place, name in enumerate(table.sources)}
    # Remarks about the whole stand first; then by file and line.
    noted = sorted(gathered.kept, key=lambda problem: (order.get(problem.source, 0), problem.line))
    return DatasetReport(
        files=table.sources,
        format=table.format,
        formats=dict(table.formats),
        rows=table.rows,
        good=good,
        mendable=0 if table.uses_mended else table.mendable,
        improvable=table.improvable,
        counts=dict(gathered.counts),
        groups=gathered.groups,
        noted=tuple(noted),
        content=content,
        columns=dict(table.columns.most_common(100)),
        unknown=table.unknown,
        # With a model its template has been given the reasoning, and has been watched for what it leaves out.
        unused=tuple(one for one in table.unused_columns() if tokens is None or not is_for_templates(one.column)),
        mapping=table.mapping,
        suggested_mapping=table.guess() if table.mapping is None else None,
        readings=table.readings(),
        asks=table.asks(),
        encoding=table.encoding,
        encodings=previews(table.not_utf8),
        tokens=tokens,
    )


def _file_warnings(table: RowTable, content: ContentReport, good: int) -> list[Problem]:
    found = []
    if 0 < good < _FEW_ROWS:
        said = f"only {good} good row{'s' * (good != 1)}; ten or more are usual"
        found.append(Problem(1, said, kind="few-rows", severity="warning"))
    if len(table.formats) > 1:
        kinds = " and ".join(f"{count} {kind}" for kind, count in table.formats.items())
        found.append(Problem(1, f"the rows are of different kinds: {kinds}", kind="mixed-formats", severity="warning"))
    for kind, said, duplicates in (
        ("duplicate", "repeat", content.exact_duplicates),
        ("near-duplicate", "nearly repeat", content.near_duplicates),
    ):
        if duplicates.count:
            line, first = duplicates.examples[0]
            count = duplicates.count
            rows = f"row {said}s an earlier one" if count == 1 else f"rows {said} earlier ones"
            message = f"{count} {rows} (this one: line {first}); all are kept"
            found.append(Problem(line, message, kind=kind, severity="warning"))
    return found


def token_report(lengths: np.ndarray, kept: np.ndarray, trained: int, max_length: int, seed: int = 0) -> TokenReport:
    """Return the numbers of rows of `lengths` (N) tokens, of which `kept` (N) are left after the cut; both int64."""
    ordered = np.sort(lengths)
    padding, saves = padding_and_packing(kept, 8, seed)
    total, left = int(lengths.sum()), int(kept.sum())
    return TokenReport(
        max_length=max_length,
        total=total,
        p50=percentile(ordered, 50),
        p95=percentile(ordered, 95),
        max=int(ordered[-1]) if len(ordered) else 0,
        kept=left,
        trained=trained,
        truncated=int(np.count_nonzero(lengths > kept)),
        tokens_cut=total - left,
        histogram=histogram(ordered),
        padding_share=padding,
        packing_saves=saves,
    )


def percentile(ordered: Sequence[int] | np.ndarray, percent: int) -> int:
    """Return the smallest value that `percent` of the values do not exceed (nearest rank), 0 for none."""
    if not len(ordered):
        return 0
    return int(ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)])


def histogram(ordered: Sequence[int] | np.ndarray) -> tuple[tuple[int, int, int], ...]:
    """Return at most 40 bars (from, to, rows) of one round width that hold all values; none for no value."""
    if not len(ordered):
        return ()
    least = int(ordered[-1]) // _HISTOGRAM_BARS + 1
    digits = 10 ** max(0, len(str(least)) - 1)
    width = next(step * digits for step in (1, 2, 4, 5, 10) if step * digits >= least)
    counts = np.bincount(np.array(ordered, np.intp) // width)
    return tuple((bar * width, (bar + 1) * width, int(count)) for bar, count in enumerate(counts))


def padding_and_packing(lengths: np.ndarray, batch: int, seed: int) -> tuple[float, float]:
    """Return the share of padding in the tokens computed, and the share that packing would save (0 for none).

    `lengths` (N) in tokens; N rows in the order of a first epoch, `batch` rows at once.
    """
    if not len(lengths):
        return 0.0, 0.0
    shuffled = lengths[batch_order(len(lengths), seed, 0)]
    starts = np.arange(0, len(shuffled), batch)
    longest = np.maximum.reduceat(shuffled, starts)
    totals = np.add.reduceat(shuffled, starts)
    sizes = np.diff(np.append(starts, len(shuffled)))
    padded = int((-(-longest // LENGTH_MULTIPLE) * LENGTH_MULTIPLE * sizes).sum())
    # The choice of lengths is quadratic in the distinct totals: of a long file, every so-manieth batch.
    sample = totals[:: max(1, len(totals) // 20_000)]
    room = np.array(sequence_lengths(sample), np.int64)
    packed = int(room[np.minimum(np.searchsorted(room, totals), len(room) - 1)].sum())
    return 1 - int(totals.sum()) / padded, max(0.0, 1 - packed / padded)
