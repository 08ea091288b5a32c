"""The adapters' side of the train worker: what is kept, listed, renamed, deleted, exported, taken in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lora_lab.config import ModelConfig
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import Tokenizer
from lora_lab.errors import AdapterError, ModelError
from lora_lab.formats.peft import read_adapter
from lora_lab.formats.zipping import pack_adapter, unpack_adapter
from lora_lab.model.files import ModelFiles
from lora_lab.workers.protocol import (
    AdapterDeleted,
    AdapterExported,
    AdapterFiles,
    AdapterImported,
    AdapterInfo,
    AdapterList,
    DeleteAdapter,
    ExportAdapter,
    GetAdapter,
    ImportAdapter,
    NamedBlob,
    RenameAdapter,
    RestoreAdapter,
    SaveSampleAnswers,
    Storage,
)
from lora_lab.workers.services.gpu import EngineWorker
from lora_lab.workers.storage.adapter_shelf import AdapterStore, zip_name
from lora_lab.workers.storage.downloads import ModelCache
from lora_lab.workers.storage.folders import Home, open_home, storage_numbers
from lora_lab.workers.storage.tabs import join_tabs
from lora_lab.workers.wire.dispatch import Host, handles
from lora_lab.workers.wire.host import blob_bytes

MAX_ADAPTER_BYTES = 1 << 30
WANTED_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin", "README.md")


@dataclass(frozen=True)
class OpenedModel:
    """The model that is open: its files, what makes tokens of text, and what it is called on the hub."""

    files: ModelFiles
    tokenizer: Tokenizer
    template: ChatTemplate | None
    base_model: str
    title: str


def model_shape(config: ModelConfig) -> str:
    """Return the dimensions that decide whether an adapter's matrices fit, as one line."""
    return (
        f"{config.architecture} layers={config.num_layers} hidden={config.hidden_size} mlp={config.intermediate_size} "
        f"q={config.query_size} kv={config.kv_size}"
    )


class AdapterKeeper(EngineWorker):
    """Answers the page's commands about adapters, and holds the model that they are checked against."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.model: OpenedModel | None = None
        self._home: asyncio.Future[Home] = asyncio.ensure_future(open_home())
        self._opened: asyncio.Future[None] = asyncio.ensure_future(self._open_storage())

    async def _open_storage(self) -> None:
        home = await self._home
        self.store = AdapterStore(await home.folder.folder("adapters"))
        self.cache = ModelCache(home, self.host.post, self._storage_trouble)
        await join_tabs(home.locks, self.store.forget_deleted)

    async def begin(self) -> None:
        """Open the storage, list what it holds, look for a GPU."""
        self.look_for_gpu()
        await self._opened
        await self.tell_storage()
        await self.tell_adapters()

    async def tell_storage(self) -> None:
        """Tell the page what is stored, and whether it stays."""
        home = await self._home
        used, quota, persistent = await storage_numbers()
        self.host.post(Storage(home.lasts, persistent, used, quota, home.reason))

    def _storage_trouble(self, reason: str) -> None:
        self.host.post(Storage(False, reason=reason))

    def need_model(self, why: str) -> OpenedModel:
        """Return the open model; ModelError, saying `why` one is needed, if there is none."""
        if self.model is None:
            raise ModelError(f"{why}, and none is open.")
        return self.model

    async def tell_adapters(self) -> None:
        """Send the list of adapters, each marked as fitting the open model or not."""
        adapters = await self.store.all()
        if self.model is not None:
            shape = model_shape(self.model.files.config)
            adapters = [replace(info, fits=info.model_shape == shape) for info in adapters]
        self.host.post(AdapterList(tuple(adapters)))

    @handles(GetAdapter, "adapter")
    async def get_adapter(self, command: GetAdapter) -> None:
        """Send an adapter's files, to be handed to the chat worker."""
        info = await self.store.info(command.id)
        self.host.post(AdapterFiles(info.id, info.name, await self.store.files(info.id)))

    @handles(ExportAdapter, "adapter")
    async def export_adapter(self, command: ExportAdapter) -> None:
        """Send an adapter as a zip of PEFT's files."""
        info = await self.store.info(command.id)
        data = pack_adapter(await self.store.files(info.id))
        self.host.post(AdapterExported(info.id, zip_name(info.name), data))

    @handles(ImportAdapter, "adapter", exclusive=True)
    async def import_adapter(self, command: ImportAdapter) -> None:
        """Check every name and shape against the open model; keep the adapter if all are right."""
        opened = self.need_model("An adapter is checked against the model")
        files, name = await _adapter_files(command.files)
        lora, _ = read_adapter(files, opened.files.config)
        known_base = json.loads(files["adapter_config.json"]).get("base_model_name_or_path") or opened.base_model
        shape = model_shape(opened.files.config)
        info = AdapterInfo(
            id="", name=name, created_at="", base_model=str(known_base), dataset="", rows=0, steps=0, rank=lora.rank,
            alpha=lora.alpha, targets=lora.targets, size_bytes=0, model_shape=shape, imported=True,
        )  # fmt: skip
        kept = await self.store.add(info, files)
        await self.tell_adapters()
        self.host.post(AdapterImported(kept))

    @handles(RenameAdapter, "adapter")
    async def rename_adapter(self, command: RenameAdapter) -> None:
        """Give an adapter another name."""
        await self.store.rename(command.id, command.name)
        await self.tell_adapters()

    @handles(DeleteAdapter, "adapter")
    async def delete_adapter(self, command: DeleteAdapter) -> None:
        """Hide an adapter; it is removed for good at the next start."""
        info = await self.store.delete(command.id)
        self.host.post(AdapterDeleted(info.id, info.name))
        await self.tell_adapters()

    @handles(RestoreAdapter, "adapter")
    async def restore_adapter(self, command: RestoreAdapter) -> None:
        """Bring a hidden adapter back."""
        await self.store.restore(command.id)
        await self.tell_adapters()

    @handles(SaveSampleAnswers, "adapter")
    async def save_sample_answers(self, command: SaveSampleAnswers) -> None:
        """Keep what the validation card showed."""
        await self.store.keep_answers(command.id, command.answers)
        await self.tell_adapters()


async def _adapter_files(files: Sequence[NamedBlob]) -> tuple[dict[str, bytes], str]:
    """Return an adapter's files by bare name, from two files, a folder's files or one zip; and a name for it."""
    if (size := sum(int(file.blob.size) for file in files)) > MAX_ADAPTER_BYTES:
        raise AdapterError(f"These files have {size:,} bytes; an adapter has at most {MAX_ADAPTER_BYTES:,}.")
    if len(files) == 1 and files[0].name.lower().endswith(".zip"):
        return unpack_adapter(await blob_bytes(files[0])), files[0].name.rpartition("/")[2][: -len(".zip")]
    wanted = [file for file in files if file.name.rpartition("/")[2] in WANTED_FILES]
    if not wanted:
        names = ", ".join(file.name for file in files[:5])
        raise AdapterError(f"{names}: wanted adapter_config.json and adapter_model.safetensors, or a zip with both.")
    folders = {file.name.rpartition("/")[0] for file in wanted}
    if len(folders) > 1:
        raise AdapterError(f"Adapters in {len(folders)} folders: {', '.join(sorted(folders))}. Add one at a time.")
    found = {file.name.rpartition("/")[2]: await blob_bytes(file) for file in wanted}
    return found, folders.pop().rpartition("/")[2] or "Added adapter"
