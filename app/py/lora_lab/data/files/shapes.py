"""Rows that a JSON value holds in another way than one object a row: what to call it, and the rows as objects.

A list of rows, a row written as a string, columns instead of rows, rows under a name (`data`, `rows`, …), a list of
turns, lines of a batch API, answers as `{"text": […]}`. Where the rows stand there as they are, reading them changes
nothing (`as_they_are`); the others are taken once somebody agrees.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Any

from lora_lab.data.files.json_text import JsonFailure, is_too_deep, load_json
from lora_lab.data.files.repair import repair
from lora_lab.data.problems import shown

Object = dict[str, Any]
# Columns that may hold turns; an object with one of these is a row, whatever lists it holds besides.
TURN_COLUMNS = ("messages", "conversations", "conversation")
TEXT_COLUMNS = ("prompt", "completion", "chosen", "rejected")
_ROW_KEYS = frozenset((*TURN_COLUMNS, *TEXT_COLUMNS, "instruction", "output", "text", "question", "answer", "response"))
# Under which names rows stand, the surest first.
_LISTS = ("rows", "data", "train", "examples", "items", "records", "instances", "results", "samples", "dataset")
_BATCH_KEYS = frozenset(("custom_id", "body", "params", "request"))
# Who speaks: lists of such objects are turns of some kind, not rows.
_SPEAKERS = ("role", "from", "speaker", "author", "sender")
_MAX_LITERAL_CHARACTERS = 1 << 20
_LITERAL = re.compile(
    r"""(?:[\s\[\]{},:]|'(?:[^'\\\n]|\\.)*+'|"(?:[^"\\\n]|\\.)*+"|-?\d[\d.eE+-]*+|True\b|False\b|None\b)++"""
)


@dataclass(frozen=True)
class Shape:
    """Rows in another shape. `rows` is empty where they cannot be made of it; `hint` says how to mend it."""

    kind: str
    message: str
    hint: str
    rows: tuple[Object, ...] = ()
    as_they_are: bool = False


def is_turns(value: Any) -> bool:
    """Whether a value is a list of turns: `role` and `content`, or `from` and `value`."""
    return type(value) is list and bool(value) and all(map(_is_turn, value))


def _is_turn(value: Any) -> bool:
    return type(value) is dict and (("role" in value and len(value) > 1) or ("from" in value and "value" in value))


def _is_part(value: Any) -> bool:
    """Whether a value is one part of a turn's content, as `{"type": "text", "text": …}`."""
    return type(value) is dict and type(value.get("type")) is str


def shape_of_list(value: list[Any]) -> Shape | None:
    """Return what a list in a row's place holds; None for a list of other things."""
    if is_turns(value):
        name = "messages" if "role" in value[0] else "conversations"
        return Shape("bare-turns", "the row is a bare list of turns", f'write {{"{name}": [ … ]}}', ({name: value},))
    rows: list[Object] = []
    for item in value:
        if type(item) is dict:
            rows.append(item)
        elif is_turns(item):
            rows.append({"messages" if "role" in item[0] else "conversations": item})
        else:
            return None
    if not rows:
        return None
    said = f"a list of {len(rows)} rows stands here" if len(rows) > 1 else "a list of one row stands here"
    if any(type(item) is list for item in value):
        return Shape("bare-turns", f"{said}, each a bare list of turns", 'write {"messages": [ … ]}', tuple(rows))
    return Shape("row-list", f"{said}; each was read", "", tuple(rows), as_they_are=True)


