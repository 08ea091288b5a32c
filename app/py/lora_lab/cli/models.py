"""Where --model leads: a path on this machine, a name on the hub, or the built-in model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lora_lab.cli.builtin import BUILT_IN, BUILTIN, builtin_path
from lora_lab.data import DataSource
from lora_lab.data.tokens.tokenizer import Tokenizer, load_tokenizer
from lora_lab.errors import HubError, ModelError
from lora_lab.formats.byte_source import FileSource, sources_from_path
from lora_lab.formats.hub_names import is_hub_name, parse_hub_name
from lora_lab.model.files import ModelFiles, open_model


@dataclass(frozen=True)
class FoundModel:
    """A model's files on this machine, and its name on the hub where it came from there or is the built-in one."""

    sources: list[FileSource]
    base: str | None = None


@dataclass(frozen=True)
class OpenedModel:
    """A model's files with what is made from the small ones. Nothing of it is on the GPU."""

    files: ModelFiles
    tokenizer: Tokenizer


def find_model(wanted: str, needed: Sequence[Path] = ()) -> FoundModel:
    """Return the files of the model that --model names; fetched, if they are not on this machine.

    `needed`: datasets that must be there before anything is fetched. Not inside an event loop: a download waits.
    Raises ModelError (HubError), or LoraLabError for a dataset.
    """
    if wanted != BUILT_IN and not is_hub_name(wanted):
        return _on_this_machine(Path(wanted))
    name = None if wanted == BUILT_IN else parse_hub_name(wanted)
    for path in needed:
        DataSource.from_path(path)
    if name is None:
        return FoundModel(sources_from_path(builtin_path()), BUILTIN.base)
    from lora_lab.cli.hub import fetch_hub_model  # huggingface_hub takes its time to import

    return FoundModel(*fetch_hub_model(name))


def _on_this_machine(path: Path) -> FoundModel:
    if path.exists():
        return FoundModel(sources_from_path(path))
    hint = ""
    with suppress(HubError):  # no name on the hub either
        hint = f"; for the one on the hub write {parse_hub_name(str(path))}"
    raise ModelError(f"{path} does not exist; wanted a .gguf file or a Hugging Face folder{hint}")


async def open_found(model: FoundModel) -> OpenedModel:
    """Open a model's files. Raises ModelError naming every problem."""
    files = await open_model(model.sources)
    return OpenedModel(files, load_tokenizer(files.tokenizer))
