"""From the settings form to a run: what cannot be used, how a step is split, what it takes on the GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lora_lab.config import LoraConfig, ModelConfig, TrainConfig
from lora_lab.data import Example
from lora_lab.data.tokens.packing import MAX_SEQUENCE, Layout
from lora_lab.evaluation.sampler import sampler_bytes
from lora_lab.gpu import Device
from lora_lab.model import Adapter, plan_model
from lora_lab.model.files import ModelFiles
from lora_lab.settings import ROWS_AT_ONCE, SWITCH, TARGETS, TRAINING
from lora_lab.settings import problems as table_problems
from lora_lab.train import MemoryReport, Trainer, TrainPlans
from lora_lab.train.schedule import run_layout
from lora_lab.workers.protocol import FieldProblem, TrainSettings

# What the activations of a micro-batch may take: WebGPU does not tell how much memory there is, and a laptop's GPU
# shares it with everything else. Fewer rows go at once to stay within it, where nobody has said how many; where one row
# or what was asked for is still too much, layers are recomputed.
ACTIVATION_BUDGET_BYTES = 1 << 30


def check_settings(settings: TrainSettings, model: ModelConfig) -> list[FieldProblem]:
    """Return everything about the settings that cannot be used, by field."""
    limits = {"max_length": model.max_position_embeddings, "warmup_steps": settings.steps}
    values = {name: value for name, value in vars(settings).items() if name != ROWS_AT_ONCE.name}
    problems = [FieldProblem(*found) for found in table_problems(TRAINING, values, limits).items()]
    if settings.targets and not set(settings.targets) <= set(model.linear_names):
        problems = [problem for problem in problems if problem.field != TARGETS.name]
        problems.append(FieldProblem(TARGETS.name, f"Only {', '.join(model.linear_names)} can be chosen."))
    at_once = settings.rows_at_once
    if at_once is not None and (at_once < 1 or settings.batch % at_once):
        problems.append(FieldProblem(ROWS_AT_ONCE.name, f"It must divide the rows a step ({settings.batch})."))
    return problems


def lora_config(settings: TrainSettings, model: ModelConfig) -> LoraConfig:
    """Return the adapter's settings; the layers in the order in which the data passes them."""
    alpha = int(settings.alpha) if float(settings.alpha).is_integer() else settings.alpha
    return LoraConfig(rank=settings.rank, alpha=alpha, targets=model.chosen_linears(settings.targets))


def train_config(settings: TrainSettings, rows_at_once: int) -> TrainConfig:
    """Return the run's settings with a step of `batch` rows split into micro-batches of `rows_at_once`."""
    return TrainConfig(
        steps=settings.steps,
        batch=rows_at_once,
        accumulate=settings.batch // rows_at_once,
        learning_rate=settings.learning_rate,
        schedule=settings.schedule,  # type: ignore[arg-type]
        warmup_steps=settings.warmup_steps,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        max_length=settings.max_length,
        recompute=True if settings.save_memory else "auto",
        activation_budget_bytes=ACTIVATION_BUDGET_BYTES,
        seed=settings.seed,
        shuffle=settings.shuffle,
        validation_fraction=settings.validation_fraction,
        packing=SWITCH[settings.packing],
    )


@dataclass(frozen=True)
class RunPlan:
    """How a run will be done, and what it takes."""

    rows_at_once: int
    memory: MemoryReport
    total_steps: int
    packing_saves: float | None  # the share of the tokens that packing leaves out; None for a run that is not packed
    trainer: Trainer  # of the run, traced, without memory: for `fill_model`, `Adapter.initialize` and `prepare`


class Planner:
    """Works out a run's memory without taking any. Keeps earlier questions' numbers, and the last one's traces."""

    def __init__(self, device: Device, files: ModelFiles) -> None:
        self.device, self.model = device, plan_model(device, files)
        self._known: dict[tuple, MemoryReport] = {}
        self._traced: tuple[tuple, TrainPlans] | None = None
        self._sampled: dict[tuple, int] = {}

    def plan(self, settings: TrainSettings, examples: Sequence[Example], held: Sequence[Example]) -> RunPlan:
        """Return the plan of a run. OutOfMemoryError if a single buffer is larger than the GPU allows.

        LoraLabError for packing that cannot be done.
        """
        at_once = settings.rows_at_once or self._affordable_rows(settings, examples, held)
        layout = run_layout(examples, held, train_config(settings, at_once))
        trainer = self._trainer(settings, at_once, layout, examples, held)
        saves = layout.saved if layout.packed else None
        memory = trainer.memory
        if settings.sample_every != 0:
            memory = memory.with_part("samples", self._sample_bytes(trainer))
        return RunPlan(at_once, memory, settings.steps, saves, trainer)

    def _sample_bytes(self, trainer: Trainer) -> int:
        """Return what the answers take that the model gives while it learns."""
        trainer.plans.sizes()
        key = (trainer.adapter.config, *trainer.plans.pool_sizes)
        if key not in self._sampled:
            self._sampled[key] = sampler_bytes(trainer)
        return self._sampled[key]

    def _affordable_rows(self, settings: TrainSettings, examples: Sequence[Example], held: Sequence[Example]) -> int:
        """Return the most rows at once whose activations stay in the budget: they grow with the tokens."""
        one = run_layout(examples, held, train_config(settings, 1))
        memory = self._memory(settings, 1, one, examples)
        if memory.recomputed_layers:
            return 1
        affordable_tokens = ACTIVATION_BUDGET_BYTES / max(1, memory.parts.get("activations", 1)) * _tokens(one)
        for at_once in range(settings.batch, 1, -1):
            if settings.batch % at_once == 0 and at_once * one.longest_row <= MAX_SEQUENCE:
                layout = run_layout(examples, held, train_config(settings, at_once))
                if _tokens(layout) <= affordable_tokens:
                    return at_once
        return 1

    def _memory(
        self, settings: TrainSettings, at_once: int, layout: Layout, examples: Sequence[Example]
    ) -> MemoryReport:
        key = (layout.largest, layout.longest_row, settings.rank, settings.targets, settings.save_memory)
        if key not in self._known:
            self._known[key] = self._trainer(settings, at_once, layout, examples, ()).memory
        return self._known[key]

    def _trainer(
        self, settings: TrainSettings, at_once: int, layout: Layout, examples: Sequence[Example],
        held: Sequence[Example],
    ) -> Trainer:  # fmt: skip
        """Return the run's trainer. What was traced last is used again where only numbers differ."""
        lora, config = lora_config(settings, self.model.config), train_config(settings, at_once)
        key = (layout.largest, layout.longest_row, lora, config.recompute, config.activation_budget_bytes)
        if self._traced is not None and self._traced[0] == key:
            plans = self._traced[1]
            return Trainer(self.model, plans.adapter, examples, config, held, layout, plans)
        adapter = Adapter(self.device, self.model.config, lora, planned=True)
        trainer = Trainer(self.model, adapter, examples, config, held, layout)
        self._traced = (key, trainer.plans)
        return trainer


def _tokens(layout: Layout) -> int:
    return layout.largest[0] * layout.largest[1]