def shape_of_text(text: str) -> Shape | None:
    """Return what a string in a row's place holds: rows as JSON, one or several."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    value = load_json(text)
    rows = repair(text) if isinstance(value, JsonFailure) else _rows_of(value)
    hint = "write the object itself, not a string of it"
    return Shape("json-string", "the row is a string that holds JSON", hint, tuple(rows)) if rows else None


def _rows_of(value: Any) -> list[Object]:
    if type(value) is dict:
        return [value]
    found = shape_of_list(value) if type(value) is list else None
    return list(found.rows) if found else []


def turns_in(text: str) -> list[Any] | None:
    """Return the turns that a string holds as JSON or as Python writes a list; None for any other string."""
    if not text.startswith(("[", "{")) or is_too_deep(text):
        return None
    value = load_json(text)
    if isinstance(value, JsonFailure):
        value = _literal(text)
    value = [value] if _is_turn(value) else value
    return value if is_turns(value) else None


def _literal(text: str) -> Any:
    # Only brackets may nest, and they were counted: a deep expression would end the interpreter in Pyodide.
    if len(text) > _MAX_LITERAL_CHARACTERS or not _LITERAL.fullmatch(text):
        return None
    try:
        return ast.literal_eval(
            re.sub(r"\}\s*\n\s*\{", "}, {", text)
        )  # numpy's lists have no commas; pandas writes them
    except (ValueError, SyntaxError, TypeError):
        return None


def shape_of_object(value: Object) -> Shape | None:
    """Return what an object holds that is not itself a row; None for one that may be a row."""
    kinds = set(map(type, value.values()))
    if not (list in kinds or dict in kinds):
        return None
    if "answers" in value and (found := _listed_answers(value)):
        return found
    if not _BATCH_KEYS.isdisjoint(value) and (found := _batch_line(value)):
        return found
    if _ROW_KEYS.isdisjoint(value):
        return _numbered(value) or _split_columns(value) or _wrapped(value)
    return _columns(value, kinds) if kinds <= {list, dict} else None


def _columns(value: Object, kinds: set[type]) -> Shape | None:
    """Columns in place of rows: `{"prompt": {"0": …}}`, as pandas' to_json() writes, or `{"prompt": [ … ]}`."""
    cells = list(value.values())
    if kinds == {dict}:
        keys = list(cells[0])
        if not keys or not all(key.isdigit() for key in keys) or any(list(cell) != keys for cell in cells):
            return None
        columns = [list(cell.values()) for cell in cells]
        how = "each column is an object by the rows' numbers, as pandas' to_json() writes"
        hint = 'write rows: to_json(orient="records", lines=True)'
    elif kinds == {list}:
        columns = cells
        if not columns[0] or any(len(column) != len(columns[0]) for column in columns):
            return None
        cells = [item for column in columns for item in column]
        if any(_is_turn(item) or _is_part(item) or (type(item) is list and not is_turns(item)) for item in cells):
            return None
        if len(columns) == 1 and len(columns[0]) == 1 and type(columns[0][0]) is str:
            return None
        how, hint = "each column is a list", "write an object for each row"
    else:
        return None
    rows = tuple(dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True))
    return Shape("columns", f"{len(rows)} rows stand here by columns: {how}", hint, rows)


def _numbered(value: Object) -> Shape | None:
    """`{"0": { … }, "1": { … }}`: pandas' orient="index"."""
    rows = tuple(value.values())
    if not all(key.isdigit() and type(row) is dict for key, row in value.items()):
        return None
    message = f"{len(rows)} rows stand here under their numbers"
    return Shape("columns", message, 'write rows: to_json(orient="records", lines=True)', rows)


def _split_columns(value: Object) -> Shape | None:
    """`{"columns": ["prompt", …], "data": [[…], …]}`: pandas' orient="split"."""
    names, data = value.get("columns"), value.get("data")
    if not (type(names) is list and type(data) is list and data and all(type(name) is str for name in names)):
        return None
    if len(set(names)) != len(names) or any(type(row) is not list or len(row) != len(names) for row in data):
        return None
    rows = tuple(dict(zip(names, row, strict=True)) for row in data)
    message = f'{len(rows)} rows stand under "data", their columns\' names under "columns"'
    return Shape("columns", message, 'write rows: to_json(orient="records", lines=True)', rows)


