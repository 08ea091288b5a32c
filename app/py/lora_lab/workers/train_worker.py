"""The worker that reads datasets, trains, and keeps the adapters."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from lora_lab.config import LoraConfig
from lora_lab.errors import DatasetError, LoraLabError
from lora_lab.formats.peft import write_adapter
from lora_lab.model import Adapter, Model, load_model
from lora_lab.train import StepDone, Trainer, ValidationDone
from lora_lab.workers.adapter_keeper import OpenedModel, model_shape
from lora_lab.workers.dataset_keeper import DatasetKeeper
from lora_lab.workers.datasets import Choices, OpenDataset, Split
from lora_lab.workers.dispatch import Host, handles
from lora_lab.workers.downloads import find_site_model, open_on_site
from lora_lab.workers.engine_worker import seldom
from lora_lab.workers.host import phase, serve
from lora_lab.workers.messages import (
    AdapterInfo,
    FieldProblem,
    MemoryPart,
    OpenModel,
    PlanTraining,
    StartTraining,
    StopTraining,
    TrainingDone,
    TrainingPlanned,
    TrainingState,
    TrainingStep,
    TrainSettings,
    ValidationLoss,
)
from lora_lab.workers.planning import Planner, check_settings, lora_config, train_config
from lora_lab.workers.wording import describe_model, run_notes, run_summary

PARTS = {
    "weights": "Model weights",
    "activations": "Activations",
    "adapter": "Adapter",
    "gradients": "Gradients",
    "optimizer": "AdamW's moments",
    "batch": "Batch and tables",
}


@dataclass
class Curves:
    """A run's losses as (step, loss)."""

    loss: list[tuple[float, float]]
    validation: list[tuple[float, float]]


