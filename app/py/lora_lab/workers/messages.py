"""The whole protocol between the page and its two workers: commands in, events out.

A message is one frozen dataclass. On the wire it is a JSON-able dict whose `type` is the class name in snake case
(`OpenModel` -> `open_model`), plus three things that JSON cannot hold: `bytes` (transferred as an ArrayBuffer), and a
JavaScript `Blob` or `File` (typed `Any` here; handed on by reference, never copied).

    page -> train worker    OpenModel, ReadDataset, PlanTraining, StartTraining, StopTraining, adapters ...
    page -> chat worker     OpenModel, ReleaseModel, ApplyAdapter, Reply, StopReply, Compare
    worker -> page          everything below "Events"

The trained adapter travels train worker -> page (`AdapterFiles`) -> chat worker (`ApplyAdapter`): the page only hands
it on. Before Python runs, worker.js itself may post `boot`, `phase` and `fatal`; they stand here so that the list is
complete.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

Where = Literal["device", "model", "dataset", "settings", "training", "adapter", "chat", "compare", "storage", "worker"]
TrainPhase = Literal["idle", "loading", "compiling", "training", "stopping", "done", "error"]


# ---------------------------------------------------------------------------------------------------- parts of messages


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
    schedule: str = "cosine"
    warmup_steps: int | None = None
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    shuffle: bool = True
    validation_fraction: float = 0.0
    rows_at_once: int | None = None
    save_memory: bool = False
    packing: str = "auto"  # or on, off: short rows in one sequence, which changes no result


@dataclass(frozen=True)
class Sampling:
    """How the chat picks its tokens. Temperature 0 is greedy; 0, 1, 0 and 1 switch the others off."""

    max_new_tokens: int = 256
    temperature: float = 0.7
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0


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
class RowProblem:
    """What is wrong with one row and how to mend it. `near` is the text around the place."""

    line: int
    message: str
    column: int | None = None
    near: str = ""


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
    fits: bool | None = None


# ---------------------------------------------------------------------------------------------------------- Commands


class Message:
    """Base of every command and every event; knows its name on the wire."""

    @classmethod
    def wire_type(cls) -> str:
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


class Command(Message):
    """What the page asks of a worker."""


@dataclass(frozen=True)
class OpenModel(Command):
    """Open a model: one that the site holds (`model_id`, None is the default) or the files a person dropped.

    The chat worker always gets `files`: the very ones that the train worker has found good (`ModelOpened.files`).
    """

    model_id: str | None = None
    files: tuple[NamedBlob, ...] | None = None
    title: str | None = None


@dataclass(frozen=True)
class ReleaseModel(Command):
    """Chat worker: give the weights' GPU memory back. The next Reply, Compare or WakeModel loads them again."""


@dataclass(frozen=True)
class WakeModel(Command):
    """Chat worker: load the weights again after ReleaseModel, before a reply asks for them."""


@dataclass(frozen=True)
class ReadDataset(Command):
    """Read a JSONL file (`file`), or one of the site's samples (`sample`, its name without the ending)."""

    file: NamedBlob | None = None
    sample: str | None = None
    max_length: int | None = None


@dataclass(frozen=True)
class ClearDataset(Command):
    """Forget the dataset."""


@dataclass(frozen=True)
class PlanTraining(Command):
    """Ask for the number of steps and the memory of a run. `request` comes back, so that late answers can be told."""

    settings: TrainSettings
    request: int = 0


@dataclass(frozen=True)
class StartTraining(Command):
    """Train. `accept_problems` is the person's consent to train on the good rows only."""

    settings: TrainSettings
    accept_problems: bool = False


@dataclass(frozen=True)
class StopTraining(Command):
    """Finish what the GPU has been given (two steps at most), keep what was learned."""


@dataclass(frozen=True)
class GetAdapter(Command):
    """Ask for an adapter's files (AdapterFiles), to be handed to the chat worker."""

    id: str


@dataclass(frozen=True)
class ExportAdapter(Command):
    """Ask for an adapter as a zip that PEFT loads (AdapterExported)."""

    id: str


@dataclass(frozen=True)
class ImportAdapter(Command):
    """Check a PEFT adapter against the open model and keep it: two files, a folder's files, or one zip."""

    files: tuple[NamedBlob, ...]


@dataclass(frozen=True)
class RenameAdapter(Command):
    """Give an adapter another name; the store makes it differ from all others."""

    id: str
    name: str


@dataclass(frozen=True)
class DeleteAdapter(Command):
    """Hide an adapter; RestoreAdapter brings it back until the worker starts anew."""

    id: str


@dataclass(frozen=True)
class RestoreAdapter(Command):
    """Undo DeleteAdapter."""

    id: str


@dataclass(frozen=True)
class SaveSampleAnswers(Command):
    """Keep what the validation card showed with the adapter."""

    id: str
    answers: tuple[SampleAnswer, ...]


@dataclass(frozen=True)
class ApplyAdapter(Command):
    """Chat worker: use this adapter from now on, without reloading the model."""

    id: str
    name: str
    files: dict[str, bytes]