def _wrapped(value: Object) -> Shape | None:
    """Rows under a name: `{"data": [ … ]}`, `{"rows": [{"row": { … }}, …]}`."""
    lists = {key: item for key, item in value.items() if _is_rows(item)}
    name = next((name for name in _LISTS if name in lists), None)
    if name is None and len(value) == 1 and len(next(iter(lists.values()), ())) > 1:
        name = next(iter(lists))
    if name is None or not lists[name][0].keys().isdisjoint(_SPEAKERS):
        return None
    rows, inside = lists[name], ""
    if all(type(row.get("row")) is dict for row in rows):
        rows, inside = [row["row"] for row in rows], ', each as {"row": …}'
    others = [f'"{shown(key, 40)}"' for key in lists if key != name]
    left = f"; {', '.join(others[:4])} beside it {'is' if len(others) == 1 else 'are'} left out" if others else ""
    found = f'{len(rows)} row{"s" if len(rows) > 1 else ""} under "{shown(name, 40)}"{inside}{left}'
    return Shape(
        "wrapped-rows", f"the object holds {found}", "write that list by itself, as the whole file", tuple(rows)
    )


def _is_rows(value: Any) -> bool:
    return type(value) is list and bool(value) and all(type(item) is dict for item in value) and not is_turns(value)


def _batch_line(value: Object) -> Shape | None:
    """A line of a batch API, or of a log of it: the request (`body`, `params`), the answer, or both."""
    asked = next((value[key] for key in ("body", "params", "request") if type(value.get(key)) is dict), None)
    asked = asked.get("body", asked) if asked is not None else None  # a log may hold the whole request
    turns = asked.get("messages") if type(asked) is dict else None
    answer = _answer_of(value.get("response", value.get("result")))
    if not is_turns(turns):
        if answer is None:
            return None
        hint = "put question and answer into one row, by custom_id: the requests' file holds the questions"
        return Shape("batch-line", "the row is an answer of a batch API, without its question", hint)
    assert type(turns) is list and type(asked) is dict
    if type(asked.get("system")) is str and asked["system"]:
        turns = [{"role": "system", "content": asked["system"]}, *turns]
    if answer is not None:
        turns = [*turns, {"role": "assistant", "content": answer}]
    elif not any(turn.get("role") == "assistant" for turn in turns):
        hint = "put question and answer into one row, by custom_id: the batch's output file holds the answers"
        return Shape("batch-line", "the row is a request of a batch API, without an answer", hint)
    hint = 'write {"messages": [ … ]}'
    return Shape("batch-line", "the row is a line of a batch API; its turns stand inside", hint, ({"messages": turns},))


def _answer_of(response: Any) -> str | None:
    """Return the text of an answer as OpenAI's (`choices`) or Anthropic's (`content`) API writes it."""
    for key in ("body", "message"):
        if type(response) is dict and type(response.get(key)) is dict:
            response = response[key]
    if type(response) is not dict:
        return None
    choices = response.get("choices")
    if type(choices) is list and choices and type(choices[0]) is dict and type(choices[0].get("message")) is dict:
        response = choices[0]["message"]
    content = response.get("content")
    if type(content) is list and content and all(type(p) is dict and type(p.get("text")) is str for p in content):
        content = "".join(part["text"] for part in content)
    return content if type(content) is str and content else None


def _listed_answers(value: Object) -> Shape | None:
    """`"answers": {"text": [ … ], "answer_start": [ … ]}`, as SQuAD writes them."""
    answers = value["answers"]
    texts = answers.get("text") if type(answers) is dict else None
    if type(texts) is not list or not all(type(text) is str for text in texts) or "answer" in value:
        return None
    hint = 'write the answer as a string: "answer": "…"'
    if not texts:
        return Shape("listed-answers", '"answers" holds no answer', "fill it in or remove the row")
    several = len(set(texts)) > 1
    message = '"answers" is {"text": [ … ]}' + (
        f" with {len(set(texts))} answers; the first is taken" if several else ""
    )
    row = {("answer" if key == "answers" else key): item for key, item in value.items()}
    return Shape("listed-answers", message, hint, ({**row, "answer": texts[0]},))
