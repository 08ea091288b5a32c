"""The model that an adapter is of, opened for going out: besides what training needs, its own small files."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..config import ModelConfig
from ..errors import ModelError
from ..formats.byte_source import ByteSource, FileFormatError
from ..formats.gguf import GgufFile
from ..formats.gguf_split import read_parts
from ..formats.json_reader import JsonError, read_json
from ..model.files import open_model
from ..model.folder import model_folder
from ..model.model_files import ModelFiles

# Files of a folder that go with a model wherever it goes, as they are.
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "tokenizer.model", "chat_template.jinja",
)  # fmt: skip
LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE", "USE_POLICY.md")
_OTHERS = ("config.json", "generation_config.json", "README.md")
MAX_SMALL_BYTES = 256 << 20


@dataclass(frozen=True)
class Base:
    """A model's files. `gguf` where it came as one; `small` are a folder's other files by name."""

    files: ModelFiles
    gguf: GgufFile | None = None
    small: dict[str, bytes] = field(default_factory=dict)

    @property
    def config(self) -> ModelConfig:
        """The model's settings."""
        return self.files.config

    @property
    def licence(self) -> str | None:
        """The licence that the files state, as the hub spells it; None where they state none."""
        if self.gguf is not None:
            said = self.gguf.scalars.get("general.license")
            return said if isinstance(said, str) and said else None
        card = self.small.get("README.md", b"").decode("utf-8", "replace")
        front = re.match(r"---\n(.*?)\n---", card, re.DOTALL)
        found = re.search(r"^license:\s*['\"]?([\w.-]+)['\"]?\s*$", front[1], re.MULTILINE) if front else None
        return found[1] if found else None

    def json_file(self, name: str) -> dict[str, Any]:
        """Return a folder's JSON file, empty where there is none."""
        try:
            found = read_json(self.small.get(name, b"{}"))
        except JsonError as error:
            raise ModelError(f"{name} is not JSON: {error}") from error
        return found if isinstance(found, dict) else {}


async def open_base(sources: Sequence[ByteSource]) -> Base:
    """Open a model as `open_model` does, and read its small files. ModelError names every problem."""
    return await open_base_of(await open_model(sources))


async def open_base_of(files: ModelFiles) -> Base:
    """The same for a model that is open."""
    sources = files.sources
    ggufs = [source for source in sources if source.name.lower().endswith(".gguf")]
    try:
        if ggufs or len(sources) == 1:
            return Base(files, await read_parts(ggufs or sources))
        by_name = model_folder(sources)[1]
        small = {}
        for name in (*TOKENIZER_FILES, *LICENCE_FILES, *_OTHERS):
            if name in by_name and by_name[name].size_bytes <= MAX_SMALL_BYTES:
                small[name] = bytes(await by_name[name].read(0, by_name[name].size_bytes))
        return Base(files, None, small)
    except FileFormatError as error:
        raise ModelError(str(error)) from error


def as_json(value: Any) -> bytes:
    """Return JSON as transformers lays it out."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