@dataclass(frozen=True)
class RemoveAdapter(Command):
    """Chat worker: use no adapter from now on."""


@dataclass(frozen=True)
class Reply(Command):
    """Chat worker: continue a conversation. Pieces come back under the same `turn`."""

    turn: int
    messages: tuple[ChatMessage, ...]
    sampling: Sampling
    use_adapter: bool = True
    strength: float = 1.0


@dataclass(frozen=True)
class StopReply(Command):
    """Chat worker: stop the reply or the comparison that is being written; what is there stays."""


@dataclass(frozen=True)
class Compare(Command):
    """Chat worker: answer a probe greedily, without the adapter and with it. `adapter_id` must be the one applied."""

    adapter_id: str
    index: int  # of the probe among the adapter's
    probe: Probe
    max_new_tokens: int = 96


@dataclass(frozen=True)
class ReadLogits(Command):
    """Chat worker: the logits of a text as it stands, with the applied adapter or without. For scripts and tests."""

    text: str
    use_adapter: bool = True


COMMANDS: tuple[type[Command], ...] = (
    OpenModel, ReleaseModel, WakeModel, ReadDataset, ClearDataset, PlanTraining, StartTraining, StopTraining,
    GetAdapter, ExportAdapter, ImportAdapter, RenameAdapter, DeleteAdapter, RestoreAdapter,
    SaveSampleAnswers, ApplyAdapter, RemoveAdapter, Reply, StopReply, Compare, ReadLogits,
)  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- Events


class Event(Message):
    """What a worker tells the page."""


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


@dataclass(frozen=True)
class Gpu(Event):
    """What GPU this worker has. `message` says what to do when there is none or it was lost."""

    state: Literal["looking", "found", "none", "lost"]
    name: str = ""
    vendor: str = ""
    backend: str = ""
    is_software: bool = False
    message: str = ""


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
    """A model's files are good. Train worker: `files` are to be sent on to the chat worker."""

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


@dataclass(frozen=True)
class ModelReady(Event):
    """Chat worker: the weights are on the GPU, the next reply starts at once."""

    weights_bytes: int
    memory_bytes: int


@dataclass(frozen=True)
class ModelReleased(Event):
    """Chat worker: the weights' memory is free again."""


@dataclass(frozen=True)
class DatasetProgress(Event):
    """How much of a dataset has been read."""

    done_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class DatasetReady(Event):
    """What is in a file: numbers from the real tokenizer, problems by line, the defaults that suit it.

    Comes again, without `suggested`, when another `max_length` changes what is cut.
    """

    name: str
    title: str
    rows: int
    good_rows: int
    problem_count: int
    problems: tuple[RowProblem, ...]
    facts: tuple[Fact, ...]
    notes: tuple[str, ...]
    preview: tuple[tuple[ChatMessage, ...], ...]
    max_length: int
    suggested: TrainSettings | None
    can_train: bool


@dataclass(frozen=True)
class DatasetCleared(Event):
    """The dataset was forgotten."""


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
    """The loss on the held-out rows after `step` steps."""

    step: int
    loss: float


@dataclass(frozen=True)
class TrainingDone(Event):
    """A run ended and its adapter is kept. `probes` are the validation card's questions."""

    adapter: AdapterInfo
    stopped: bool
    probes: tuple[Probe, ...]


@dataclass(frozen=True)
class AdapterList(Event):
    """Every adapter that is kept, newest first. Comes whenever something about them has changed."""

    adapters: tuple[AdapterInfo, ...]


@dataclass(frozen=True)
class AdapterFiles(Event):
    """PEFT's files of an adapter by name: adapter_model.safetensors, adapter_config.json, README.md."""

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
    """An adapter from outside fits the model and is kept."""

    adapter: AdapterInfo


@dataclass(frozen=True)
class AdapterDeleted(Event):
    """An adapter is hidden; RestoreAdapter brings it back."""

    id: str
    name: str


@dataclass(frozen=True)
class AdapterApplied(Event):
    """Chat worker: which adapter is in use; None when none is."""

    id: str | None
    name: str = ""


@dataclass(frozen=True)
class ReplyPiece(Event):
    """The next bit of a reply."""

    turn: int
    text: str


@dataclass(frozen=True)
class ReplyDone(Event):
    """A reply is complete. `finish_reason`: stop (end of turn), length, or stopped (by the person)."""

    turn: int
    text: str
    prompt_tokens: int
    new_tokens: int
    tokens_per_s: float
    first_token_ms: float
    finish_reason: str


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
    Boot, Phase, Fatal, Ready, Failed, Gpu, Storage, ModelProgress, ModelOpened, ModelReady, ModelReleased,
    DatasetProgress, DatasetReady, DatasetCleared, TrainingPlanned, TrainingState, TrainingStep, ValidationLoss,
    TrainingDone, AdapterList, AdapterFiles, AdapterExported, AdapterImported, AdapterDeleted, AdapterApplied,
    ReplyPiece, ReplyDone, ComparePiece, CompareDone, Logits,
)  # fmt: skip
