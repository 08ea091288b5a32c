"""The models that the site holds, as its models/index.json lists them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lora_lab.errors import LoraLabError, ModelError
from lora_lab.formats.byte_source import ByteSource, UrlSource
from lora_lab.formats.json_reader import read_json
from lora_lab.workers.storage.downloads import WantedFile
from lora_lab.workers.wire.host import fetch_bytes, site_url


@dataclass(frozen=True)
class SiteModel:
    """A model that the site holds."""

    id: str
    title: str
    files: tuple[WantedFile, ...]
    base_model: str | None = None  # its name on the Hugging Face hub, for adapter_config.json


@dataclass(frozen=True)
class SiteIndex:
    """What models/index.json says: the models by id, the one to begin with, and the hub's address if there is one."""

    models: dict[str, SiteModel]
    default: str | None
    hub: str | None

    def find(self, model_id: str | None) -> SiteModel:
        """Return the model with this id (None: the default). ModelError if there is none."""
        if not self.models:
            raise ModelError(
                "This site was built without a model. Choose one of your own below: a .gguf file, or the "
                "files of a Hugging Face folder."
            )
        chosen = model_id or self.default
        if chosen not in self.models:
            raise ModelError(f"This site has no model called {chosen!r}. It has: {', '.join(sorted(self.models))}.")
        return self.models[chosen]

    @property
    def keys(self) -> set[str]:
        """What the files of all models are stored under."""
        return {file.key for model in self.models.values() for file in model.files}


async def read_site_index() -> SiteIndex:
    """Fetch the site's list of models. LoraLabError if it cannot be had."""
    index = read_json(await fetch_bytes("models/index.json"))
    models = {model_id: _model(model_id, entry) for model_id, entry in index["models"].items()}
    return SiteIndex(models, index["default"], index.get("hub"))


def _model(model_id: str, entry: dict[str, Any]) -> SiteModel:
    files = tuple(
        WantedFile(file["path"], site_url(f"models/{file['path']}"), int(file["size_bytes"]), file["sha256"])
        for file in entry["files"]
    )
    return SiteModel(model_id, entry.get("title") or model_id, files, entry.get("base_model"))


async def open_on_site(model: SiteModel) -> list[ByteSource]:
    """Return a model's files to be read where they are, range by range; nothing is fetched whole or kept."""
    return [await UrlSource.open(file.url, file.path) for file in model.files]


def site_answer(file: WantedFile, status: int, *_: str | None) -> LoraLabError:
    """Return what is said where the site's server answers with an error."""
    return LoraLabError(f"{file.path} could not be fetched: the server answered {status}.")
