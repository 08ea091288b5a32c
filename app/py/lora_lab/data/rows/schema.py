"""A row's JSON object -> a conversation or a text, with everything that cannot be trained on refused by name.

Known formats, the first whose keys are all present being taken: conversational (`messages`), sharegpt
(`conversations`), preference (`chosen`, `rejected`: recognised and kept aside), prompt-completion, alpaca
(`instruction`, `output`), text. Another one becomes one more entry of `_READERS` and a function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from lora_lab.data.problems import Problem, RowError, json_kind, shown
from lora_lab.data.rows.mapping import ColumnMapping
from lora_lab.data.rows.messages import Message, check_text, read_messages, refuse_tools

FORMATS = ("conversational", "prompt-completion", "text", "alpaca", "sharegpt", "preference")


@dataclass(frozen=True)
class RawRow:
    """One row's JSON object, not yet looked at. `line` is where it begins."""

    line: int
    value: Any


@dataclass(frozen=True)
class Conversation:
    """Turns that go through the chat template; the assistant's are trained. `kind` is the row's format."""

    line: int
    messages: tuple[Message, ...]
    kind: str = "conversational"

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(message.content for message in self.messages)


@dataclass(frozen=True)
class TextRow:
    """Text that is trained as it stands, with the end-of-text token after it."""

    line: int
    text: str
    kind: str = "text"

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.text,)


Row = Conversation | TextRow


def read_row(raw: RawRow, mapping: ColumnMapping | None = None) -> Row | Problem:
    """Return the row that a JSON object stands for, or what is wrong with it. Raises nothing.

    With a `mapping`, its columns say what the row is, and the row's other keys do not matter.
    """
    try:
        if mapping is not None:
            return _read_mapped(raw.line, mapping.apply(raw.value))
        reader = _READERS.get(format_of(raw.value) or "")
        if reader is None:
            raise _unknown_row(raw.value)
        return reader(raw.line, raw.value)
    except RowError as error:
        return error.at(raw.line)


def format_of(value: dict[str, Any]) -> str | None:
    """Return the format that a row's keys say it has, None for another."""
    for name, keys in _KEYS:
        # A null counts as absent: tables exported as JSON carry every column in every row.
        if all(value.get(key) is not None for key in keys):
            return name
    return None


def _read_mapped(line: int, value: dict[str, Any]) -> Row:
    if "text" in value:
        return _read_text(line, value)
    row = _read_prompt_completion(line, value)
    if value.get("system"):
        check_text(value["system"], "system")
        row = replace(row, messages=(Message("system", value["system"]), *row.messages))
    return row


def _read_conversational(line: int, value: dict[str, Any]) -> Conversation:
    refuse_tools(value)
    messages = read_messages(value["messages"], "messages")
    _want_assistant(messages, "messages")
    return Conversation(line, messages)


def _read_sharegpt(line: int, value: dict[str, Any]) -> Conversation:
    refuse_tools(value)
    name = "conversations" if value.get("conversations") is not None else "conversation"
    messages = read_messages(value[name], name, sharegpt=True)
    if isinstance(value.get("system"), str) and value["system"] and messages[0].role != "system":
        check_text(value["system"], "system")
        messages = (Message("system", value["system"]), *messages)
    _want_assistant(messages, name)
    return Conversation(line, messages, "sharegpt")


def _read_prompt_completion(line: int, value: dict[str, Any]) -> Conversation:
    refuse_tools(value)
    # What stands in the prompt is context, also the assistant's earlier turns.
    before = [replace(message, trained=False) for message in _read_side(value, "prompt", "user")]
    after = _read_side(value, "completion", "assistant")
    _want_assistant(after, "completion")
    return Conversation(line, (*before, *after), "prompt-completion")


def _read_side(value: dict[str, Any], name: str, role: str) -> tuple[Message, ...]:
    """Read a prompt or a completion: a string, which is one turn of that role, or a list of messages."""
    side = value[name]
    if isinstance(side, list):
        return read_messages(side, name)
    if not isinstance(side, str):
        raise RowError(f'"{name}" is {json_kind(side)}', "it must be a string or a list of messages", "wrong-type")
    check_text(side, name)
    return (Message(role, side),)


