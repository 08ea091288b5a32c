"""What a run has learned: given to the page before anything is stored, then kept on the shelf."""

from __future__ import annotations

import asyncio

from lora_lab.config import LoraConfig
from lora_lab.errors import LoraLabError
from lora_lab.formats.zipping import pack_adapter
from lora_lab.workers.model.opened import OpenedModel, model_shape
from lora_lab.workers.protocol import AdapterInfo, AdapterLearned, Failed
from lora_lab.workers.run.going_on import Learned
from lora_lab.workers.run.job import Job
from lora_lab.workers.services.adapters import Adapters
from lora_lab.workers.services.stores import Stores
from lora_lab.workers.storage.adapter_shelf import zip_name
from lora_lab.workers.storage.folders import FullError
from lora_lab.workers.wire.dispatch import Host, failure

STORED_WITHIN_S = 60.0  # a browser that does not answer shall hold up nothing


class Results:
    """Keeps the adapters that runs have made."""

    def __init__(self, host: Host, stores: Stores, adapters: Adapters) -> None:
        self._host, self._stores, self._adapters = host, stores, adapters

    async def keep(self, info: AdapterInfo, files: dict[str, bytes]) -> AdapterInfo:
        """Hand an adapter to the page, and keep it. LoraLabError says what the storage did not take, and why."""
        self._host.post(AdapterLearned(zip_name(info.name), pack_adapter(files)))
        try:
            return await asyncio.wait_for(self._stores.shelf.add(info, files), STORED_WITHIN_S)
        except FullError as error:
            room = await self._stores.room(sum(map(len, files.values())))
            raise LoraLabError(f"{NOT_KEPT}: {error}.\n{room}") from error
        except TimeoutError as error:
            raise LoraLabError(f"{NOT_KEPT}: it did not answer for {STORED_WITHIN_S:.0f} s.") from error
        except Exception as error:
            why = str(error).rstrip(".") or type(error).__name__
            raise LoraLabError(f"{NOT_KEPT}: {why}.") from error

    async def tell_what_is_kept(self) -> Failed | None:
        """Send the list of adapters and the storage's numbers. Returns what went wrong: the result matters more."""
        try:
            await self._adapters.tell_adapters()
            await self._stores.tell_storage()
        except Exception as error:
            return failure("storage", error)
        return None


NOT_KEPT = "The adapter was given as a download, as the browser's storage did not take it"


def new_info(opened: OpenedModel, job: Job, lora: LoraConfig, learned: Learned) -> AdapterInfo:
    """Return what is kept beside a trained adapter; the store gives it an id, a date and a free name."""
    steps, curves = learned.steps, learned.curves
    chosen = opened.chosen(job.settings.chat_format)
    return AdapterInfo(
        id="",
        name=f"{job.title.removesuffix('.jsonl')}, {steps} step{'s' if steps != 1 else ''}",
        created_at="",
        base_model=opened.base_model,
        dataset=job.dataset,
        rows=job.split.own,
        steps=steps,
        rank=lora.rank,
        alpha=lora.alpha,
        targets=lora.targets,
        size_bytes=0,
        model_shape=model_shape(opened.files.config),
        learning_rate=job.settings.learning_rate,
        recomputed_layers=learned.recomputed_layers,
        final_loss=curves.loss[-1][1],
        loss_curve=tuple(curves.loss),
        validation_curve=tuple(curves.validation),
        chat_format=chosen.title if chosen else "",
    )