class TrainWorker(DatasetKeeper):
    """Answers the page's commands about models, datasets and runs."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.planner: Planner | None = None
        self.trainer: Trainer | None = None
        self.stop_asked = False
        self.training = False

    # --- the model ---

    @handles(OpenModel, "model", exclusive=True)
    async def open_model(self, command: OpenModel) -> None:
        """Fetch or take a model's files, check them, and hand them to the page for the chat worker."""
        with phase("storage"):
            await self._opened
        self.model = self.planner = None
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

    # --- planning ---

    @handles(PlanTraining, "settings", exclusive=True)
    async def plan_training(self, command: PlanTraining) -> None:
        """Say how many passes the steps make and what they take on the GPU; nothing is allocated for it."""
        if self.model is None or self.dataset is None:
            return
        settings = command.settings
        if problems := check_settings(settings, self.model.files.config):
            self.host.post(TrainingPlanned(command.request, problems=tuple(problems)))
            return
        choices = Choices.of(settings)
        if not self.dataset.is_encoded(settings.masking):
            self.answer_when_counted(command, choices)
            return
        self.show_choices(choices)
        split = self.dataset.split(settings)
        if problem := _nothing_to_do(split):
            self.host.post(TrainingPlanned(command.request, problems=(problem,)))
            return
        self.host.post(await self._planned(command.request, settings, split))

    async def _planned(self, request: int, settings: TrainSettings, split: Split) -> TrainingPlanned:
        examples, held = split.trained, split.held
        passes = settings.steps * settings.batch / len(examples)
        planned = TrainingPlanned(request, settings.steps, passes)
        try:
            planner = await self._planner()
        except LoraLabError:  # no GPU: the numbers of the data are still worth having
            return replace(planned, summary=run_summary(settings, len(examples), len(held), None))
        try:
            plan = planner.plan(settings, examples, held)
        except LoraLabError as error:
            return replace(planned, problems=(FieldProblem("batch", str(error)),))
        parts = tuple(MemoryPart(PARTS.get(name, name), size) for name, size in plan.memory.parts.items())
        return replace(
            planned,
            summary=run_summary(settings, len(examples), len(held), plan.rows_at_once, plan.packing_saves),
            memory_bytes=plan.memory.total_bytes,
            memory_parts=parts,
            recomputed_layers=plan.memory.recomputed_layers,
            notes=run_notes(settings, passes),
        )

    async def _planner(self) -> Planner:
        device = await self.device()
        if self.planner is None:
            self.planner = Planner(device, self.need_model("Planning needs a model").files)
        return self.planner

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

    @handles(StartTraining, "training", exclusive=True)
    async def start_training(self, command: StartTraining) -> None:
        """Train from the first step to the last or to a stop; keep the adapter; tell the page all along."""
        self.training, self.stop_asked = True, False
        try:
            await self._train(command)
        except Exception:
            self._tell_state("error")
            raise
        finally:
            self.training = False

    async def _train(self, command: StartTraining) -> None:
        settings = command.settings
        self._tell_state("loading")
        opened, dataset, split = await self._ready_to_train(command)
        device = await self.device()
        examples, held = split.trained, split.held
        plan = (await self._planner()).plan(settings, examples, held)
        lora = lora_config(settings)
        model: Model | None = None
        adapter: Adapter | None = None
        trainer: Trainer | None = None
        try:
            model = await self._load(opened)
            adapter = Adapter.create(device, opened.files.config, lora, settings.seed)
            trainer = self.trainer = Trainer(model, adapter, examples, train_config(settings, plan.rows_at_once), held)
            if not self.stop_asked:
                self._tell_state("compiling")
                await trainer.prepare(seldom(lambda done, total: self._tell_state("compiling", done, total)))
            curves, error = await self._run(trainer)
            if trainer.steps_done:
                files = write_adapter(await adapter.to_tensors(), lora, opened.base_model)
        finally:
            self.trainer = None
            for held_on_gpu in (trainer.close if trainer else None, adapter.release if adapter else None,
                                model.release if model else None):  # fmt: skip
                if held_on_gpu:
                    held_on_gpu()
        if trainer.steps_done:
            probes = dataset.choose_probes(split)
            info = _new_info(opened, dataset, settings, lora, len(examples), trainer, curves)
            info = await self.store.add(info, files)
            self._tell_state("error" if error else "done")
            self.host.post(TrainingDone(info, self.stop_asked or error is not None, probes))
            await self.tell_adapters()
            await self.tell_storage()
        elif error is None:
            self._tell_state("idle", detail="Stopped before the first step: nothing was learned, nothing is kept.")
        if error:
            raise error

    async def _ready_to_train(self, command: StartTraining) -> tuple[OpenedModel, OpenDataset, Split]:
        opened = self.need_model("Training needs a model")
        dataset = self.dataset
        if dataset is None:
            raise DatasetError("Training needs a dataset: drop a file, or take the sample.")
        if problems := check_settings(command.settings, opened.files.config):
            raise LoraLabError("; ".join(f"{problem.field}: {problem.message}" for problem in problems))
        choices = Choices.of(command.settings)
        if not await self.count_for(choices):
            raise DatasetError("Training did not begin: the dataset was given up while its tokens were counted.")
        self.show_choices(choices)
        bad = dataset.bad_rows(choices)
        if bad and not command.accept_problems:
            raise DatasetError(f"{bad} rows cannot be used. Mend them, or agree to train on the good rows only.")
        split = dataset.split(command.settings)
        if problem := _nothing_to_do(split):
            raise DatasetError(problem.message)
        return opened, dataset, split

    async def _load(self, opened: OpenedModel) -> Model:
        tell = seldom(lambda done, total: self._tell_state("loading", done, total))
        return await load_model(await self.device(), opened.files, tell)

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


def _nothing_to_do(split: Split) -> FieldProblem | None:
    """Return why there is nothing to train on, or nothing to validate on in a file that is there for it."""
    if not len(split.trained):
        return FieldProblem("max_length", "No row has anything left to train on at this length.")
    if split.needs_held and not len(split.held):
        return FieldProblem("max_length", "No row of the validation file has anything left to measure at this length.")
    return None


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
