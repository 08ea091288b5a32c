"""Where a file's rows can be read in several ways: the likely ones, each with its first row, for a person to choose."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lora_lab.data.problems import Problem, shown
from lora_lab.data.rows import names
from lora_lab.data.rows.mapping import ColumnMapping, guess_mapping
from lora_lab.data.rows.preference import label_of, pair_of, rating_of
from lora_lab.data.rows.row import Conversation, RawRow, Row
from lora_lab.data.rows.schema import format_of, read_row
from lora_lab.data.rows.transcript import read_transcript
from lora_lab.data.rows.unused import UnusedColumns

MOST = 3
_SHOWN_CHARACTERS = 1000  # of a turn, where a reading's first row is shown
_AS_KNOWN = ColumnMapping(as_known=True)


@dataclass(frozen=True)
class Reading:
    """One way to read a file's rows. `row` is the first row so read: `{"messages": …}`, `{"text": …}` or
    `{"problem": …}`; `unused` are the columns that it leaves out there."""

    mapping: ColumnMapping
    title: str
    row: dict[str, Any]
    unused: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values; `map` is what --map takes, of long turns the beginning is there."""
        row = dict(self.row)
        if "messages" in row:
            row["messages"] = [{**turn, "content": _beginning(turn["content"])} for turn in row["messages"]]
        elif "text" in row:
            row["text"] = _beginning(row["text"])
        return {"mapping": self.mapping.as_dict(), "map": self.mapping.describe(), "title": self.title,
                "row": row, "unused": list(self.unused)}  # fmt: skip


