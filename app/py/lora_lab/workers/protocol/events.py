"""What a worker tells the page, but for datasets (datasets.py)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lora_lab.settings import CHAT_FORMAT
from lora_lab.workers.protocol.parts import (
    AdapterInfo,
    AdapterUse,
    Event,
    Fact,
    FieldProblem,
    FormatOffer,
    Message,
    NamedBlob,
    Probe,
    SampleAnswer,
    TrainPhase,
    Where,
)
from lora_lab.workers.protocol.watching import RunVerdict


@dataclass(frozen=True)
class Boot(Event):
    """Posted by worker.js while Python starts: `done` of `total` phases (runtime, packages, program) are over."""

    phase: str
    done: float = 0
    total: float = 0


@dataclass(frozen=True)
class Phase(Event):
    """Posted by worker.js, and by host.phase: a part of the start took from `start` to `end`, in ms since 1970."""

    name: str
    start: float
    end: float


@dataclass(frozen=True)
class Fatal(Event):
    """Posted by worker.js: Python could not start or has died. The worker is of no more use."""

    message: str
    details: str = ""


@dataclass(frozen=True)
class Ready(Event):
    """The worker's Python listens. `version` is the engine's."""

    version: str
    python: str


@dataclass(frozen=True)
class Failed(Event):
    """Something went wrong at `where`. `details` (a traceback) only when it was not an expected error."""

    where: Where
    message: str
    details: str | None = None
    subject: str | None = None  # what it was about, e.g. a chat turn or an adapter id
    kind: str = field(default="", compare=False)  # the error's class


@dataclass(frozen=True)
class Notice(Event):
    """Something that is no error, and that the person should know."""

    message: str


@dataclass(frozen=True)
class Gpu(Event):
    """What GPU this worker has. `message` says what to do when there is none, and what became of one that was lost.

    `again`: it was lost, and another is asked for; `found` or `lost` (for good) follows. `losses`: how often.
    """

    state: Literal["looking", "found", "none", "again", "lost"]
    name: str = ""
    vendor: str = ""
    backend: str = ""
    is_software: bool = False
    message: str = ""
    losses: int = 0


@dataclass(frozen=True)
class Busy(Event):
    """The worker begins something that answers no Ping meanwhile, for `most_s` seconds at most; "" when it is over."""

    what: str
    most_s: float = 0.0


@dataclass(frozen=True)
class Pong(Event):
    """The answer to Ping: the worker's Python goes on."""


@dataclass(frozen=True)
class Storage(Event):
    """Whether adapters and models outlive the page. `reason` says why not, or what was given up."""

    available: bool
    persistent: bool = False
    used_bytes: int = 0
    quota_bytes: int = 0
    reason: str = ""


@dataclass(frozen=True)
class ModelProgress(Event):
    """How far a model is. `phase`: download, read, gpu (weights to the GPU), kernels (compiling)."""

    phase: Literal["download", "read", "gpu", "kernels"]
    done: float
    total: float
    rate_bytes_per_s: float | None = None
    left_ms: float | None = None
    file: str = ""


@dataclass(frozen=True)
class ModelOpened(Event):
    """A model's files are good. Train worker: `files` are to be sent on to the chat worker.

    `chat_formats` are offered where it has no template, `chat_format` is the one that suits it. `base_model` is its
    name on the Hugging Face hub, "" where nothing says it: a person may, with NameBaseModel.
    """

    name: str
    title: str
    size_bytes: int
    parameters: int
    layers: int
    context_length: int
    weight_form: str
    built_in: bool
    has_template: bool
    targets: tuple[str, ...]
    files: tuple[NamedBlob, ...] = ()
    facts: tuple[Fact, ...] = ()
    chat_formats: tuple[FormatOffer, ...] = ()
    chat_format: str = CHAT_FORMAT.default
    base_model: str = ""


@dataclass(frozen=True)
class BaseModelNamed(Event):
    """What the open model counts as on the hub from now on, "" for nothing; or `problem`, and all is as before."""

    base_model: str
    problem: str = ""


