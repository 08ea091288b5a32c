"""Writes app/web/protocol.ts: the messages between page and workers, as TypeScript, from the dataclasses in Python.

The file is made anew whenever the lint tier runs and is in no commit, so it cannot fall behind; `tsc` then finds every
place of the page that reads a field that is not there (any more), or sends a command that no worker takes.

A part that goes both ways has two types: `TrainSettings` as a worker sends it, whole, and `TrainSettingsGiven` as it
may be sent to one, without what has a default.
"""

from __future__ import annotations

import types
from collections.abc import Iterable
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from build_tools.base import ROOT, program_module, write_bytes

TARGET = ROOT / "app" / "web" / "protocol.ts"
PLAIN = {str: "string", int: "number", float: "number", bool: "boolean", bytes: "Uint8Array", type(None): "null"}
# What `Any` is, where it stands for something that JSON cannot hold, or for what another class's as_dict() returns.
WHAT_ANY_IS = {
    ("NamedBlob", "blob"): "Blob",
    ("DatasetReady", "report"): "DatasetReport",
    ("ValidationPart", "report"): "DatasetReport",
    ("MappingPreviewed", "rows"): "readonly ReadRow[]",
}
# The fields of the report that its as_dict() leaves out, and those that it gives another form or adds.
REPORT_WITHOUT = {"noted"}
REPORT_OTHERWISE = {
    "readings": "readonly ReadingShown[]",
    "mapping": "Mapping | null",
    "suggested_mapping": "Mapping | null",
    "groups": "readonly (ProblemGroup & { readonly title: string; readonly about_file: boolean })[]",
    "problems": "readonly (Problem & { readonly text: string })[]",
    "bad": "number",
    "tokens": "(TokenReport & { readonly trained_share: number }) | null",
}
REPORT_PARTS = """
/** Which column is what: {role: column}. */
export type Mapping = Readonly<Record<string, string>>;
/** A row in the program's own form. */
export interface ReadRow {
  readonly messages?: readonly { readonly role: string; readonly content: string; readonly weight?: number }[];
  readonly text?: string;
  readonly problem?: string;
}
/** A way to read the rows, with the first one so read; `map` is what --map takes. */
export interface ReadingShown {
  readonly mapping: Mapping;
  readonly map: string;
  readonly title: string;
  readonly row: ReadRow;
  readonly unused: readonly string[];
}
"""


class Writer:
    """Collects the types that messages are made of, each once, those that others need first."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.known: dict[str, type] = {}

    def type_of(self, kind: Any, given: bool) -> str:
        """Return the TypeScript of an annotation. `given`: in a command, where defaults may be left out."""
        origin, arguments = get_origin(kind), get_args(kind)
        if kind is Any:
            return "unknown"
        if kind in PLAIN:
            return PLAIN[kind]
        if origin in (Union, types.UnionType):
            return " | ".join(self.type_of(one, given) for one in arguments)
        if origin is Literal:
            return " | ".join(f'"{one}"' for one in arguments)
        if origin is tuple and arguments[-1] is not Ellipsis:
            return f"readonly [{', '.join(self.type_of(one, given) for one in arguments)}]"
        if origin in (tuple, list):
            return f"readonly {self._item(arguments[0], given)}[]"
        if origin is dict:
            key = self.type_of(arguments[0], given)
            return f"Readonly<Record<{key}, {self.type_of(arguments[1], given)}>>"
        if isinstance(kind, type) and is_dataclass(kind):
            return self.part(kind, given)
        raise TypeError(f"{kind!r} in a message has no TypeScript; build_tools/protocol_types.py knows none")

    def _item(self, kind: Any, given: bool) -> str:
        inner = self.type_of(kind, given)
        return f"({inner})" if " " in inner else inner

    def part(self, kind: type, given: bool) -> str:
        """Return the name of a dataclass's type, written down if it was not yet."""
        own: Iterable[Field[Any]] = fields(kind)
        name = kind.__name__ + ("Given" if given and any(_has_default(one) for one in own) else "")
        if self.known.setdefault(name, kind) is not kind:
            raise TypeError(f"two dataclasses are called {name}: {self.known[name].__module__}, {kind.__module__}")
        if f"export interface {name} " not in "".join(self.lines):
            self.lines.append(self.interface(kind, name, given))
        return name

    def interface(self, kind: type, name: str, given: bool) -> str:
        """Return a dataclass as an interface."""
        said = (kind.__doc__ or "").strip().splitlines()
        rows = self.rows(kind, given)
        return "\n".join([f"/** {said[0]} */" if said else "", f"export interface {name} {{", *rows, "}"]).strip()

    def rows(self, kind: type, given: bool) -> list[str]:
        """Return a line for each field of a dataclass."""
        hints = get_type_hints(kind)
        rows = []
        for one in fields(kind):
            text = WHAT_ANY_IS.get((kind.__name__, one.name)) or self.type_of(hints[one.name], given)
            rows.append(f"  readonly {one.name}{'?' if given and _has_default(one) else ''}: {text};")
        return rows

    def report(self) -> None:
        """Write down what DatasetReport.as_dict() returns."""
        kind = program_module("data.report").DatasetReport
        hints = get_type_hints(kind)
        for name in ("Problem", "ProblemGroup"):
            self.part(getattr(program_module("data.problems"), name), given=False)
        self.part(program_module("data.report").TokenReport, given=False)
        own = {one.name: self.type_of(hints[one.name], False) for one in fields(kind)
               if one.name not in REPORT_WITHOUT | REPORT_OTHERWISE.keys()}  # fmt: skip
        rows = [f"  readonly {name}: {text};" for name, text in {**own, **REPORT_OTHERWISE}.items()]
        about = "/** What there is to know about a dataset: docs/data.md. */"
        rows.append("  readonly suggested_max_length?: number;")
        self.lines.append("\n".join([about, "export interface DatasetReport {", *rows, "}"]))


def _has_default(one: Field[Any]) -> bool:
    return one.default is not MISSING or one.default_factory is not MISSING


def make_types(commands: Iterable[Any] | None = None, events: Iterable[Any] | None = None) -> str:
    """Return protocol.ts. The messages are the protocol's own, unless a test gives others."""
    protocol = program_module("workers.protocol")
    writer = Writer()
    writer.report()
    tables = []
    for name, kinds, given in (
        ("Commands", protocol.COMMANDS if commands is None else commands, True),
        ("Events", protocol.EVENTS if events is None else events, False),
    ):
        rows = [f"  {kind.wire_type()}: {writer.part(kind, given)};" for kind in kinds]
        about = "What the page asks of a worker" if given else "What a worker tells the page"
        tables.append(
            "\n".join([f"/** {about}, by the name on the wire. */", f"export interface {name} {{", *rows, "}"])
        )
    head = "// Made by build_tools/protocol_types.py from app/py/lora_lab/workers/protocol/: change it there."
    return "\n\n".join([head, REPORT_PARTS.strip(), *writer.lines, *tables]) + "\n"


def write_types() -> Path:
    """Bring protocol.ts up to date. Return its path."""
    target = TARGET
    content = make_types().encode()
    if not target.is_file() or target.read_bytes() != content:
        write_bytes(target, content)
    return target
