"""What a person's models are called on the hub: said once with --base-model, and known for the model's next runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from lora_lab.cli.files import replacing
from lora_lab.formats.byte_source import ByteSource, base_name
from lora_lab.formats.hub_id import hub_id
from lora_lab.formats.json_reader import JsonError, read_json

REMEMBERED = 100  # models, the newest


def remembered_base(sources: Sequence[ByteSource]) -> str | None:
    """Return what a model was called the last time that somebody said it, OWNER/NAME; None where nobody did."""
    said = _read().get(_key(sources))
    return hub_id(said) if isinstance(said, str) else None


def remember_base(sources: Sequence[ByteSource], base: str) -> None:
    """Keep what a model is called. Where nothing can be written, it is only not known the next time."""
    key = _key(sources)
    names = {**{model: name for model, name in _read().items() if model != key}, key: base}
    kept = dict(list(names.items())[-REMEMBERED:])
    try:
        path = _path()
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as out:
            out.write(json.dumps(kept, indent=1).encode())
    except OSError:
        pass


def _key(sources: Sequence[ByteSource]) -> str:
    """A model is known by the names and the size of its files, wherever they lie."""
    names = " ".join(sorted(base_name(source) for source in sources))
    return f"{names} {sum(source.size_bytes for source in sources)}"


def _read() -> dict[str, object]:
    try:
        found = read_json(_path().read_bytes())
    except (OSError, JsonError):
        return {}
    return found if isinstance(found, dict) else {}


def _path() -> Path:
    from platformdirs import user_data_path

    return user_data_path("lora-lab", appauthor=False) / "base_models.json"
