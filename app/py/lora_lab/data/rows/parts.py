"""A turn's words, however they are written: a string, a list of text parts, a number; and what of a row is unused."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from typing import Any

from lora_lab.data.problems import RowError, json_kind, shown

_TEXT_PARTS = (None, "text", "input_text", "output_text")
_TOOL_PARTS = ("tool_use", "tool_result", "tool_call", "tool_response", "function_call", "function_call_output")


class Unused:
    """The columns of one row, by their paths (`messages[].name`), that hold something and that nothing reads."""

    def __init__(self) -> None:
        self._paths: dict[str, None] = {}

    def note(self, path: str, value: Any) -> None:
        """Remember a column, unless it is empty there."""
        if holds(value):
            self._paths[path] = None

    def rest(self, value: Mapping[str, Any], used: Container[str], prefix: str = "") -> None:
        """Remember every column of an object but the used ones."""
        for key, item in value.items():
            if key not in used:
                self.note(f"{prefix}{key}", item)

    @property
    def paths(self) -> tuple[str, ...]:
        """The columns' paths in the row's order."""
        return tuple(self._paths)


def holds(value: Any) -> bool:
    """Whether a value says anything. Null, "", and lists and objects of nothing else do not: tables that are exported
    as JSON carry every column in every row."""
    if value is None or value == "":
        return False
    if isinstance(value, dict):
        return any(holds(item) for item in value.values())
    return any(holds(item) for item in value) if isinstance(value, list) else True


def joined(value: Any, place: str, path: str, unused: Unused) -> Any:
    """Return a list of text parts as one text, a line break between them; any other value as it is.

    `place` names the value in errors, `path` in `unused`. RowError for a part that is no text.
    """
    if not isinstance(value, list) or not value:
        return value
    texts = []
    for number, part in enumerate(value):
        if not isinstance(part, dict):
            hint = 'a part must be {"type": "text", "text": …}'
            raise RowError(f"{place}[{number}] is {json_kind(part)}", hint, "wrong-type")
        kind = part.get("type")
        key = "text" if part.get("text") is not None else "content"
        text = part.get(key)
        if kind not in _TEXT_PARTS or not isinstance(text, str):
            raise _other_part(part, f"{place}[{number}]")
        texts.append(text)
        unused.rest(part, ("type", key), f"{path}[].")
    return "\n".join(text for text in texts if text)


def _other_part(part: Mapping[str, Any], place: str) -> RowError:
    kind = part.get("type")
    if kind in _TEXT_PARTS:
        hint = 'a part must be {"type": "text", "text": …}'
        return RowError(f"{place} has no text", hint, "wrong-type")
    said = f'{place} is a part of the type "{shown(str(kind), 40)}"'
    if kind in _TOOL_PARTS:
        return RowError(said, "tool calls are not supported, remove them or the row", "tools")
    return RowError(said, "pictures and other media are not supported; remove the part or the row", "media")


def as_text(value: Any) -> Any:
    """Return a number or a boolean as its JSON text, any other value as it is."""
    return json.dumps(value) if isinstance(value, (bool, int, float)) else value


def check_text(value: Any, name: str, may_be_empty: bool = False) -> None:
    """Raise RowError unless the value is a text that can be trained on."""
    if isinstance(value, str):
        if not may_be_empty and (not value or value.isspace()):
            raise RowError(f"{name} is empty", "fill it in or remove the row", "empty-content")
        if not value.isascii():
            _check_characters(value, name)
        return
    kind = "missing-content" if value is None else "wrong-type"
    raise RowError(f"{name} is {json_kind(value)}", "it must be a string", kind)


def _check_characters(value: str, name: str) -> None:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        half = ord(value[error.start])
        message = f"{name} holds half a character (\\u{half:04x} at character {error.start + 1})"
        raise RowError(message, "write both halves or none", "half-character") from None
