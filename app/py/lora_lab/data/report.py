"""What there is to know about a dataset before training on it: counts, token statistics, problems and warnings."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from lora_lab.data.batches import EncodedRow
from lora_lab.data.jsonl import Problem
from lora_lab.data.schema import Conversation, Row
from lora_lab.data.tokenizer import Tokenizer

# OpenAI's fine-tuning guide asks for ten examples at least.
_FEW_ROWS = 10
_LENGTH_STEP = 32


@dataclass(frozen=True)
class DatasetReport:
    """A dataset in numbers. Token counts are those before the cut to `max_length`, unless they say `kept`."""

    rows: int  # lines that are not blank
    good: int  # rows that are trained on
    kinds: dict[str, int]  # good rows by kind: messages, prompt-completion, text
    problems: tuple[Problem, ...]  # bad rows, in the file's order
    warnings: tuple[Problem, ...]  # good rows (and, on line 1, files) that deserve a look
    max_length: int
    tokens_total: int
    tokens_p50: int
    tokens_p95: int
    tokens_max: int
    tokens_kept: int
    trained_tokens: int  # after the cut
    truncated: int  # rows that were cut
    duplicates: int  # rows that say the same as an earlier one

    @property
    def trained_share(self) -> float:
        """The part of the kept tokens that is trained, 0 to 1."""
        return self.trained_tokens / self.tokens_kept if self.tokens_kept else 0.0

    @property
    def suggested_max_length(self) -> int:
        """512, or the 95th percentile rounded up when that is less."""
        return min(512, max(_LENGTH_STEP, math.ceil(self.tokens_p95 / _LENGTH_STEP) * _LENGTH_STEP))

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for the page and for JSON."""
        values = asdict(self)
        values["problems"] = [{**asdict(problem), "text": str(problem)} for problem in self.problems]
        values["warnings"] = [{**asdict(warning), "text": str(warning)} for warning in self.warnings]
        return {**values, "trained_share": self.trained_share, "suggested_max_length": self.suggested_max_length}

    def as_text(self, max_problems: int = 20) -> str:
        """Return the report for a terminal; the first `max_problems` problems and warnings are written out."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.kinds.items())
        lines = [f"{self.rows} rows, {self.good} good" + (f" ({kinds})" if kinds else "")]
        if self.good:
            share = f"{self.trained_tokens} trained ({100 * self.trained_share:.0f} %)"
            lines.append(
                f"tokens: {self.tokens_total} in all; p50 {self.tokens_p50}, p95 {self.tokens_p95}, "
                f"max {self.tokens_max}; {share}; {self.truncated} rows cut to {self.max_length}"
            )
        for name, entries in (("problem", self.problems), ("warning", self.warnings)):
            if entries:
                lines.append(f"{len(entries)} {name}{'s' if len(entries) != 1 else ''}:")
                lines.extend(f"  {entry}" for entry in entries[:max_problems])
            if len(entries) > max_problems:
                lines.append(f"  … and {len(entries) - max_problems} more")
        return "\n".join(lines)


class ReportBuilder:
    """Collects what is seen row by row; keeps numbers and hashes, not texts."""

    def __init__(self, tokenizer: Tokenizer, max_length: int) -> None:
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._rows = 0
        self._kinds: Counter[str] = Counter()
        self._problems: list[Problem] = []
        self._warnings: list[Problem] = []
        self._lengths: list[int] = []
        self._kept = 0
        self._trained = 0
        self._truncated = 0
        self._first_lines: dict[bytes, int] = {}
        self._duplicates: list[tuple[int, int]] = []
        names = [name for name in map(tokenizer.id_to_token, sorted(tokenizer.special_ids)) if name]
        self._special = re.compile("|".join(map(re.escape, names))) if names else None

    def add_problem(self, problem: Problem) -> None:
        """Count a bad row."""
        self._rows += 1
        self._problems.append(problem)

    def add_row(self, row: Row, encoded: EncodedRow) -> None:
        """Count a good row."""
        self._rows += 1
        self._kinds[row.kind] += 1
        self._lengths.append(encoded.full_length)
        self._kept += len(encoded.example.tokens)
        self._trained += encoded.example.trained_tokens
        self._truncated += encoded.full_length > len(encoded.example.tokens)
        # In the texts, not in the tokens: two long rows that begin alike are no duplicates.
        key = hashlib.blake2b(repr((row.kind, row.texts)).encode("utf-8"), digest_size=16).digest()
        first = self._first_lines.setdefault(key, row.line)
        if first != row.line:
            self._duplicates.append((row.line, first))
        for message in (*encoded.warnings, *self._row_warnings(row)):
            self._warnings.append(Problem(row.line, message))

    def _row_warnings(self, row: Row) -> list[str]:
        warnings = []
        for text in row.texts:
            match = self._special.search(text) if self._special else None
            if match:
                hint = " (was a chat template applied to it already?)" if isinstance(row, Conversation) else ""
                warnings.append(f"the text holds the special token {match.group()}{hint}; it is taken as that token")
                break
            lost = self._tokenizer.lost_bytes(text)
            if lost:
                shown = ", ".join(f"0x{byte:02X}" for byte in sorted(set(lost)))
                warnings.append(f"the model's vocabulary has no token for {shown}; {len(lost)} bytes are left out")
                break
        if isinstance(row, Conversation):
            roles = [message.role for message in row.messages]
            for index, (role, following) in enumerate(itertools.pairwise(roles)):
                if role == following:
                    warnings.append(f"messages[{index}] and messages[{index + 1}] are both {role} turns")
                    break
            if roles[-1] != "assistant":
                warnings.append(f"the conversation ends with a {roles[-1]} turn, from which nothing is learned")
        return warnings

    def build(self) -> DatasetReport:
        """Return the finished report."""
        lengths = sorted(self._lengths)
        warnings = self._file_warnings() + self._warnings
        return DatasetReport(
            rows=self._rows,
            good=len(lengths),
            kinds=dict(self._kinds),
            problems=tuple(self._problems),
            warnings=tuple(warnings),
            max_length=self._max_length,
            tokens_total=sum(lengths),
            tokens_p50=_percentile(lengths, 50),
            tokens_p95=_percentile(lengths, 95),
            tokens_max=lengths[-1] if lengths else 0,
            tokens_kept=self._kept,
            trained_tokens=self._trained,
            truncated=self._truncated,
            duplicates=len(self._duplicates),
        )

    def _file_warnings(self) -> list[Problem]:
        warnings = []
        if 0 < len(self._lengths) < _FEW_ROWS:
            warnings.append(Problem(1, f"only {len(self._lengths)} good rows; ten or more are usual"))
        if len(self._kinds) > 1:
            kinds = " and ".join(f"{count} {kind}" for kind, count in self._kinds.items())
            warnings.append(Problem(1, f"the rows are of different kinds: {kinds}"))
        if self._duplicates:
            line, first = self._duplicates[0]
            count = len(self._duplicates)
            rows = "row repeats an earlier one" if count == 1 else "rows repeat earlier ones"
            warnings.append(Problem(line, f"{count} {rows} (this one: line {first}); all are kept"))
        return warnings


def _percentile(ordered: list[int], percent: int) -> int:
    """Return the smallest value that `percent` of the values do not exceed (nearest rank), 0 for none."""
    if not ordered:
        return 0
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]
