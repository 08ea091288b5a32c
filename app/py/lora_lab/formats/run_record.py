"""What is known of the run that made an adapter, as a file beside it: lora-lab-run.json. All of it is optional."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ..errors import AdapterError
from .json_reader import JsonError, read_json

RUN_FILE = "lora-lab-run.json"
MAX_RECORD_BYTES = 8 << 20


@dataclass(frozen=True)
class RunData:
    """A dataset's file: its name without its folder, its sha256 in hexadecimal."""

    name: str
    sha256: str = ""


@dataclass(frozen=True)
class RunRecord:
    """A run: of which model, on which rows, with which settings, and what came of it."""

    lora_lab: str = ""  # the version that trained it
    base_model: str | None = None
    data: tuple[RunData, ...] = ()
    rows: int | None = None
    validation_rows: int | None = None
    steps: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    first_loss: float | None = None
    last_loss: float | None = None
    validation_loss: float | None = None  # on the held-back rows, the last that was measured
    raw: bytes = field(default=b"", compare=False, repr=False)  # of a file that was read: it goes on as it came

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        if self.raw:
            return self.raw
        said = {key: value for key, value in asdict(self).items() if key != "raw" and value not in (None, "", (), {})}
        return (json.dumps(said, indent=2, ensure_ascii=False) + "\n").encode()


def read_record(data: bytes) -> RunRecord:
    """Return what a file says; AdapterError when it is none. Fields of later versions are passed over."""
    if len(data) > MAX_RECORD_BYTES:
        raise AdapterError(f"{RUN_FILE} has {len(data):,} bytes; wanted at most {MAX_RECORD_BYTES:,}")
    try:
        said = read_json(data)
    except JsonError as error:
        raise AdapterError(f"{RUN_FILE} is not JSON: {error}") from error
    if not isinstance(said, dict):
        raise AdapterError(f"{RUN_FILE} holds {str(said)[:40]!r}; wanted an object")
    if isinstance(said.get("outcome"), dict):
        return _of_longer_form(said, data)
    kinds = {"lora_lab": str, "base_model": str, "data": list, "settings": dict}
    found: dict[str, Any] = {}
    for one in fields(RunRecord):
        value = said.get(one.name)
        wanted = kinds.get(one.name, (int, float))
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, wanted):
            raise AdapterError(f"{RUN_FILE}: {one.name} is {str(value)[:40]!r}, which is none")
        found[one.name] = value
    data_files = [one for one in found.get("data", []) if isinstance(one, dict)]
    found["data"] = tuple(RunData(str(one.get("name", "")), str(one.get("sha256", ""))) for one in data_files)
    return RunRecord(**found, raw=data)


def _of_longer_form(said: dict[str, Any], data: bytes) -> RunRecord:
    """Return what a card says of a record with model, data, outcome and curves in parts of their own.

    What is of another kind than wanted is passed over: the card then says less, and the file goes on as it came.
    """
    facts, model, outcome = _part(said, "data"), _part(said, "model"), _part(said, "outcome")
    files = facts.get("files")
    listed = [one for one in files if isinstance(one, dict)] if isinstance(files, list) else []
    losses, validations = _numbers(_part(said, "steps"), "loss"), _numbers(_part(said, "validation"), "loss")
    plain = {name: value for name, value in _part(said, "settings").items() if isinstance(value, str | int | float)}
    return RunRecord(
        lora_lab=_text(said, "program").removeprefix("lora-lab "),
        base_model=_text(model, "hub_id") or None,
        data=tuple(RunData(_text(one, "name"), _text(one, "sha256")) for one in listed),
        rows=_count(facts, "rows"),
        validation_rows=_count(facts, "held_rows") or None,
        steps=_count(outcome, "steps"),
        settings=plain,
        first_loss=losses[0] if losses else None,
        last_loss=losses[-1] if losses else None,
        validation_loss=validations[-1] if validations else None,
        raw=data,
    )


def _part(said: dict[str, Any], name: str) -> dict[str, Any]:
    found = said.get(name)
    return found if isinstance(found, dict) else {}


def _text(said: dict[str, Any], name: str) -> str:
    found = said.get(name)
    return found if isinstance(found, str) else ""


def _count(said: dict[str, Any], name: str) -> int | None:
    found = said.get(name)
    return found if type(found) is int else None


def _numbers(said: dict[str, Any], name: str) -> list[float]:
    found = said.get(name)
    values = found if isinstance(found, list) else []
    return [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
