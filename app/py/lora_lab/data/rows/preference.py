"""Rows that say how good an answer is: two answers, or one with a label (KTO) or a rating."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_lab.data.problems import RowError, shown
from lora_lab.data.rows.names import LABEL, PAIRS, RATING, plain

_VERDICTS = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False,
             "desirable": True, "undesirable": False, "good": True, "bad": False}  # fmt: skip
_PAIRS = tuple((pair, frozenset(pair)) for pair in PAIRS)
_LABELS, _RATINGS = frozenset(LABEL), frozenset(RATING)


def pair_of(value: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the columns of the better and the worse answer, None where a row has no two of them."""
    for pair, names in _PAIRS:
        if names <= value.keys() and value[pair[0]] is not None and value[pair[1]] is not None:
            return pair
    return None


def label_of(value: Mapping[str, Any]) -> str | None:
    """Return the column that says whether the row's answer is good, None where there is none.

    A rating that is true or false says the same.
    """
    for key, item in value.items():
        name = plain(key)
        if (name in _LABELS and verdict(item) is not None) or (name in _RATINGS and isinstance(item, bool)):
            return key
    return None


def rating_of(value: Mapping[str, Any]) -> str | None:
    """Return the column that says by a number how good the row's answer is, None where there is none."""
    return next((key for key, item in value.items() if plain(key) in _RATINGS and number_of(item) is not None), None)


def verdict(value: Any) -> bool | None:
    """Return what a label says: true, false, 1, 0 and a few words; None for anything else."""
    if isinstance(value, str):
        return _VERDICTS.get(value.strip().lower())
    return bool(value) if isinstance(value, (bool, int, float)) and value in (0, 1) else None


def number_of(value: Any) -> float | None:
    """Return a number, or the number that a text is; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < float("inf") else None


def want_good(value: Mapping[str, Any], column: str, at_least: float | None = None) -> None:
    """Raise RowError (the row is set aside) unless a label says that the answer is good, or a rating is high enough."""
    found, name = value.get(column), shown(column, 40)
    if at_least is None:
        said = verdict(found)
        if said is None:
            raise RowError(f'"{name}" says neither true nor false', "such rows are set aside", "preference")
        if not said:
            message = (
                f'the answer is marked as a bad one ("{name}" is {shown(str(found).lower(), 20)}); it is set aside'
            )
            raise RowError(message, "only rows with true are trained", "preference")
        return
    number = number_of(found)
    if number is None:
        raise RowError(f'"{name}" is no number', "such rows are set aside", "preference")
    if number < at_least:
        message = f'the answer is rated {number:g} ("{name}"), less than {at_least:g}; it is set aside'
        raise RowError(message, "only rows with that rating or a higher one are trained", "preference")