def _beginning(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def as_messages(row: Row) -> dict[str, Any]:
    """Return a row in this program's own form: `{"messages": […]}` or `{"text": …}`."""
    if not isinstance(row, Conversation):
        return {"text": row.text}
    messages = []
    for message in row.messages:
        plain = message.as_dict()
        if message.excluded or (message.role == "assistant" and not message.trained):
            plain["weight"] = 0
        messages.append(plain)
    return {"messages": messages}


def propose(
    samples: Sequence[Mapping[str, Any]],
    columns: Iterable[str],
    unused: UnusedColumns,
    chosen: ColumnMapping | None = None,
) -> tuple[Reading, ...]:
    """Return the readings of rows like the samples, the likeliest first; none where there is only one.

    `chosen` is the mapping by which they are read now.
    """
    if not samples:
        return ()
    columns = list(columns)
    known = _format_of_all(samples)
    found: dict[ColumnMapping, str] = {}
    for mapping, title in _candidates(samples[0], columns, unused, known, chosen):
        found.setdefault(mapping, title)
    readings = [_read_first(samples, mapping, title) for mapping, title in found.items()]
    good = [reading for reading in readings if "problem" not in reading.row]
    return tuple(good[:MOST]) if len(good) > 1 or (good and not known) or known == "preference" else ()


def as_it_stands(samples: Sequence[Mapping[str, Any]]) -> Reading:
    """Return the reading by the names that are known, for a person to agree to."""
    return _read_first(samples, _AS_KNOWN, "As it stands, without the columns that are not used")


def open_question(samples: Sequence[Mapping[str, Any]], columns: Iterable[str]) -> str:
    """Return what of rows of a known format only a person can tell, "" for nothing."""
    known, by_name = _format_of_all(samples), names.by_plain_name(columns)
    if known == "text" and (reply := names.first_of(names.REPLY_TO_TEXT, by_name, ("text",))):
        return f'"{shown(reply, 40)}" may be the reply to the text, or a remark about it'
    if known and known not in ("text", "preference") and (rating := rating_of(samples[0])):
        return f'"{shown(rating, 40)}" rates the answers, also bad ones'
    return ""


def _format_of_all(samples: Sequence[Mapping[str, Any]]) -> str:
    formats = {format_of(dict(value)) for value in samples}
    return (formats.pop() or "") if len(formats) == 1 else ""


def _read_first(samples: Sequence[Mapping[str, Any]], mapping: ColumnMapping, title: str) -> Reading:
    rows = [read_row(RawRow(0, value), mapping) for value in samples]
    first = next((row for row in rows if not isinstance(row, Problem)), None)
    if first is None:
        assert isinstance(rows[0], Problem)
        return Reading(mapping, title, {"problem": rows[0].said}, ())
    return Reading(mapping, title, as_messages(first), first.unused)


def _candidates(
    value: Mapping[str, Any], columns: list[str], unused: UnusedColumns, known: str, chosen: ColumnMapping | None
) -> Iterable[tuple[ColumnMapping, str]]:
    """Yield mappings and what they mean in words, the likeliest first; `value` is a row."""
    by_name = names.by_plain_name(columns)
    if known == "text":
        if read_transcript(str(value.get("text") or "")):
            yield ColumnMapping(conversation="text"), "A conversation: the text’s own marks say whose turn it is"
        reply = names.first_of(names.REPLY_TO_TEXT, by_name, ("text",))
        if reply:
            yield ColumnMapping("text", reply), f"{_named(reply)} is the reply to the text; only it is trained"
        yield _AS_KNOWN, "One text, trained whole"
        return
    if known == "preference" and (pair := pair_of(value)):
        yield from _preferred(value, by_name, pair[0])
        return
    base = _base(value, by_name, known)
    if base is not None:
        yield from _with_more(value, by_name, base, unused, chosen)
        return
    guess = guess_mapping(columns)
    if guess is None and "role" in by_name:
        return
    if guess is not None:
        label = label_of(value) if guess.reply else None
        if label is not None and label not in guess.columns:
            yield _with(guess, label=label), f"{_title_of(guess)}; only answers that {_named(label)} calls good"
        yield guess, _title_of(guess)
    for column in columns:
        item = value.get(column)
        is_list = isinstance(item, list) and item and isinstance(item[0], dict) and {"role", "from"} & item[0].keys()
        if is_list or (isinstance(item, str) and read_transcript(item)):
            yield ColumnMapping(conversation=column), f"{_named(column)} is the conversation"
    text = names.first_of(names.TEXT, by_name)
    if text:
        yield ColumnMapping(text=text), f"{_named(text)} is one text, trained whole"


def _preferred(value: Mapping[str, Any], by_name: Mapping[str, str], good: str) -> Iterable[tuple[ColumnMapping, str]]:
    """Yield how the better one of two answers can be learned."""
    answer, title = value[good], f"Learn {_named(good)} as the reply; the other answer is left out"
    prompt = names.first_of((*names.PROMPT, *names.CONTEXT), by_name, (good,))
    is_list = isinstance(answer, list) and len(answer) > 1
    if (isinstance(answer, str) and read_transcript(answer)) or is_list:
        yield ColumnMapping(conversation=good), f"Learn the conversation in {_named(good)}; the other one is left out"
    elif prompt:
        system = names.first_of(names.SYSTEM, by_name)
        if isinstance(asked := value.get(prompt), str) and read_transcript(asked, is_prompt=True):
            yield ColumnMapping(conversation=prompt, reply=good, system=system), title
        yield ColumnMapping(prompt, good, system), title


def _base(value: Mapping[str, Any], by_name: Mapping[str, str], known: str) -> ColumnMapping | None:
    """Return the mapping that says what a known format's columns are, None for other formats."""
    system = names.first_of(names.SYSTEM, by_name)
    if value.get("messages") is not None and known:
        return ColumnMapping(conversation="messages", system=system)
    for name in ("conversations", "conversation"):
        if value.get(name) is not None and known:
            return ColumnMapping(conversation=name, system=system)
    if known and value.get("prompt") is not None and value.get("completion") is not None:
        return ColumnMapping("prompt", "completion", system)
    if known and value.get("instruction") is not None and value.get("output") is not None:
        context, history = (name if name in value else None for name in ("input", "history"))
        return ColumnMapping("instruction", "output", system, context=context, history=history)
    return None


def _with_more(
    value: Mapping[str, Any],
    by_name: Mapping[str, str],
    base: ColumnMapping,
    unused: UnusedColumns,
    chosen: ColumnMapping | None,
) -> Iterable[tuple[ColumnMapping, str]]:
    """Yield what can be made of the columns beside a known format's: context, history, a label, a rating."""
    as_known = "As it stands: " + _title_of(base)
    if label := label_of(value):
        yield _AS_KNOWN, f"Only answers that {_named(label)} calls good"
        yield base, f"All answers, whatever {_named(label)} says"
        return
    if rating := rating_of(value):
        if chosen is not None and chosen.at_least is not None:
            best = chosen
        else:
            best = _with(base, label=rating, at_least=_middle(*(unused.range_of(rating) or (0.0, 0.0))))
        yield best, f"Only answers rated {best.at_least:g} or better in {_named(rating)}"
        yield _AS_KNOWN, f"All answers, whatever {_named(rating)} says"
        return
    taken = base.columns
    context = names.first_of(names.CONTEXT, by_name, taken) if base.prompt and not base.context else None
    history = names.first_of(names.HISTORY, by_name, taken) if base.prompt and not base.history else None
    asked = value.get(base.prompt) if base.prompt else None
    if isinstance(asked, str) and read_transcript(asked, is_prompt=True):
        turns = ColumnMapping(conversation=base.prompt, reply=base.reply, system=base.system)
        yield turns, f"{_named(base.prompt)} is a conversation: its own marks say whose turn it is"
    if context or history:
        more = _with(base, context=context or base.context, history=history or base.history)
        yield more, _title_of(more)
    yield _AS_KNOWN, as_known


def _with(base: ColumnMapping, **more: Any) -> ColumnMapping:
    return ColumnMapping(**{**vars(base), **more})


def _middle(least: float, most: float) -> float:
    """Return the rating from which on an answer counts as a good one: the middle of what was found, rounded up."""
    middle = (least + most) / 2
    return float(math.ceil(middle)) if most - least > 1 else round(middle, 3)


def _named(column: str | None) -> str:
    return f"“{shown(column or '', 40)}”"


def _title_of(mapping: ColumnMapping) -> str:
    """Return a mapping in words."""
    if mapping.text:
        return f"{_named(mapping.text)} is one text, trained whole"
    if mapping.conversation:
        return f"{_named(mapping.conversation)} is the conversation"
    said = f"{_named(mapping.prompt)} is the prompt"
    if mapping.context:
        said += f", with {_named(mapping.context)} below it"
    if mapping.history:
        said += f", after the turns in {_named(mapping.history)}"
    return f"{said}; {_named(mapping.reply)} is the reply"
