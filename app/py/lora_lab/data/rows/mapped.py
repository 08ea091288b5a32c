"""A row as a mapping of its columns says it is to be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lora_lab.data.problems import RowError, json_kind, shown
from lora_lab.data.rows.mapping import ColumnMapping
from lora_lab.data.rows.messages import Message, read_messages
from lora_lab.data.rows.parts import Unused, as_text, check_text, holds, joined
from lora_lab.data.rows.preference import want_good
from lora_lab.data.rows.row import Conversation, Row, TextRow
from lora_lab.data.rows.transcript import read_transcript


def read_mapped(line: int, value: Mapping[str, Any], mapping: ColumnMapping) -> Row:
    """Return the row; every column that the mapping does not name is unused. RowError for what cannot be read so."""
    unused = Unused()
    if mapping.text:
        text = as_text(_column(value, mapping.text))
        check_text(text, mapping.text)
        unused.rest(value, mapping.columns)
        return TextRow(line, text, unused=unused.paths)
    if mapping.conversation:
        kind, turns = "conversational", read_turns(value, mapping.conversation, unused, bool(mapping.reply))
        if mapping.reply:
            turns = tuple(replace(turn, trained=False) for turn in turns)
    else:
        kind, turns = "prompt-completion", _before(value, mapping, unused)
    if mapping.reply:
        turns = (*turns, *read_side(value, mapping.reply, "assistant", unused, numbers=True))
    want_assistant(turns, mapping.reply or mapping.conversation or "")
    if mapping.system and holds(value.get(mapping.system)):
        text = system_text(value[mapping.system], mapping.system, unused)
        check_text(text, mapping.system)
        if turns[0].role != "system" or turns[0].content != text:
            turns = (Message("system", text), *turns)
    if mapping.label:
        want_good(value, mapping.label, mapping.at_least)
        kind = "preference"
    unused.rest(value, mapping.columns)
    return Conversation(line, turns, kind, unused.paths)


def _column(value: Mapping[str, Any], column: str) -> Any:
    found = value.get(column)
    if found is None:
        keys = ", ".join(f'"{shown(str(key), 40)}"' for key in list(value)[:6])
        said = "is null" if column in value else f"is not there; the row has {keys or 'no key'}"
        raise RowError(f'the column "{shown(column, 40)}" {said}', "choose other columns", "missing-key")
    return found


def _before(value: Mapping[str, Any], mapping: ColumnMapping, unused: Unused) -> tuple[Message, ...]:
    """Return the turns before the reply: history, then the prompt with its context below it."""
    assert mapping.prompt is not None
    context = ""
    if mapping.context and holds(value.get(mapping.context)):
        context = _context(value[mapping.context], mapping.context)
    may_be_empty = bool(context.strip()) and value.get(mapping.prompt) is not None
    prompt = read_side(value, mapping.prompt, "user", unused, numbers=True, may_be_empty=may_be_empty)
    # What stands in the prompt is context, also the assistant's earlier turns.
    turns = [replace(message, trained=False) for message in prompt]
    if context:
        if turns[-1].role != "user":
            hint = "the context is put below a user's turn; choose other columns"
            raise RowError(f'"{mapping.prompt}" ends with a turn of the {turns[-1].role}', hint, "wrong-type")
        turns[-1] = replace(turns[-1], content=below(turns[-1].content, context))
    if mapping.history and holds(value.get(mapping.history)):
        return (*read_history(value[mapping.history], mapping.history, unused), *turns)
    return tuple(turns)


def below(prompt: str, context: str) -> str:
    """Return a prompt with its context below it, after an empty line."""
    return "\n\n".join(part for part in (prompt, context) if part.strip())


def _context(value: Any, name: str) -> str:
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        value = "\n\n".join(value)
    text = as_text(value)
    check_text(text, name, may_be_empty=True)
    return text


def read_side(
    value: Mapping[str, Any], name: str, role: str, unused: Unused, numbers: bool = False, may_be_empty: bool = False
) -> tuple[Message, ...]:
    """Read a prompt or a reply: a string, which is one turn of that role; a list of messages; an object with one.

    `numbers`: a number or a boolean stands for its text.
    """
    side = _column(value, name)
    if isinstance(side, dict) and isinstance(side.get("messages"), list):
        unused.rest(side, ("messages",), f"{name}.")
        return read_messages(side["messages"], f"{name}.messages", unused)
    if isinstance(side, list) and side and not _are_parts(side):
        return read_messages(side, name, unused)
    text = joined(as_text(side) if numbers else side, name, name, unused)
    if not isinstance(text, str):
        raise RowError(f'"{name}" is {json_kind(side)}', "it must be a string or a list of messages", "wrong-type")
    check_text(text, name, may_be_empty)
    return (Message(role, text),)


def _are_parts(value: list[Any]) -> bool:
    return all(isinstance(part, dict) and "text" in part and "role" not in part for part in value)


def read_turns(value: Mapping[str, Any], name: str, unused: Unused, is_prompt: bool = False) -> tuple[Message, ...]:
    """Read a column that holds a conversation: a list of messages, an object with one, a text that marks its turns.

    `is_prompt`: the last answer stands elsewhere.
    """
    found = _column(value, name)
    if isinstance(found, dict) and isinstance(found.get("messages"), list):
        unused.rest(found, ("messages",), f"{name}.")
        return read_messages(found["messages"], f"{name}.messages", unused, sharegpt=True)
    if not isinstance(found, str):
        return read_messages(found, name, unused, sharegpt=True)
    check_text(found, name)
    turns = read_transcript(found, is_prompt)
    if turns is None:
        hint = 'mark the turns as with "### Human:" and "### Assistant:", or choose other columns'
        raise RowError(f'the text in "{name}" does not say whose turn is whose', hint, "no-turns")
    return tuple(Message(role, words) for role, words in turns)


def read_history(value: Any, name: str, unused: Unused) -> tuple[Message, ...]:
    """Read earlier turns: pairs of question and answer, messages, or bare texts of which the last is an answer."""
    if isinstance(value, str) and (turns := read_transcript(value)):
        return tuple(Message(role, words) for role, words in turns)
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return read_messages(value, name, unused, sharegpt=True)
    if isinstance(value, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        places = [(f"{name}[{i}][{j}]", text) for i, pair in enumerate(value) for j, text in enumerate(pair)]
    elif isinstance(value, list) and all(isinstance(text, str) for text in value):
        places = [(f"{name}[{i}]", text) for i, text in enumerate(value)]
    else:
        raise RowError(f'"{name}" is no list of pairs', "it must be [[question, answer], …]", "wrong-type")
    found = []
    for number, (place, text) in enumerate(places):
        check_text(text, place)
        found.append(Message("assistant" if (len(places) - number) % 2 else "user", text))
    return tuple(found)


def system_text(value: Any, name: str, unused: Unused) -> Any:
    """Return a system prompt's words: a text, text parts, or an object with them (Gemini's `parts`)."""
    if isinstance(value, dict):
        key = next((key for key in ("parts", "content", "text") if value.get(key) is not None), None)
        if key is not None:
            unused.rest(value, (key, "role"), f"{name}.")
            return joined(value[key], f"{name}.{key}", f"{name}.{key}", unused)
    return joined(value, name, name, unused)


def want_assistant(messages: tuple[Message, ...], name: str) -> None:
    """Raise RowError unless there is an assistant's turn to train."""
    assistant = [message for message in messages if message.role == "assistant"]
    if not assistant:
        hint = 'add {"role": "assistant", "content": …}'
        raise RowError(f'"{name}" has no assistant turn, so nothing could be learned', hint, "no-assistant")
    if not any(message.trained for message in assistant):
        message = f'every assistant turn of "{name}" has weight 0, so nothing could be learned'
        raise RowError(message, "give one weight 1", "no-assistant")
