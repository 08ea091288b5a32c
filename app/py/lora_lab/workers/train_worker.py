"""The worker that reads datasets, trains, and keeps the adapters."""

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
from lora_lab.workers.protocol import (
    AdapterExported,
    AdapterInfo,
    Command,
    Failed,
    OpenModel,
    StartTraining,
    StopTraining,
    TrainingDone,
    TrainingState,
    TrainingStep,
    TrainSettings,
    ValidationLoss,
)
from lora_lab.workers.run.planner import check_settings, lora_config
from lora_lab.workers.run.words import describe_model
from lora_lab.workers.services.adapters import OpenedModel, model_shape
from lora_lab.workers.services.gpu import seldom
from lora_lab.workers.services.plans import AheadWorker, nothing_to_do, quietly
from lora_lab.workers.storage.adapter_shelf import zip_name
from lora_lab.workers.storage.downloads import find_site_model, open_on_site
from lora_lab.workers.wire.dispatch import Host, failure, handles
from lora_lab.workers.wire.host import phase, serve

NOTHING_LEARNED = "Stopped before the first step: nothing was learned, nothing is kept."


@dataclass
class Curves:
    """A run's losses as (step, loss)."""

    loss: list[tuple[float, float]]
    validation: list[tuple[float, float]]


class TrainWorker(AheadWorker):
    """Answers the page's commands about models, datasets and runs."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.trainer: Trainer | None = None
        self.getting_ready: asyncio.Future[None] | None = None
        self.stop_asked = False
        self.training = False  # from the moment that a run was asked for

    async def answer(self, command: Command) -> None:
        """Run the method for `command`. A run can be stopped, and is the only one, while it waits for its turn."""
        if isinstance(command, StartTraining):
            if self.training:  # the button was pressed twice
                return
            self.training, self.stop_asked = True, False
            self._tell_state("loading")
        await super().answer(command)

    # --- the model ---

    @handles(OpenModel, "model", exclusive=True)
    async def open_model(self, command: OpenModel) -> None:
        """Fetch or take a model's files, check them, and hand them to the page for the chat worker."""
        with phase("storage"):
            await self._opened
        self.model = None
        self.forget_times()
        await self.model_leaves()
        files, title, base_model, built_in = command.files, command.title, None, command.files is None
        if files is not None:
            parts = await self.open_files(files)
        else:
            with phase("site index"):
                site_model, known = await find_site_model(command.model_id)
            title, base_model = site_model.title, site_model.base_model
            with phase("wait for the gpu"):
                has_gpu = await self.has_gpu()
            if has_gpu:
                with phase("model file"):
                    files = await self.cache.files(site_model, known)
                parts = await self.open_files(files)
            else:  # only the tokenizer is of use then: the weights are not fetched
                parts = await self.open_sources(await open_on_site(site_model))
        opened, tokenizer, template = parts
        self.model = OpenedModel(opened, tokenizer, template, base_model or opened.name, title or opened.name)
        self.host.post(describe_model(self.model, files or (), built_in))
        await self.tell_storage()
        await self.tell_adapters()
        self.model_came()

    # --- training ---

    @handles(StopTraining, "training")
    async def stop_training(self, _: StopTraining) -> None:
        """Ask the run to end after what the GPU has been given: two steps at most."""
        if not self.training:
            return
        self.stop_asked = True
        self._tell_state("stopping")
        if self.trainer is not None:
            self.trainer.stop()
        if self.getting_ready is not None:
            self.getting_ready.cancel()
        elif self.trainer is None:
            await self.stop_counting()

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
        ready = None if self.stop_asked else await self._ready_to_train(command)
        if ready is None:
            self._tell_state("idle", detail=NOTHING_LEARNED)
            return
        opened, dataset, split = ready
        plan, lora = await self.plan_run(settings, split), lora_config(settings)
        trainer = self.trainer = plan.trainer
        try:
            await self._get_ready(trainer, settings.seed)
            curves, error = await self._run(trainer)
            stopped = self.stop_asked or error is not None
            if trainer.steps_done:
                tensors = await trainer.adapter.to_tensors()
                files = write_adapter(tensors, lora, opened.files.config, opened.base_model)
        finally:
            self.trainer = None
            self.release(trainer)
        if trainer.steps_done:
            probes = dataset.choose_probes(split)
            info = _new_info(opened, dataset, settings, lora, len(split.trained), trainer, curves)
            info = await self._keep(info, files)
            trouble = await self._tell_what_is_kept()
            # From here to the end of the run nothing else gets a turn: no stop can come after "done".
            self._tell_state("error" if error else "done")
            self.host.post(TrainingDone(info, stopped, probes))
            if trouble:
                self.host.post(trouble)
        elif error is None:
            self._tell_state("idle", detail=NOTHING_LEARNED)
        if error:
            raise error

    async def _keep(self, info: AdapterInfo, files: dict[str, bytes]) -> AdapterInfo:
        """Keep what was learned. Where the storage refuses, the page gets it as a download before the error."""
        try:
            return await self.store.add(info, files)
        except Exception as error:
            self.host.post(AdapterExported("", zip_name(info.name), pack_adapter(files)))
            why = str(error).rstrip(".") or type(error).__name__
            raise LoraLabError(
                f"The browser's storage did not take the adapter ({why}). It was given as a download instead."
            ) from error

    async def _tell_what_is_kept(self) -> Failed | None:
        """Send the list of adapters and the storage's numbers. Returns what went wrong: the result matters more."""
        try:
            await self.tell_adapters()
            await self.tell_storage()
        except Exception as error:
            return failure("storage", error)
        return None

    async def _ready_to_train(self, command: StartTraining) -> tuple[OpenedModel, OpenDataset, Split] | None:
        """Return what the run works on, its tokens counted; None when it was stopped meanwhile."""
        opened = self.need_model("Training needs a model")
        dataset = self.dataset
        if dataset is None:
            raise DatasetError("Training needs a dataset: drop a file, or take the sample.")
        if problems := check_settings(command.settings, opened.files.config):
            raise LoraLabError("; ".join(f"{problem.field}: {problem.message}" for problem in problems))
        choices = Choices.of(command.settings)
        is_counted = await self.count_for(choices)
        if self.stop_asked:
            return None
        if not is_counted:
            raise DatasetError("Training did not begin: the dataset was given up while its tokens were counted.")
        self.show_choices(choices)
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

        if self.stop_asked:
            return

        def get_ready() -> Awaitable[None]:
            return self.get_ready(trainer, seed, seldom(on_loaded), seldom(on_compiled))

        self.getting_ready = asyncio.ensure_future(quietly(get_ready))
        try:
            await self.getting_ready
        except asyncio.CancelledError:
            if not self.stop_asked:
                raise
        finally:
            self.getting_ready = None

    async def _run(self, trainer: Trainer) -> tuple[Curves, LoraLabError | None]:
        """Run to the end; return the loss curves, and the error that ended the run early if there was one."""
        curves = Curves([], [])
        if self.stop_asked:
            return curves, None
        self._tell_state("training", 0, trainer.total_steps)
        try:
            async for event in trainer.run():
                if isinstance(event, StepDone):
                    curves.loss.append((event.step, event.loss))
                    self.host.post(_step(event))
                elif isinstance(event, ValidationDone):
                    curves.validation.append((event.step, event.loss))
                    self.host.post(ValidationLoss(event.step, event.loss))
                await asyncio.sleep(0)  # let a stop, a rename or a list in
        except LoraLabError as error:
            (await self.device()).raise_if_lost()  # then nothing can be read back
            return curves, error
        return curves, None

    def _tell_state(self, state: str, done: float = 0, total: float = 0, detail: str = "") -> None:
        if self.stop_asked and state in ("loading", "compiling", "training"):
            state = "stopping"
        self.host.post(TrainingState(state, detail, done, total))  # type: ignore[arg-type]


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
    )


async def main() -> None:
    """Serve the page; called by worker.js."""
    await serve(TrainWorker, TrainWorker.begin)
