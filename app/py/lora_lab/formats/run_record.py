"""What is known of the run that made an adapter, as a file beside it: lora-lab-run.json. All of it is optional."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ..errors import AdapterError
from .json_reader import JsonError, read_json

RECORD_FILE = "lora-lab-run.json"
MAX_RECORD_BYTES = 4 << 20


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

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        said = {key: value for key, value in asdict(self).items() if value not in (None, "", (), {})}
        return (json.dumps(said, indent=2, ensure_ascii=False) + "\n").encode()


def read_record(data: bytes) -> RunRecord:
    """Return what a file says; AdapterError when it is none. Fields of later versions are passed over."""
    if len(data) > MAX_RECORD_BYTES:
        raise AdapterError(f"{RECORD_FILE} has {len(data):,} bytes; wanted at most {MAX_RECORD_BYTES:,}")
    try:
        said = read_json(data)
    except JsonError as error:
        raise AdapterError(f"{RECORD_FILE} is not JSON: {error}") from error
    if not isinstance(said, dict):
        raise AdapterError(f"{RECORD_FILE} holds {str(said)[:40]!r}; wanted an object")
    kinds = {"lora_lab": str, "base_model": str, "data": list, "settings": dict}
    found: dict[str, Any] = {}
    for one in fields(RunRecord):
        value = said.get(one.name)
        wanted = kinds.get(one.name, (int, float))
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, wanted):
            raise AdapterError(f"{RECORD_FILE}: {one.name} is {str(value)[:40]!r}, which is none")
        found[one.name] = value
    data_files = [one for one in found.get("data", []) if isinstance(one, dict)]
    found["data"] = tuple(RunData(str(one.get("name", "")), str(one.get("sha256", ""))) for one in data_files)
    return RunRecord(**found)
