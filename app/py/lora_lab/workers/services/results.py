"""What a run has learned: given to the page before anything is stored, then kept on the shelf."""

from __future__ import annotations

import asyncio

from lora_lab.config import LoraConfig
from lora_lab.errors import LoraLabError
from lora_lab.evaluation.card_facts import card_facts
from lora_lab.evaluation.record import record_bytes
from lora_lab.formats.peft import write_adapter
from lora_lab.formats.zipping import pack_adapter
from lora_lab.workers.model.opened import OpenedModel, model_shape
from lora_lab.workers.protocol import AdapterInfo, AdapterLearned, Failed, Notice, RunVerdict, TrainingDone
from lora_lab.workers.run.going_on import Learned
from lora_lab.workers.run.job import Job
from lora_lab.workers.run.planner import lora_config
from lora_lab.workers.run.run_record import make_record
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

    async def keep_run(
        self, opened: OpenedModel, job: Job, learned: Learned
    ) -> tuple[AdapterInfo, AdapterInfo | None]:  # fmt: skip
        """Keep what a run has learned; return the adapter that is given out, and the other one where there is another.

        LoraLabError says why the storage did not take the first. The second is worth no error: a notice tells of it.
        """
        lora, chosen = lora_config(job.settings, opened.files.config), opened.chosen(job.settings.chat_format)
        template = chosen.template.source if chosen else None
        kept: list[AdapterInfo] = []
        for step, tensors in learned.adapters:
            record = await make_record(opened, job, learned, step)
            run = card_facts(record, record_bytes(record))
            files = write_adapter(tensors, lora, opened.files.config, opened.hub_id, template, run)
            info = new_info(opened, job, lora, learned, step)
            if not kept:
                kept.append(await self.keep(info, files))
                continue
            try:
                kept.append(await asyncio.wait_for(self._stores.shelf.add(info, files), STORED_WITHIN_S))
            except Exception as error:
                why = str(error).rstrip(".") or type(error).__name__
                self._host.post(Notice(f"The adapter of step {step:,} could not be kept beside it: {why}."))
        return kept[0], kept[1] if len(kept) > 1 else None

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


def new_info(opened: OpenedModel, job: Job, lora: LoraConfig, learned: Learned, step: int) -> AdapterInfo:
    """Return what is kept beside the adapter of a step; the store gives it an id, a date and a free name."""
    steps, curves = learned.steps, learned.curves
    which = f"{steps:,} step{'s' if steps != 1 else ''}" if step == steps else f"step {step:,} of {steps:,}"
    chosen = opened.chosen(job.settings.chat_format)
    return AdapterInfo(
        id="",
        name=f"{job.title.removesuffix('.jsonl')}, {which}",
        created_at="",
        base_model=opened.base_model,
        dataset=job.dataset,
        rows=job.split.own,
        steps=step,
        rank=lora.rank,
        alpha=lora.alpha,
        targets=lora.targets,
        size_bytes=0,
        model_shape=model_shape(opened.files.config),
        learning_rate=job.settings.learning_rate,
        recomputed_layers=learned.recomputed_layers,
        final_loss=curves.loss[step - 1][1],
        loss_curve=tuple(curves.loss),
        validation_curve=tuple(curves.validation),
        chat_format=chosen.title if chosen else "",
    )


def done_event(
    job: Job, learned: Learned, info: AdapterInfo, other: AdapterInfo | None, was_stopped: bool,
    verdict: RunVerdict | None,
) -> TrainingDone:  # fmt: skip
    """Return what the page hears of a run whose adapters are kept."""
    return TrainingDone(
        adapter=info,
        stopped=was_stopped,
        probes=job.probes,
        other=other,
        kept=learned.kept,
        kept_step=info.steps,
        best_step=learned.best.step if learned.best else None,
        stopped_early=learned.stopped_early,
        verdict=verdict,
        sample_share=learned.sample_share,
    )