def _read_alpaca(line: int, value: dict[str, Any]) -> Conversation:
    messages: list[Message] = []
    if value.get("system"):
        check_text(value["system"], "system")
        messages.append(Message("system", value["system"]))
    history = value.get("history") or []
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise RowError('"history" is no list of pairs', "it must be [[question, answer], …]", "wrong-type")
    for number, (question, answer) in enumerate(history):
        check_text(question, f"history[{number}][0]")
        check_text(answer, f"history[{number}][1]")
        messages += [Message("user", question), Message("assistant", answer)]
    parts = [value["instruction"], value.get("input") or ""]
    for name, part in zip(("instruction", "input"), parts, strict=True):
        check_text(part, name, may_be_empty=any(isinstance(other, str) and other.strip() for other in parts))
    check_text(value["output"], "output")
    messages.append(Message("user", "\n\n".join(part for part in parts if part.strip())))
    messages.append(Message("assistant", value["output"]))
    return Conversation(line, tuple(messages), "alpaca")


def _read_preference(line: int, value: dict[str, Any]) -> Conversation:
    raise RowError(
        "a preference row (chosen and rejected replies); training on preferences comes later, the row is kept aside",
        "to learn the chosen replies, choose the columns: prompt and, as the reply, chosen",
        "preference",
    )


def _read_text(line: int, value: dict[str, Any]) -> TextRow:
    check_text(value["text"], "text")
    return TextRow(line, value["text"])


# Rows with `messages` often carry a `prompt` or a `text` besides.
_KEYS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("conversational", ("messages",)),
    ("sharegpt", ("conversations",)),
    ("sharegpt", ("conversation",)),
    ("preference", ("chosen", "rejected")),
    ("prompt-completion", ("prompt", "completion")),
    ("alpaca", ("instruction", "output")),
    ("text", ("text",)),
)
_READERS: dict[str, Callable[[int, dict[str, Any]], Row]] = {
    "conversational": _read_conversational,
    "sharegpt": _read_sharegpt,
    "preference": _read_preference,
    "prompt-completion": _read_prompt_completion,
    "alpaca": _read_alpaca,
    "text": _read_text,
}


def _unknown_row(value: dict[str, Any]) -> RowError:
    wanted = 'wanted is "messages", or "prompt" and "completion", or "instruction" and "output", or "text"'
    if not value:
        return RowError("the row is an empty object", wanted, "unknown-columns")
    for key in ("messages", "conversations", "prompt", "completion", "instruction", "output", "text"):
        if key in value and value[key] is None:
            return RowError(f'"{key}" is null', wanted, "missing-key")
    pairs = (("prompt", "completion"), ("instruction", "output"))
    for one, other in (*pairs, *((b, a) for a, b in pairs)):
        if one in value:
            return RowError(f'the row has "{one}" but no "{other}"', wanted, "missing-key")
    if "role" in value and "content" in value:
        hint = f'put a conversation\'s turns into one row: {{"messages": [ … ]}}; {wanted}'
        return RowError("the row is a single message", hint, "unknown-columns")
    lists = [key for key, item in value.items() if isinstance(item, list) and item and isinstance(item[0], dict)]
    if len(lists) == 1 and len(value[lists[0]]) > 1 and "role" not in value[lists[0]][0]:
        hint = "write that list by itself, as the whole file"
        return RowError(f'the rows seem to stand in a list called "{shown(lists[0], 40)}"', hint, "unknown-columns")
    keys = ", ".join(f'"{shown(key, 40)}"' for key in list(value)[:6])
    more = ", …" if len(value) > 6 else ""
    return RowError(f"the row has the keys {keys}{more}", f"{wanted}; or choose which column is which",
                    "unknown-columns")  # fmt: skip


def _want_assistant(messages: tuple[Message, ...], name: str) -> None:
    assistant = [message for message in messages if message.role == "assistant"]
    if not assistant:
        hint = 'add {"role": "assistant", "content": …}'
        raise RowError(f'"{name}" has no assistant turn, so nothing could be learned', hint, "no-assistant")
    if not any(message.trained for message in assistant):
        message = f'every assistant turn of "{name}" has weight 0, so nothing could be learned'
        raise RowError(message, "give one weight 1", "no-assistant")


__all__ = ["FORMATS", "Conversation", "Message", "RawRow", "Row", "TextRow", "format_of", "read_row"]
