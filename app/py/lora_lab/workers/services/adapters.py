"""The adapters that are kept: listed, renamed, deleted, exported, taken in and checked against the open model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lora_lab.config import ModelConfig
from lora_lab.errors import AdapterError, LoraLabError
from lora_lab.evaluation.record import RunRecord, take_record
from lora_lab.formats.adapter_folders import outermost
from lora_lab.formats.peft import RUN_FILE, TEMPLATE_FILE, read_adapter
from lora_lab.formats.peft_card import with_base_model
from lora_lab.formats.zipping import pack_adapter, unpack_with_remark
from lora_lab.model.adapter_files import open_adapter
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
from lora_lab.workers.run.run_record import known_of
from lora_lab.workers.services.models import Models
from lora_lab.workers.services.stores import Stores
from lora_lab.workers.storage.adapter_shelf import zip_name
from lora_lab.workers.wire.dispatch import Host, handles
from lora_lab.workers.wire.host import blob_bytes

MAX_ADAPTER_BYTES = 1 << 30


class Adapters:
    """Answers the page's commands about adapters."""

    def __init__(self, host: Host, stores: Stores, models: Models) -> None:
        self._host, self._stores, self._models = host, stores, models

    async def tell_adapters(self) -> None:
        """Send the list of adapters, each marked as fitting the open model or not."""
        adapters = await self._stores.shelf.all()
        if (model := self._models.model) is not None:
            shape = model_shape(model.files.config)
            config = model.files.config
            adapters = [
                replace(info, fits=info.model_shape == shape if info.model_shape else await self._fits(info, config))
                for info in adapters
            ]
        self._host.post(AdapterList(tuple(adapters)))

    async def _fits(self, info: AdapterInfo, config: ModelConfig) -> bool:
        """Return whether an adapter fits of which no more is known than its files say."""
        try:
            read_adapter(await self._stores.shelf.files(info.id), config)
        except LoraLabError:
            return False
        return True

    @handles(GetAdapter, "adapter")
    async def get_adapter(self, command: GetAdapter) -> None:
        """Send an adapter's files, to be handed to the chat worker."""
        info = await self._stores.shelf.info(command.id)
        files = await self._stores.shelf.files(info.id)
        files.pop(RUN_FILE, None)  # the chat has no use for it
        self._host.post(AdapterFiles(info.id, info.name, files))

    @handles(ExportAdapter, "adapter")
    async def export_adapter(self, command: ExportAdapter) -> None:
        """Send an adapter as a zip of PEFT's files. Its base may have been named since it was trained."""
        info = await self._stores.shelf.info(command.id)
        files, model = await self._stores.shelf.files(info.id), self._models.model
        if model is not None and model.hub_id and info.model_shape == model_shape(model.files.config):
            files = with_base_model(files, model.hub_id)
        self._host.post(AdapterExported(info.id, zip_name(info.name), pack_adapter(files)))

    @handles(ImportAdapter, "adapter", exclusive=True)
    async def import_adapter(self, command: ImportAdapter) -> None:
        """Check every name and shape against the open model; keep the adapter if all are right."""
        opened = self._models.need_model("An adapter is checked against the model")
        files, name, remark = await _adapter_files(command.files)
        brought = await open_adapter(files, opened.files.config)
        kept_files, record, trouble = _with_record(brought.files, files)
        known: dict[str, Any] = {"dataset": "", "rows": 0, "steps": 0, **(known_of(record) if record else {})}
        info = AdapterInfo(
            id="", name=name, created_at="", base_model=brought.base_model or opened.base_model,
            rank=brought.lora.rank, alpha=brought.lora.alpha, targets=brought.lora.targets, size_bytes=0,
            model_shape=model_shape(opened.files.config), imported=True,
            chat_format="its own" if TEMPLATE_FILE in brought.files else "", **known,
        )  # fmt: skip
        kept = await self._stores.shelf.add(info, kept_files)
        await self.tell_adapters()
        remarks = (remark, *brought.remarks, trouble)
        self._host.post(AdapterImported(kept, tuple(one for one in remarks if one)))

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


def _with_record(
    kept: Mapping[str, bytes], came: Mapping[str, bytes]
) -> tuple[dict[str, bytes], RunRecord | None, str]:
    """Return an adapter's files with the record of its run, where one came that is good; that; and what is to be said.

    An adapter is kept without a record that is none.
    """
    record, trouble = take_record(came)
    files = {name: data for name, data in kept.items() if name != RUN_FILE}
    return files | ({RUN_FILE: came[RUN_FILE]} if record else {}), record, trouble


async def _adapter_files(files: Sequence[NamedBlob]) -> tuple[dict[str, bytes], str, str | None]:
    """Return an adapter's files by bare name, from its files, a folder's or one zip; a name; perhaps a remark."""
    if (size := sum(int(file.blob.size) for file in files)) > MAX_ADAPTER_BYTES:
        raise AdapterError(f"These files have {size:,} bytes; an adapter has at most {MAX_ADAPTER_BYTES:,}.")
    if len(files) == 1 and files[0].name.lower().endswith(".zip"):
        unpacked, remark = unpack_with_remark(await blob_bytes(files[0]))
        return unpacked, _stem(files[0].name), remark
    chosen, remark = outermost([file.name for file in files], "what was added")
    found = {file.name.rpartition("/")[2]: await blob_bytes(file) for file in files if file.name in chosen}
    folder = chosen[0].rpartition("/")[0].rpartition("/")[2]
    return (
        found,
        folder or next((_stem(name) for name in found if name.lower().endswith(".gguf")), "Added adapter"),
        remark,
    )


def _stem(name: str) -> str:
    return name.rpartition("/")[2].rpartition(".")[0]
