"""The adapters that are kept: listed, renamed, deleted, exported, taken in and checked against the open model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from lora_lab.errors import AdapterError
from lora_lab.formats.peft import TEMPLATE_FILE, read_adapter
from lora_lab.formats.zipping import pack_adapter, unpack_adapter
from lora_lab.workers.model.opened import model_shape
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
)
from lora_lab.workers.services.models import Models
from lora_lab.workers.services.stores import Stores
from lora_lab.workers.storage.adapter_shelf import zip_name
from lora_lab.workers.wire.dispatch import Host, handles
from lora_lab.workers.wire.host import blob_bytes

MAX_ADAPTER_BYTES = 1 << 30
WANTED_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin", "README.md", TEMPLATE_FILE)


class Adapters:
    """Answers the page's commands about adapters."""

    def __init__(self, host: Host, stores: Stores, models: Models) -> None:
        self._host, self._stores, self._models = host, stores, models

    async def tell_adapters(self) -> None:
        """Send the list of adapters, each marked as fitting the open model or not."""
        adapters = await self._stores.shelf.all()
        if (model := self._models.model) is not None:
            shape = model_shape(model.files.config)
            adapters = [replace(info, fits=info.model_shape == shape) for info in adapters]
        self._host.post(AdapterList(tuple(adapters)))

    @handles(GetAdapter, "adapter")
    async def get_adapter(self, command: GetAdapter) -> None:
        """Send an adapter's files, to be handed to the chat worker."""
        info = await self._stores.shelf.info(command.id)
        self._host.post(AdapterFiles(info.id, info.name, await self._stores.shelf.files(info.id)))

    @handles(ExportAdapter, "adapter")
    async def export_adapter(self, command: ExportAdapter) -> None:
        """Send an adapter as a zip of PEFT's files."""
        info = await self._stores.shelf.info(command.id)
        data = pack_adapter(await self._stores.shelf.files(info.id))
        self._host.post(AdapterExported(info.id, zip_name(info.name), data))

    @handles(ImportAdapter, "adapter", exclusive=True)
    async def import_adapter(self, command: ImportAdapter) -> None:
        """Check every name and shape against the open model; keep the adapter if all are right."""
        opened = self._models.need_model("An adapter is checked against the model")
        files, name = await _adapter_files(command.files)
        lora, _ = read_adapter(files, opened.files.config)
        known_base = json.loads(files["adapter_config.json"]).get("base_model_name_or_path") or opened.base_model
        shape = model_shape(opened.files.config)
        info = AdapterInfo(
            id="", name=name, created_at="", base_model=str(known_base), dataset="", rows=0, steps=0, rank=lora.rank,
            alpha=lora.alpha, targets=lora.targets, size_bytes=0, model_shape=shape, imported=True,
            chat_format="its own" if TEMPLATE_FILE in files else "",
        )  # fmt: skip
        kept = await self._stores.shelf.add(info, files)
        await self.tell_adapters()
        self._host.post(AdapterImported(kept))

    @handles(RenameAdapter, "adapter")
    async def rename_adapter(self, command: RenameAdapter) -> None:
        """Give an adapter another name."""
        await self._stores.shelf.rename(command.id, command.name)
        await self.tell_adapters()

    @handles(DeleteAdapter, "adapter")
    async def delete_adapter(self, command: DeleteAdapter) -> None:
        """Hide an adapter; it is removed for good at the next start."""
        info = await self._stores.shelf.delete(command.id)
        self._host.post(AdapterDeleted(info.id, info.name))
        await self.tell_adapters()

    @handles(RestoreAdapter, "adapter")
    async def restore_adapter(self, command: RestoreAdapter) -> None:
        """Bring a hidden adapter back."""
        await self._stores.shelf.restore(command.id)
        await self.tell_adapters()

    @handles(SaveSampleAnswers, "adapter")
    async def save_sample_answers(self, command: SaveSampleAnswers) -> None:
        """Keep what the validation card showed."""
        await self._stores.shelf.keep_answers(command.id, command.answers)
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
