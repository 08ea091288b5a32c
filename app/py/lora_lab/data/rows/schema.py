"""A row's JSON object -> a conversation or a text, with everything that cannot be trained on refused by name.

Known formats, the first whose keys are all present being taken: conversational (`messages`), sharegpt
(`conversations`), preference (`chosen`, `rejected`: recognised and kept aside), prompt-completion, alpaca
(`instruction`, `output`), text. Another one becomes one more entry of `_READERS` and a function. A label beside an
answer (KTO) makes its row a preference row: trained where the label says that the answer is good, else kept aside.

Every column is used or named in the row's `unused`. A system prompt may stand beside the turns under many names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lora_lab.data.problems import Problem, RowError, shown
from lora_lab.data.rows import names
from lora_lab.data.rows.mapped import below, read_history, read_mapped, read_side, system_text, want_assistant
from lora_lab.data.rows.mapping import ColumnMapping
from lora_lab.data.rows.messages import Message, read_messages
from lora_lab.data.rows.parts import Unused, check_text, holds, joined
from lora_lab.data.rows.preference import label_of, pair_of, want_good
from lora_lab.data.rows.row import Conversation, RawRow, Row, TextRow

FORMATS = ("conversational", "prompt-completion", "text", "alpaca", "sharegpt", "preference")
_TOOLS = ("tools", "functions")
_SYSTEM = frozenset(names.SYSTEM)


def read_row(raw: RawRow, mapping: ColumnMapping | None = None) -> Row | Problem:
    """Return the row that a JSON object stands for, or what is wrong with it. Raises nothing.

    With a `mapping`, its columns say what the row is.
    """
    try:
        if mapping is not None and not mapping.as_known:
            return read_mapped(raw.line, raw.value, mapping)
        return _read_known(raw.line, raw.value)
    except RowError as error:
        return error.at(raw.line)


def format_of(value: dict[str, Any]) -> str | None:
    """Return the format that a row's keys say it has, None for another."""
    shape = _shape_of(value)
    return "preference" if shape in _ANSWERED and label_of(value) is not None else shape


def _shape_of(value: dict[str, Any]) -> str | None:
    for name, keys in _KEYS:
        # A null counts as absent: tables exported as JSON carry every column in every row.
        # Without keys of its own: a pair of answers goes by several names.
        if all(value.get(key) is not None for key in keys) and (keys or pair_of(value) is not None):
            return name
    return None


def _read_known(line: int, value: dict[str, Any]) -> Row:
    shape = _shape_of(value)
    if shape is None:
        raise _unknown_row(value)
    if shape == "preference":
        raise _set_aside(value)
    unused = Unused()
    if shape == "text":
        check_text(value["text"], "text")
        unused.rest(value, ("text",))
        return TextRow(line, value["text"], unused=unused.paths)
    for key in _TOOLS:
        if value.get(key):
            raise RowError(f'the row has "{key}"', "tool calls are not supported, remove them or the row", "tools")
    messages, used = _READERS[shape](value, unused)
    kind = shape
    if len(value) > len(used):
        system, columns = _system_beside(value, used, messages, unused)
        messages, used = (*system, *messages), (*used, *columns)
        label = label_of(value) if len(value) > len(used) else None
        if label is not None:
            want_good(value, label)
            kind, used = "preference", (*used, label)
        unused.rest(value, used)
    return Conversation(line, messages, kind, unused.paths)


def _system_beside(
    value: dict[str, Any], used: tuple[str, ...], messages: tuple[Message, ...], unused: Unused
) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """Return the system turn that stands in a column beside the turns, and that column; nothing where it is not sure.

    Two columns that say different things are left unused, and so is one beside a system turn that says another thing.
    """
    columns = [key for key in value if names.plain(key) in _SYSTEM and key not in used and holds(value[key])]
    if not columns:
        return (), ()
    try:
        found = [system_text(value[key], key, unused) for key in columns]
    except RowError:  # something else than a prompt goes by this name
        return (), ()
    if any(not isinstance(text, str) for text in found) or len(set(found)) > 1 or not found[0].strip():
        return (), ()
    if messages[0].role == "system":
        return (), tuple(columns) if messages[0].content == found[0] else ()
    check_text(found[0], columns[0])
    return (Message("system", found[0]),), tuple(columns)


_Reading = tuple[tuple[Message, ...], tuple[str, ...]]  # the turns, and the columns that they were made of


def _read_conversational(value: dict[str, Any], unused: Unused) -> _Reading:
    messages = read_messages(value["messages"], "messages", unused)
    want_assistant(messages, "messages")
    return messages, ("messages",)


def _read_sharegpt(value: dict[str, Any], unused: Unused) -> _Reading:
    name = "conversations" if value.get("conversations") is not None else "conversation"
    messages = read_messages(value[name], name, unused, sharegpt=True)
    want_assistant(messages, name)
    return messages, (name,)


def _read_prompt_completion(value: dict[str, Any], unused: Unused) -> _Reading:
    # What stands in the prompt is context, also the assistant's earlier turns.
    before = [replace(message, trained=False) for message in read_side(value, "prompt", "user", unused)]
    after = read_side(value, "completion", "assistant", unused)
    want_assistant(after, "completion")
    return (*before, *after), ("prompt", "completion")


def _read_alpaca(value: dict[str, Any], unused: Unused) -> _Reading:
    history: tuple[Message, ...] = ()
    if holds(value.get("history")):
        history = read_history(value["history"], "history", unused)
    parts = [joined(value.get(name) or "", name, name, unused) for name in ("instruction", "input")]
    for name, part in zip(("instruction", "input"), parts, strict=True):
        check_text(part, name, may_be_empty=any(isinstance(other, str) and other.strip() for other in parts))
    output = joined(value["output"], "output", "output", unused)
    check_text(output, "output")
    turns = (*history, Message("user", below(*parts)), Message("assistant", output))
    return turns, tuple(name for name in ("instruction", "input", "output", "history") if name in value)


def _set_aside(value: dict[str, Any]) -> RowError:
    pair = pair_of(value)
    assert pair is not None, "the format was found by it"
    good, bad = pair
    if pair == ("chosen", "rejected"):
        said = "a preference row (chosen and rejected replies)"
    else:
        said = f'a preference row ("{good}" and "{bad}")'
    return RowError(
        f"{said}; training on preferences comes later, the row is kept aside",
        f"to learn the {'chosen' if good == 'chosen' else 'preferred'} replies, choose the columns: prompt and, "
        f"as the reply, {good}",
        "preference",
    )


# Rows with `messages` often carry a `prompt` or a `text` besides.
_KEYS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("conversational", ("messages",)),
    ("sharegpt", ("conversations",)),
    ("sharegpt", ("conversation",)),
    ("preference", ()),
    ("prompt-completion", ("prompt", "completion")),
    ("alpaca", ("instruction", "output")),
    ("text", ("text",)),
)
_ANSWERED = ("conversational", "sharegpt", "prompt-completion", "alpaca")
_READERS: dict[str, Callable[[dict[str, Any], Unused], _Reading]] = {
    "conversational": _read_conversational,
    "sharegpt": _read_sharegpt,
    "prompt-completion": _read_prompt_completion,
    "alpaca": _read_alpaca,
}


def _unknown_row(value: dict[str, Any]) -> RowError:
    wanted = 'a row needs "messages", or "prompt" and "completion", or "instruction" and "output", or "text"'
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


__all__ = ["FORMATS", "Conversation", "Message", "RawRow", "Row", "TextRow", "format_of", "read_row"]
