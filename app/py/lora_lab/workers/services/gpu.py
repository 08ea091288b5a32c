"""What both workers share: the GPU, watched for being lost, and the tokenizer side of a model's files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import Tokenizer, load_tokenizer
from lora_lab.errors import DeviceError
from lora_lab.formats.byte_source import BlobSource, ByteSource
from lora_lab.gpu import Device, open_device
from lora_lab.model.files import ModelFiles, open_model
from lora_lab.workers.protocol import Gpu, ModelProgress, NamedBlob
from lora_lab.workers.wire.dispatch import Host, Worker
from lora_lab.workers.wire.host import phase

WATCH_EVERY_S = 1.5
PROGRESS_EVERY_S = 0.1


class EngineWorker(Worker):
    """A worker with a GPU of its own (perhaps) and a model that is open (perhaps)."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._device: asyncio.Task[Device] | None = None

    def look_for_gpu(self) -> None:
        """Begin to open the GPU; its events tell the page how that goes."""
        self._device = asyncio.ensure_future(self._open_gpu())
        self._device.add_done_callback(lambda task: task.exception())  # told to the page already

    async def device(self) -> Device:
        """Return the GPU as soon as it is open. DeviceError if there is none."""
        if self._device is None:
            raise DeviceError("The GPU was not looked for.")
        return await self._device

    async def _open_gpu(self) -> Device:
        self.host.post(Gpu("looking"))
        try:
            with phase("gpu"):
                device = await open_device()
        except Exception as error:
            self.host.post(Gpu("none", message=str(error)))
            raise
        info = device.info
        self.host.post(Gpu("found", info.name, info.vendor, info.backend, info.is_software))
        self._watcher = asyncio.ensure_future(self._watch(device))
        return device

    async def _watch(self, device: Device) -> None:
        """Tell the page when the GPU is lost, also while nothing is going on."""
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            try:
                await device.finished()
            except Exception as error:
                self.host.post(Gpu("lost", device.info.name, message=_lost_words(device, error)))
                return

    async def has_gpu(self) -> bool:
        """Return whether there is a GPU, as soon as that is known."""
        try:
            await self.device()
        except Exception:
            return False
        return True

    async def open_files(self, files: Sequence[NamedBlob]) -> tuple[ModelFiles, Tokenizer, ChatTemplate | None]:
        """Open a model's files and what turns text into tokens. ModelError lists every problem."""
        return await self.open_sources([BlobSource(file.blob, file.name) for file in files])

    async def open_sources(self, sources: Sequence[ByteSource]) -> tuple[ModelFiles, Tokenizer, ChatTemplate | None]:
        """The same for files wherever they are."""
        self.host.post(ModelProgress("read", 0, 0))
        with phase("model header"):
            opened = await open_model(sources)
        with phase("chat template"):
            source = opened.tokenizer.chat_template
            template = ChatTemplate(source, opened.tokenizer.special_tokens) if source else None
        with phase("tokenizer"):
            tokenizer = load_tokenizer(opened.tokenizer)
        return opened, tokenizer, template


def _lost_words(device: Device, error: Exception) -> str:
    reason = device.lost_reason or str(error)
    return (
        f"The GPU was lost ({reason}). That happens when the computer sleeps, a driver is updated or memory runs out. "
        "Adapters that were saved are safe."
    )


def seldom(tell: Callable[[float, float], None]) -> Callable[[int, int], None]:
    """Return a progress callback that passes on the first call, the last, and one every now and then."""
    told = 0.0

    def on_progress(done: int, total: int) -> None:
        nonlocal told
        now = time.monotonic()
        if done >= total or now - told >= PROGRESS_EVERY_S:
            told = now
            tell(done, total)

    return on_progress
