"""A dataset file's text -> its records with their lines, whatever it is written in: JSON, a table, prose."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from lora_lab.data.files.columns import csv_rows, find_delimiter, text_rows
from lora_lab.data.files.json_rows import Item, json_lines, json_values
from lora_lab.data.files.json_text import DECODER, JsonFailure, load_json
from lora_lab.data.files.source import TextStream, whole_lines
from lora_lab.data.problems import Problem, excerpt

WANTED = 'one JSON object on each line, for example {"messages": [{"role": "user", "content": "…"}, …]}'


async def read_records(
    stream: TextStream, say: Callable[[Problem], None], known_columns: frozenset[str]
) -> AsyncIterator[list[Item]] | None:
    """Return the records of a file in batches, by what it is written in; None when it holds no text.

    `say` hears what is wrong with the file as a whole, or worth knowing. `known_columns` are names that the columns
    of a table of rows often have: they tell a table from prose.
    """
    if not await stream.open():
        return None
    head, name = stream.head, stream.source.name
    if head.startswith("\ufeff"):
        head = head[1:]
    if stream.has_mark and stream.encoding == "utf-8":
        say(Problem(1, "the file begins with a byte-order mark; it was left out", kind="bom", severity="info"))
    if "\r\n" in head:
        say(Problem(1, "lines end with CR LF, as Windows writes them", kind="crlf", severity="info"))
    kind = find_container(head, name, known_columns)
    if kind == "not-json":
        first = head.lstrip().partition("\n")[0]
        hint = f"wanted is {WANTED}; a text file should end in .txt"
        say(Problem(1, "this is no JSON, though the file's name says so", 1, excerpt(first, 0), "not-json",
                            hint=hint))  # fmt: skip
        return None
    if kind in ("array", "objects"):
        what = "a JSON array" if kind == "array" else "pretty-printed JSON"
        say(Problem(1, f"the file is {what}, not JSON Lines; it was read as such", kind="container",
                            severity="info"))  # fmt: skip
        return json_values(stream.blocks())
    lists = whole_lines(stream.blocks())
    if kind == "lines":
        return json_lines(_count_blank(lists, say))
    if kind == "text":
        say(Problem(1, "the file is plain text; each paragraph is a row", kind="container", severity="info",
                            hint="blank lines separate paragraphs"))  # fmt: skip
        return text_rows(lists)
    what = "tab-separated" if kind == "\t" else "CSV"
    say(Problem(1, f"the file is a table ({what}); it was read as such", kind="container", severity="info"))
    return csv_rows(lists, kind)


async def _count_blank(lists: AsyncIterator[list[str]], say: Callable[[Problem], None]) -> AsyncIterator[list[str]]:
    """Pass lines on, and tell how many of them are blank."""
    line, blank, first = 0, 0, 0
    async for lines in lists:
        for text in lines:
            line += 1
            if not text or text.isspace():
                blank += 1
                first = first or line
        yield lines
    if blank:
        said = "one line is blank; it is left out" if blank == 1 else f"{blank:,} lines are blank; they are left out"
        say(Problem(first, said, kind="blank-lines", severity="info"))


def find_container(head: str, name: str, known_columns: frozenset[str]) -> str:
    """Return what a file is written in: lines, array, objects, text, not-json, or the character between table cells.

    `head` is the file's beginning; where that leaves a choice, its name decides.
    """
    text = head.lstrip()
    first, _, rest = text.partition("\n")
    if text.startswith("["):
        # A list on a line of its own among other lines is that line's problem.
        is_alone = rest.strip() and not isinstance(load_json(first), JsonFailure)
        return "lines" if is_alone else "array"
    if text.startswith("{"):
        return "objects" if rest and isinstance(load_json(first), JsonFailure) and _is_pretty(text) else "lines"
    if not text:
        return "lines"
    delimiter = find_delimiter(text, name, known_columns)
    if delimiter is not None:
        return delimiter
    lines = [line for line in text.split("\n")[:20] if line.strip()][:5]
    if any(line.lstrip().startswith(("{", "[{")) for line in lines):
        return "lines"
    suffix = name.lower().removesuffix(".gz").rpartition(".")[2]
    if suffix in ("json", "jsonl", "ndjson") or (len(lines) == 1 and not isinstance(load_json(first), JsonFailure)):
        return "not-json" if len(lines) > 1 or isinstance(load_json(first), JsonFailure) else "lines"
    return "text"


def _is_pretty(text: str) -> bool:
    """Whether an object whose first line is not whole goes on in the lines below it."""
    try:
        _, end = DECODER.raw_decode(text)
        return "\n" in text[:end]
    except (ValueError, RecursionError):
        pass
    first, _, rest = text.partition("\n")
    following = next((line for line in rest.split("\n") if line.strip()), "")
    is_open = first.rstrip().endswith(("{", "[", ",", ":")) and not first.rstrip().endswith(("},", "],"))
    return is_open and not following.startswith(("{", "["))