@dataclass(frozen=True)
class ModelChecked(Event):
    """What a model's files say before it is opened. `words` tell what a run takes, or why there can be none.

    "unknown": no GPU, a run that has its memory, or settings that cannot be used. "refused": it cannot be opened.
    """

    request: int
    verdict: Literal["fits", "too large", "unknown", "refused"]
    words: str
    name: str = ""
    about: str = ""  # the model in a line: its size and form, parameters, layers
    memory_bytes: int = 0


@dataclass(frozen=True)
class ModelReady(Event):
    """Chat worker: the weights are on the GPU, the next reply starts at once."""

    weights_bytes: int
    memory_bytes: int


@dataclass(frozen=True)
class ModelReleased(Event):
    """Chat worker: the weights' memory is free again."""


@dataclass(frozen=True)
class MemoryPart(Message):
    """One part of the GPU memory that a run takes."""

    label: str
    size_bytes: int


@dataclass(frozen=True)
class TrainingPlanned(Event):
    """What a run would take. `problems` are settings that cannot be used; then nothing else is known."""

    request: int
    total_steps: int = 0
    passes: float = 0.0
    summary: str = ""
    memory_bytes: int = 0
    memory_parts: tuple[MemoryPart, ...] = ()
    recomputed_layers: int = 0  # that are computed twice, because keeping them would take more memory than is good
    notes: tuple[str, ...] = ()
    problems: tuple[FieldProblem, ...] = ()


@dataclass(frozen=True)
class TrainingTimed(Event):
    """What a trial of a run measured: the time of a step of its mean size, and of the run with its validations.

    `problem` says instead why nothing was measured, "" when a newer question has overtaken this one.
    """

    request: int
    step_ms: float = 0.0
    total_ms: float = 0.0
    tokens_per_s: float = 0.0
    measured_steps: int = 0
    problem: str | None = None


@dataclass(frozen=True)
class TrainingState(Event):
    """The train-status of the page. `done` and `total` measure the phase (bytes, kernels or steps)."""

    state: TrainPhase
    detail: str = ""
    done: float = 0
    total: float = 0


@dataclass(frozen=True)
class TrainingStep(Event):
    """One optimizer step. The loss is the mean over the step's trained tokens, before its update."""

    step: int
    total_steps: int
    loss: float
    grad_norm: float
    learning_rate: float
    trained_tokens: int
    tokens_per_s: float
    elapsed_ms: float
    left_ms: float


@dataclass(frozen=True)
class ValidationLoss(Event):
    """The held-out rows after `step` steps; 0: before the first.

    `perplexity` is e^loss. `accuracy`: the share of their trained tokens that the model held likeliest, 0 to 1.
    """

    step: int
    loss: float
    perplexity: float
    accuracy: float | None


@dataclass(frozen=True)
class AdapterLearned(Event):
    """What a run has learned, as a zip, before it is kept: whatever becomes of that, the page has it."""

    file_name: str
    data: bytes


@dataclass(frozen=True)
class StoppedRun(Event):
    """A run that can be gone on with, after `step` of its steps; step 0: there is none (any more).

    `dataset` and `model` are what people call them; `saved_at` is ISO 8601.
    """

    step: int = 0
    total_steps: int = 0
    dataset: str = ""
    model: str = ""
    saved_at: str = ""


@dataclass(frozen=True)
class TrainingResumed(Event):
    """A run goes on after `step` of its steps; its losses and accuracies so far as (step, value).

    `differs`: what computes it now and did not before, so that it goes on otherwise in the last bits; "": nothing.
    """

    step: int
    total_steps: int
    loss_curve: tuple[tuple[float, float], ...]
    validation_curve: tuple[tuple[float, float], ...]
    differs: str = ""
    accuracy_curve: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class TrainingDone(Event):
    """A run ended and its adapter is kept. `probes` are the validation card's questions.

    `adapter` is the `kept` one, of step `kept_step`; `other` is the last one where the best is kept, or the other way
    round, None where they are the same. `verdict`: what is wrong with the run, None for nothing.
    `stopped_early`: the validation loss fell no more. `sample_share`: of the run's time, what answers took.
    """

    adapter: AdapterInfo
    stopped: bool
    probes: tuple[Probe, ...]
    other: AdapterInfo | None = None
    kept: str = "last"  # or best
    kept_step: int = 0
    best_step: int | None = None
    stopped_early: bool = False
    verdict: RunVerdict | None = None
    sample_share: float = 0.0


