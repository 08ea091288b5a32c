"""Rows whose meaning is clear though they are not written as a format wants it: mended, where a person agrees.

A role in another spelling (`User`, `bot`, `model`), a number or a boolean as an answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lora_lab.data.problems import shown
from lora_lab.data.rows.mapping import ColumnMapping
from lora_lab.data.rows.messages import OTHER_ROLES, ROLES, message_keys
from lora_lab.data.rows.parts import as_text

_TURNS = ("messages", "conversations", "conversation", "prompt", "completion", "history")
_WORDS = ("prompt", "completion", "instruction", "input", "output")


def mend_row(value: Mapping[str, Any], mapping: ColumnMapping | None = None) -> dict[str, Any] | None:
    """Return the row mended, None where there is nothing to mend. Whether it can be read then is not looked at."""
    named = mapping.columns if mapping is not None else ()
    mended = dict(value)
    for column in (*_TURNS, *named):
        found = value.get(column)
        if isinstance(found, list):
            mended[column] = [_mend_turn(turn) for turn in found]
        elif isinstance(found, Mapping) and isinstance(found.get("messages"), list):
            mended[column] = {**found, "messages": [_mend_turn(turn) for turn in found["messages"]]}
    for column in (*_WORDS, *named):
        if column in mended:
            mended[column] = as_text(mended[column])
    # 1 and true, 0 and false are equal to Python: compared as they are written.
    return mended if json.dumps(mended) != json.dumps(dict(value)) else None


def _mend_turn(turn: Any) -> Any:
    if not isinstance(turn, Mapping):
        return turn
    mended = dict(turn)
    role_key, content_key = message_keys(mended, sharegpt=True)
    role = mended.get(role_key)
    if isinstance(role, str) and role not in ROLES:
        plain = role.strip().lower()
        other = plain if plain in ROLES else OTHER_ROLES.get(plain)
        # ShareGPT's own words are no slip there.
        if other and not (role_key == "from" and role == plain):
            mended[role_key] = other
    if content_key in mended:
        mended[content_key] = as_text(mended[content_key])
    return mended


def change(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, str]:
    """Return the first place that mending changes, as it is and as it becomes."""
    old, new = json.dumps(before, ensure_ascii=False), json.dumps(after, ensure_ascii=False)
    place = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    start = max(0, place - 28)
    around = [("…" if start else "") + shown(text[start : place + 28], 57) + "…" * (place + 28 < len(text))
              for text in (old, new)]  # fmt: skip
    return around[0], around[1]
