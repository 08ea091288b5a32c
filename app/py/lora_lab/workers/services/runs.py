"""Training runs: one at a time, from the first step to the last or to a stop; what was learned is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass

from lora_lab.config import LoraConfig
from lora_lab.errors import DatasetError, LoraLabError
from lora_lab.formats.peft import write_adapter
from lora_lab.formats.zipping import pack_adapter
from lora_lab.train import StepDone, Trainer, ValidationDone
from lora_lab.workers.dataset.opened import Choices, OpenDataset, Split
from lora_lab.workers.model.opened import OpenedModel, model_shape
from lora_lab.workers.protocol import (
    AdapterExported,
    AdapterInfo,
    Failed,
    StartTraining,
    StopTraining,
    TrainingDone,
    TrainingState,
    TrainingStep,
    TrainSettings,
    ValidationLoss,
)
from lora_lab.workers.run.checks import nothing_to_do, refuse
from lora_lab.workers.run.planner import check_settings, lora_config
from lora_lab.workers.services.adapters import Adapters
from lora_lab.workers.services.datasets import Datasets
from lora_lab.workers.services.gpu import Gpu
from lora_lab.workers.services.models import Models
from lora_lab.workers.services.plans import Plans
from lora_lab.workers.services.stores import Stores
from lora_lab.workers.storage.adapter_shelf import zip_name
from lora_lab.workers.wire.dispatch import Host, failure, handles, hears
from lora_lab.workers.wire.seldom import seldom
from lora_lab.workers.wire.tasks import quietly

NOTHING_LEARNED = "Stopped before the first step: nothing was learned, nothing is kept."


@dataclass
class Curves:
    """A run's losses as (step, loss)."""

    loss: list[tuple[float, float]]
    validation: list[tuple[float, float]]


