"""Parts of messages, and the base of every message."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from lora_lab import settings

Where = Literal[
    "device", "model", "hub", "dataset", "settings", "training", "adapter", "export", "chat", "compare", "storage",
    "worker", "runs", "sharing",
]  # fmt: skip
TrainPhase = Literal["idle", "loading", "compiling", "training", "stopping", "done", "error"]


@dataclass(frozen=True)
class NamedBlob:
    """A file that the page holds: its name (with the folder part, if any) and the JavaScript Blob."""

    name: str
    blob: Any


@dataclass(frozen=True)
class TrainSettings:
    """What the settings form says. `batch` is rows an optimizer step; `rows_at_once` None lets Python split it.

    `save_memory`: recompute every layer, and one row at once unless `rows_at_once` says otherwise.
    """

    steps: int
    batch: int
    learning_rate: float
    rank: int
    alpha: float
    max_length: int
    seed: int
    targets: tuple[str, ...]
    schedule: str = settings.SCHEDULE.default
    warmup_steps: int | None = settings.WARMUP_STEPS.default
    weight_decay: float = settings.WEIGHT_DECAY.default
    max_grad_norm: float = settings.MAX_GRAD_NORM.default
    shuffle: bool = settings.SHUFFLE.default
    validation_fraction: float = settings.VALIDATION_FRACTION.default
    rows_at_once: int | None = settings.ROWS_AT_ONCE.start
    save_memory: bool = settings.SAVE_MEMORY.default
    packing: str = settings.PACKING.default  # or on, off: short rows in one sequence, which changes no result
    masking: str = settings.MASKING.default  # or last, all: what of a row is trained
    on_long: str = settings.ON_LONG.default  # or drop: what becomes of a row longer than max_length
    chat_format: str = settings.CHAT_FORMAT.default  # or plain, chatml, family: for a model without a template
    checkpoint_every: int | None = settings.CHECKPOINT_EVERY.default  # steps; None: by time; 0: none are kept
    sample_every: int | None = settings.SAMPLE_EVERY.default  # steps; None: as often as costs 5 %; 0: nothing is asked
    keep: str = settings.KEEP.default  # or last: which adapter is given out, where rows are held back
    patience: int = settings.PATIENCE.default  # validations without a lower loss, after which the run ends; 0: never
    mix_neutral: float = settings.MIX_NEUTRAL.default  # share of the rows of a pass that come with the program
    neutral: str = settings.NEUTRAL.default  # or on, off: whether it is measured what else changed


@dataclass(frozen=True)
class Sampling:
    """How the chat picks its tokens. Temperature 0 is greedy; 0, 1, 0 and 1 switch the others off."""

    max_new_tokens: int = settings.MAX_NEW_TOKENS.default
    temperature: float = settings.TEMPERATURE.default
    top_k: int = settings.TOP_K.default
    top_p: float = settings.TOP_P.default
    min_p: float = settings.MIN_P.default
    repetition_penalty: float = settings.REPETITION_PENALTY.default
    seed: int = settings.REPLY_SEED.default


@dataclass(frozen=True)
class AdapterUse:
    """An adapter that writes, or has written, and how strongly it is applied: what a reply is labelled with."""

    id: str
    name: str
    strength: float


@dataclass(frozen=True)
class ChatMessage:
    """One turn of a conversation; `role` is system, user, assistant, or text for a row without turns."""

    role: str
    content: str


@dataclass(frozen=True)
class Probe:
    """One question of the validation card, with the data's own answer where there is one."""

    prompt: str
    messages: tuple[ChatMessage, ...]
    reference: str | None = None


@dataclass(frozen=True)
class SampleAnswer:
    """A probe answered by the base model and by the tuned one; kept with the adapter."""

    prompt: str
    base: str
    tuned: str
    reference: str | None = None


@dataclass(frozen=True)
class Fact:
    """One line of a summary, already worded for people."""

    label: str
    value: str
    hint: str = ""


@dataclass(frozen=True)
class FormatOffer:
    """A chat format for a model without a template: the setting's value, and its words. `note`: with this model."""

    value: str
    title: str
    help: str
    note: str = ""


@dataclass(frozen=True)
class FieldProblem:
    """A setting that cannot be used, by the name of its field in TrainSettings."""

    field: str
    message: str


@dataclass(frozen=True)
class AdapterInfo:
    """A stored adapter as the list shows it.

    `model_shape` sums up the dimensions of the model it was made for; `fits` says whether the open model has them, and
    is None while none is open.
    """

    id: str
    name: str
    created_at: str
    base_model: str
    dataset: str
    rows: int
    steps: int
    rank: int
    alpha: float
    targets: tuple[str, ...]
    size_bytes: int
    model_shape: str = ""
    imported: bool = False
    learning_rate: float | None = None
    recomputed_layers: int = 0
    final_loss: float | None = None
    loss_curve: tuple[tuple[float, float], ...] = ()
    validation_curve: tuple[tuple[float, float], ...] = ()
    sample_answers: tuple[SampleAnswer, ...] = ()
    chat_format: str = ""  # the chat template that it brings, in a word; "" for none: the model's own
    fits: bool | None = None
    notes: str = ""  # a person's


class Message:
    """Base of every command and every event; knows its name on the wire."""

    @classmethod
    def wire_type(cls) -> str:
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


class Command(Message):
    """What the page asks of a worker."""


class Event(Message):
    """What a worker tells the page."""