@dataclass(frozen=True)
class AdapterList(Event):
    """Every adapter that is kept, newest first. Comes whenever something about them has changed."""

    adapters: tuple[AdapterInfo, ...]


@dataclass(frozen=True)
class AdapterFiles(Event):
    """PEFT's files of an adapter by name: adapter_model.safetensors, adapter_config.json, README.md, and its template.

    The template, chat_template.jinja, is there where it was trained with another than the model's own.
    """

    id: str
    name: str
    files: dict[str, bytes]


@dataclass(frozen=True)
class AdapterExported(Event):
    """An adapter as a zip, to be saved under `file_name`."""

    id: str
    file_name: str
    data: bytes


@dataclass(frozen=True)
class AdapterImported(Event):
    """An adapter from outside fits the model and is kept. `remarks`: what to say of it, such as how it was read."""

    adapter: AdapterInfo
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class AdapterDeleted(Event):
    """An adapter is hidden; RestoreAdapter brings it back."""

    id: str
    name: str


@dataclass(frozen=True)
class AdapterApplied(Event):
    """Chat worker: which adapter is in use; None when none is, also because another model was opened."""

    id: str | None
    name: str = ""


@dataclass(frozen=True)
class ReplyPiece(Event):
    """The next bit of a reply."""

    turn: int
    text: str


@dataclass(frozen=True)
class ReplyDone(Event):
    """A reply is complete. `finish_reason`: stop (end of turn), length, or stopped (by the person).

    The oldest `dropped_messages` of the conversation, not counting the system prompt, had no room in the context.
    `cached_tokens` of the prompt were kept from before. `adapters` wrote it; none: the base model.
    """

    turn: int
    text: str
    prompt_tokens: int
    new_tokens: int
    tokens_per_s: float
    first_token_ms: float
    finish_reason: str
    dropped_messages: int = 0
    cached_tokens: int = 0
    token_ids: tuple[int, ...] = ()
    adapters: tuple[AdapterUse, ...] = ()


@dataclass(frozen=True)
class ComparePiece(Event):
    """The next bit of one of the card's two answers; `done` when that answer is complete."""

    adapter_id: str
    index: int
    side: Literal["base", "tuned"]
    text: str
    done: bool = False


@dataclass(frozen=True)
class CompareDone(Event):
    """A probe is answered; `answer` is None when that was stopped or went wrong."""

    adapter_id: str
    index: int
    answer: SampleAnswer | None


@dataclass(frozen=True)
class Logits(Event):
    """float32 logits, row-major (tokens, vocabulary), as little-endian bytes; row t predicts the token after t."""

    token_ids: tuple[int, ...]
    vocab_size: int
    data: bytes


EVENTS: tuple[type[Event], ...] = (
    Boot,
    Phase,
    Fatal,
    Ready,
    Failed,
    Notice,
    Gpu,
    Busy,
    Pong,
    Storage,
    ModelProgress,
    ModelOpened,
    BaseModelNamed,
    ModelChecked,
    ModelReady,
    ModelReleased,
    TrainingPlanned,
    TrainingTimed,
    TrainingState,
    TrainingStep,
    ValidationLoss,
    AdapterLearned,
    StoppedRun,
    TrainingResumed,
    TrainingDone,
    AdapterList,
    AdapterFiles,
    AdapterExported,
    AdapterImported,
    AdapterDeleted,
    AdapterApplied,
    ReplyPiece,
    ReplyDone,
    ComparePiece,
    CompareDone,
    Logits,
)
