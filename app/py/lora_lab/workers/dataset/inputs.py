"""From what the page sends to what is read: files slice by slice, pasted text, a sample; and how far that is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Literal

from lora_lab.data import ColumnMapping, DataSource
from lora_lab.data.files.encodings import CHOICES
from lora_lab.errors import DatasetError
from lora_lab.formats.byte_source import BlobSource
from lora_lab.formats.json_reader import read_json
from lora_lab.workers.protocol import DatasetProgress, NamedBlob, ReadDataset
from lora_lab.workers.wire.host import fetch_bytes
from lora_lab.workers.wire.seldom import seldom

PASTED = "Pasted text"
# What is known of the pace before that is too little to say how long the rest takes.
PACE_AFTER_S, PACE_AFTER_SHARE = 1.0, 0.01


@dataclass(frozen=True)
class Input:
    """What is to be read. `about` is what a sample's JSON file says about it."""

    sources: list[DataSource]
    name: str
    title: str
    about: dict[str, Any] = field(default_factory=dict)


async def take(command: ReadDataset) -> Input:
    """Return what a command asks to read. DatasetError when it names nothing."""
    if command.sample is not None:
        about = read_json(await fetch_bytes(f"samples/{command.sample}.json"))
        name = f"{command.sample}.jsonl"
        source = DataSource.from_bytes(await fetch_bytes(f"samples/{name}"), name)
        return Input([source], name, about.get("title", name), about)
    if command.text is not None:
        # The source has no name: the text alone says what it is.
        return Input([DataSource.from_bytes(command.text)], PASTED, PASTED)
    sources = take_files(command.files)
    return Input(sources, names := title_of(sources), names)


def take_files(files: Sequence[NamedBlob]) -> list[DataSource]:
    """Return files as sources that are read slice by slice. DatasetError for none."""
    if not files:
        raise DatasetError("No file came with the request to read a dataset.")
    names = [file.name.rpartition("/")[2] for file in files]
    # Two files of the same name in two folders must be told apart.
    shown = [file.name if names.count(name) > 1 else name for file, name in zip(files, names, strict=True)]
    return [DataSource.from_source(BlobSource(file.blob, name)) for file, name in zip(files, shown, strict=True)]


def title_of(sources: Sequence[DataSource]) -> str:
    """Return what a dataset of these files is called."""
    first = sources[0].name
    return first if len(sources) == 1 else f"{first} and {len(sources) - 1} more"


def mapping_of(columns: dict[str, str] | None) -> ColumnMapping | None:
    """Return the mapping that the page sends. DatasetError when it names no columns that make one."""
    return ColumnMapping.of(columns) if columns else None


def encoding_of(name: str | None) -> str | None:
    """Return the encoding that the page sends. DatasetError for a name that is none."""
    if name is not None and name not in CHOICES:
        raise DatasetError(f"the encoding {name!r} was asked for; wanted is {', '.join(CHOICES)}")
    return name


def progress(
    tell: Callable[[DatasetProgress], None], unit: Literal["bytes", "rows"], sources: Sequence[DataSource] = (),
    name: str = "",
) -> Callable[[int, int], None]:  # fmt: skip
    """Return a callback (done, total) that tells the page now and then, with the time left once that can be judged.

    Of several `sources` the one is named that is being read; else `name`.
    """
    began = time.monotonic()
    ends = list(accumulate(source.size_bytes for source in sources))

    def post(done: float, total: float) -> None:
        elapsed = time.monotonic() - began
        known = elapsed >= PACE_AFTER_S and done >= PACE_AFTER_SHARE * total
        left_ms = 1000 * elapsed * (total - done) / done if known and done else None
        reading = next((source.name for source, end in zip(sources, ends, strict=True) if done < end), name)
        tell(DatasetProgress(int(done), int(total), unit, reading, left_ms))

    return seldom(post)
