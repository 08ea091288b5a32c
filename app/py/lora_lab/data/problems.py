"""What is wrong with a dataset: where, of what kind, how bad, and how to mend it; gathered and counted by kind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from lora_lab.data.problem_titles import is_about_file, title_of

# error: the row cannot be used as it is; warning: it can, but deserves a look; info: good to know.
Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")

# Problems of one kind that are kept word for word; further ones are only counted. A file can have a million of them.
KEPT_PER_KIND = 1000
_FIRST_LINES = 10
_MESSAGE_CHARACTERS = 600
CAN_MEND = "this can be mended"  # how the hint of a problem with a repair ends
_QUOTES = (
    ("message", _MESSAGE_CHARACTERS), ("hint", _MESSAGE_CHARACTERS), ("near", 200), ("before", 200), ("after", 400),
)  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """One thing about a dataset that a person should know. Lines and columns count from 1, columns in characters.

    `kind` is a short fixed name (`trailing-comma`), `near` the text around the place, `repair` the row as it would be
    mended where that can be done, `before` and `after` the place where mending changes it, `source` the file's name.
    What the texts quote from the file (`repair` quotes it all) can be shown anywhere: control characters and half
    characters are replaced, and it is short.
    """

    line: int
    message: str
    column: int | None = None
    near: str = ""
    kind: str = "row"
    severity: Severity = "error"
    hint: str = ""
    repair: str = ""
    source: str = ""
    before: str = ""
    after: str = ""

    def __post_init__(self) -> None:
        for name, limit in _QUOTES:
            value = getattr(self, name)
            if len(value) > limit or not value.isprintable():
                object.__setattr__(self, name, shown(value, limit))

    @property
    def said(self) -> str:
        """What is wrong and how to mend it, without the place."""
        return f"{self.message}; {self.hint}" if self.hint else self.message

    def __str__(self) -> str:
        file = f"{self.source}, " if self.source else ""
        place = f"{file}line {self.line}" + (f", column {self.column}" if self.column is not None else "")
        return f"{place}: {self.said}" + (f" (near: {self.near})" if self.near else "")

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, `text` being the whole sentence."""
        return {**vars(self), "repair": well_formed(self.repair), "text": str(self)}


class RowError(ValueError):
    """Raised inside this package for a bad row; always turned into a `Problem` of that row's line."""

    def __init__(self, message: str, hint: str = "", kind: str = "row") -> None:
        super().__init__(f"{message}; {hint}" if hint else message)
        self.message, self.hint, self.kind = message, hint, kind

    def at(self, line: int) -> Problem:
        """Return the error as that line's problem."""
        return Problem(line, self.message, kind=self.kind, hint=self.hint)


@dataclass(frozen=True)
class ProblemGroup:
    """All problems of one kind and severity: how many, on which lines the first ones, and one of them as example."""

    kind: str
    severity: Severity
    count: int
    first_lines: tuple[int, ...]
    message: str
    hint: str
    repairable: int  # rows of these that can be mended

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, with a title for people and whether it is about a file as a whole."""
        return {**vars(self), "title": title_of(self.kind), "about_file": is_about_file(self.kind)}


class ProblemLog:
    """Gathers problems: all are counted, the first KEPT_PER_KIND of a kind kept."""

    def __init__(self) -> None:
        self.kept: list[Problem] = []
        self.counts: dict[Severity, int] = dict.fromkeys(SEVERITIES, 0)
        self._groups: dict[tuple[str, Severity], ProblemGroup] = {}

    def add(self, problem: Problem) -> None:
        """Count a problem, and keep it while there are few of its kind."""
        self.counts[problem.severity] += 1
        key = (problem.kind, problem.severity)
        group = self._groups.get(key)
        if group is None:
            group = ProblemGroup(problem.kind, problem.severity, 0, (), problem.message, problem.hint, 0)
        lines = group.first_lines if len(group.first_lines) >= _FIRST_LINES else (*group.first_lines, problem.line)
        mended = group.repairable + bool(problem.repair)
        self._groups[key] = replace(group, count=group.count + 1, first_lines=lines, repairable=mended)
        if group.count < KEPT_PER_KIND:
            self.kept.append(problem)

    def extend(self, other: ProblemLog) -> None:
        """Take over what another log has gathered."""
        for problem in other.kept:
            self.add(problem)
        for key, group in other._groups.items():
            self.count_more(*key, group.count - min(group.count, KEPT_PER_KIND))

    def count_more(self, kind: str, severity: Severity, count: int) -> None:
        """Count further problems of a kind that is there already, without their words."""
        group = self._groups[kind, severity]
        self._groups[kind, severity] = replace(group, count=group.count + count)
        self.counts[severity] += count

    def __iter__(self) -> Iterator[Problem]:
        return iter(self.kept)

    @property
    def groups(self) -> tuple[ProblemGroup, ...]:
        """The kinds: errors first, then warnings, then what is good to know; the most frequent first."""
        order = {severity: place for place, severity in enumerate(SEVERITIES)}
        return tuple(sorted(self._groups.values(), key=lambda group: (order[group.severity], -group.count)))


_UNSHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufdd0-\ufdef]")


def shown(text: str, limit: int = 80) -> str:
    """Return a file's text so that it can be shown anywhere: short, on one line, no control or half characters."""
    short = text if len(text) <= limit else text[: limit - 1] + "…"
    return _UNSHOWN.sub("\ufffd", re.sub(r"[\t\r\n]+", " ", short))


def well_formed(text: str) -> str:
    """Return the text with half characters (lone surrogates) replaced by U+FFFD, as browsers do."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def excerpt(text: str, position: int | None, radius: int = 24) -> str:
    """Return the text around a position, shortened, on one line."""
    position = min(max(position or 0, 0), len(text))
    start, end = max(0, position - radius), min(len(text), position + radius)
    around = re.sub(r"\s+", " ", text[start:end]).strip()
    return ("…" if start else "") + shown(around, 2 * radius + 2) + ("…" if end < len(text) else "")


def json_kind(value: Any) -> str:
    """Name the kind of a JSON value in words, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "a list" if isinstance(value, list) else "an object"