class Runs:
    """Answers StartTraining and StopTraining, and tells the page all along how the run goes."""

    def __init__(
        self, host: Host, gpu: Gpu, stores: Stores, models: Models, adapters: Adapters, datasets: Datasets,
        plans: Plans,
    ) -> None:  # fmt: skip
        self._host, self._gpu, self._stores, self._models = host, gpu, stores, models
        self._adapters, self._datasets, self._plans = adapters, datasets, plans
        self.training = False  # from the moment that a run was asked for
        self.getting_ready: asyncio.Future[None] | None = None
        self._trainer: Trainer | None = None
        self._stop_asked = False

    @hears(StartTraining)
    def asked_for(self, _: StartTraining) -> bool:
        """Note that a run was asked for: it can be stopped, and is the only one, while it waits for its turn."""
        if self.training:  # the button was pressed twice
            return False
        self.training, self._stop_asked = True, False
        self._tell_state("loading")
        return True

    @handles(StopTraining, "training")
    async def stop_training(self, _: StopTraining) -> None:
        """Ask the run to end after what the GPU has been given: two steps at most."""
        if not self.training:
            return
        self._stop_asked = True
        self._tell_state("stopping")
        if self._trainer is not None:
            self._trainer.stop()
        if self.getting_ready is not None:
            self.getting_ready.cancel()
        elif self._trainer is None:
            await self._datasets.stop_counting()

    @handles(StartTraining, "training", exclusive=True)
    async def start_training(self, command: StartTraining) -> None:
        """Train from the first step to the last or to a stop; keep the adapter; tell the page all along."""
        try:
            await self._train(command)
        except Exception:
            self._tell_state("error")
            raise
        finally:
            self.training = False

    async def _train(self, command: StartTraining) -> None:
        settings = command.settings
        ready = None if self._stop_asked else await self._ready_to_train(command)
        if ready is None:
            self._tell_state("idle", detail=NOTHING_LEARNED)
            return
        opened, dataset, split = ready
        plan, lora = await self._plans.plan_run(settings, split), lora_config(settings, opened.files.config)
        trainer = self._trainer = plan.trainer
        try:
            await self._get_ready(trainer, settings.seed)
            curves, error = await self._run(trainer)
            stopped = self._stop_asked or error is not None
            if trainer.steps_done:
                tensors = await trainer.adapter.to_tensors()
                template = chosen.template.source if (chosen := opened.chosen(settings.chat_format)) else None
                files = write_adapter(tensors, lora, opened.files.config, opened.base_model, template)
        finally:
            self._trainer = None
            self._plans.release(trainer)
        if trainer.steps_done:
            probes = dataset.choose_probes(split)
            info = _new_info(opened, dataset, settings, lora, len(split.trained), trainer, curves)
            info = await self._keep(info, files)
            trouble = await self._tell_what_is_kept()
            # From here to the end of the run nothing else gets a turn: no stop can come after "done".
            self._tell_state("error" if error else "done")
            self._host.post(TrainingDone(info, stopped, probes))
            if trouble:
                self._host.post(trouble)
        elif error is None:
            self._tell_state("idle", detail=NOTHING_LEARNED)
        if error:
            raise error

    async def _keep(self, info: AdapterInfo, files: dict[str, bytes]) -> AdapterInfo:
        """Keep what was learned. Where the storage refuses, the page gets it as a download before the error."""
        try:
            return await self._stores.shelf.add(info, files)
        except Exception as error:
            self._host.post(AdapterExported("", zip_name(info.name), pack_adapter(files)))
            why = str(error).rstrip(".") or type(error).__name__
            raise LoraLabError(
                f"The browser's storage did not take the adapter ({why}). It was given as a download instead."
            ) from error

    async def _tell_what_is_kept(self) -> Failed | None:
        """Send the list of adapters and the storage's numbers. Returns what went wrong: the result matters more."""
        try:
            await self._adapters.tell_adapters()
            await self._stores.tell_storage()
        except Exception as error:
            return failure("storage", error)
        return None

    async def _ready_to_train(self, command: StartTraining) -> tuple[OpenedModel, OpenDataset, Split] | None:
        """Return what the run works on, its tokens counted; None when it was stopped meanwhile."""
        opened = self._models.need_model("Training needs a model")
        dataset = self._datasets.dataset
        if dataset is None:
            raise DatasetError("Training needs a dataset: drop a file, or take the sample.")
        refuse(check_settings(command.settings, opened.files.config))
        choices = Choices.of(command.settings)
        is_counted = await self._datasets.count_for(choices)
        if self._stop_asked:
            return None
        if not is_counted:
            raise DatasetError("Training did not begin: the dataset was given up while its tokens were counted.")
        self._datasets.show_choices(choices)
        bad = dataset.cut(choices).bad_rows
        if bad and not command.accept_problems:
            raise DatasetError(f"{bad} rows cannot be used. Mend them, or agree to train on the good rows only.")
        split = dataset.split(command.settings)
        if problem := nothing_to_do(split):
            raise DatasetError(problem.message)
        return opened, dataset, split

    async def _get_ready(self, trainer: Trainer, seed: int) -> None:
        """Bring the run to the GPU. What is told is what takes longest: first the weights, then what still compiles."""
        loaded = False

        def on_loaded(done: float, total: float) -> None:
            nonlocal loaded
            loaded = done >= total
            self._tell_state("compiling" if loaded else "loading", *(() if loaded else (done, total)))

        def on_compiled(done: float, total: float) -> None:
            if loaded:
                self._tell_state("compiling", done, total)

        if self._stop_asked:
            return

        def get_ready() -> Awaitable[None]:
            return self._plans.get_ready(trainer, seed, seldom(on_loaded), seldom(on_compiled))

        self.getting_ready = asyncio.ensure_future(quietly(get_ready))
        try:
            await self.getting_ready
        except asyncio.CancelledError:
            if not self._stop_asked:
                raise
        finally:
            self.getting_ready = None

    async def _run(self, trainer: Trainer) -> tuple[Curves, LoraLabError | None]:
        """Run to the end; return the loss curves, and the error that ended the run early if there was one."""
        curves = Curves([], [])
        if self._stop_asked:
            return curves, None
        self._tell_state("training", 0, trainer.total_steps)
        try:
            async for event in trainer.run():
                if isinstance(event, StepDone):
                    curves.loss.append((event.step, event.loss))
                    self._host.post(_step(event))
                elif isinstance(event, ValidationDone):
                    curves.validation.append((event.step, event.loss))
                    self._host.post(ValidationLoss(event.step, event.loss))
                await asyncio.sleep(0)  # let a stop, a rename or a list in
        except LoraLabError as error:
            (await self._gpu.device()).raise_if_lost()  # then nothing can be read back
            return curves, error
        return curves, None

    def _tell_state(self, state: str, done: float = 0, total: float = 0, detail: str = "") -> None:
        if self._stop_asked and state in ("loading", "compiling", "training"):
            state = "stopping"
        self._host.post(TrainingState(state, detail, done, total))  # type: ignore[arg-type]


def _step(event: StepDone) -> TrainingStep:
    return TrainingStep(
        step=event.step,
        total_steps=event.total_steps,
        loss=event.loss,
        grad_norm=event.grad_norm,
        learning_rate=event.learning_rate,
        trained_tokens=event.trained_tokens,
        tokens_per_s=event.tokens_per_s,
        elapsed_ms=event.elapsed_ms,
        left_ms=event.eta_ms,
    )


def _new_info(
    opened: OpenedModel, dataset: OpenDataset, settings: TrainSettings, lora: LoraConfig, rows: int, trainer: Trainer,
    curves: Curves,
) -> AdapterInfo:  # fmt: skip
    """Return what is kept beside a trained adapter; the store gives it an id, a date and a free name."""
    steps = trainer.steps_done
    return AdapterInfo(
        id="",
        name=f"{dataset.title.removesuffix('.jsonl')}, {steps} step{'s' if steps != 1 else ''}",
        created_at="",
        base_model=opened.base_model,
        dataset=dataset.name,
        rows=rows,
        steps=steps,
        rank=lora.rank,
        alpha=lora.alpha,
        targets=lora.targets,
        size_bytes=0,
        model_shape=model_shape(opened.files.config),
        learning_rate=settings.learning_rate,
        recomputed_layers=trainer.memory.recomputed_layers,
        final_loss=curves.loss[-1][1],
        loss_curve=tuple(curves.loss),
        validation_curve=tuple(curves.validation),
        chat_format=chosen.title if (chosen := opened.chosen(settings.chat_format)) else "",
    )
