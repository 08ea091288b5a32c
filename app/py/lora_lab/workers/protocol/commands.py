"""What the page asks of a worker, but for datasets (datasets.py)."""

from __future__ import annotations

from dataclasses import dataclass

from lora_lab.settings import CHAT_FORMAT
from lora_lab.workers.protocol.parts import (
    ChatMessage,
    Command,
    NamedBlob,
    Probe,
    SampleAnswer,
    Sampling,
    TrainSettings,
)


@dataclass(frozen=True)
class Ping(Command):
    """Answer with Pong. The page ends a worker that does not, and that has not said what it is Busy with."""


@dataclass(frozen=True)
class OpenModel(Command):
    """Open a model: one that the site holds (`model_id`, None is the default), one that was fetched from the hub and is
    kept (`kept` is its id), or the files a person dropped.

    The model that is open stays so until ModelOpened: when the new one cannot be opened, Failed follows and no more.
    The chat worker always gets `files`: the very ones that the train worker has found good (`ModelOpened.files`).
    """

    model_id: str | None = None
    files: tuple[NamedBlob, ...] | None = None
    title: str | None = None
    kept: str | None = None


@dataclass(frozen=True)
class NameBaseModel(Command):
    """Say what the open model is called on the Hugging Face hub, OWNER/NAME or its page's address; "" for no name."""

    base_model: str


@dataclass(frozen=True)
class CheckModel(Command):
    """Read the headers of files that a person dropped, and say what a run of that model takes: ModelChecked.

    `settings` are those of the form, None where they cannot be used. `request` comes back; a newer one takes an older's
    place. The model that is open stays open.
    """

    files: tuple[NamedBlob, ...]
    settings: TrainSettings | None = None
    request: int = 0


@dataclass(frozen=True)
class ReleaseModel(Command):
    """Chat worker: give the weights' GPU memory back. The next Reply, Compare or WakeModel loads them again."""


@dataclass(frozen=True)
class WakeModel(Command):
    """Chat worker: load the weights again after ReleaseModel, before a reply asks for them."""


@dataclass(frozen=True)
class PlanTraining(Command):
    """Ask for the number of steps and the memory of a run. `request` comes back, so that late answers can be told."""

    settings: TrainSettings
    request: int = 0


@dataclass(frozen=True)
class StartTraining(Command):
    """Train. `accept_problems` is the person's consent to train on the good rows only.

    TrainingState follows at once, also while the run has to wait for something else to end. While there is a run
    another one is not begun.
    """

    settings: TrainSettings
    accept_problems: bool = False


@dataclass(frozen=True)
class TimeTraining(Command):
    """Measure a few steps of the run that these settings mean, on the GPU, and forget what they learned.

    TrainingTimed follows. A trial is given up for whatever asks for the GPU, the model or the data meanwhile, and is
    not made when that has come already.
    """

    settings: TrainSettings
    request: int = 0


@dataclass(frozen=True)
class StopTraining(Command):
    """Finish what the GPU has been given (two steps at most), keep what was learned.

    Before the first step: give up what is got ready, and the counting of tokens for the run.
    """


@dataclass(frozen=True)
class PauseTraining(Command):
    """Stop the run that is going on, to go on later: nothing is added to the list of adapters."""


@dataclass(frozen=True)
class ResumeTraining(Command):
    """Go on with the run that StoppedRun has told of, as if it had never been stopped."""


@dataclass(frozen=True)
class DiscardRun(Command):
    """Forget the run that StoppedRun has told of."""


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
    """Check an adapter against the open model and keep it: its files, a folder's, one zip or one GGUF."""

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
    chat_format: str = CHAT_FORMAT.default  # for a model without a template, unless the adapter brings one


@dataclass(frozen=True)
class StopReply(Command):
    """Chat worker: stop every reply and comparison that has come so far; what is written of them stays.

    Each still ends with ReplyDone ("stopped") or CompareDone (without an answer), also one that had not begun.
    """


@dataclass(frozen=True)
class Compare(Command):
    """Chat worker: answer a probe greedily, without the adapter and with it. `adapter_id` must be the one applied."""

    adapter_id: str
    index: int  # of the probe among the adapter's
    probe: Probe
    max_new_tokens: int = 96
    chat_format: str = CHAT_FORMAT.default


@dataclass(frozen=True)
class ReadLogits(Command):
    """Chat worker: the logits of a text as it stands, with the applied adapter or without. For scripts and tests."""

    text: str
    use_adapter: bool = True


COMMANDS: tuple[type[Command], ...] = (
    Ping,
    OpenModel,
    NameBaseModel,
    CheckModel,
    ReleaseModel,
    WakeModel,
    PlanTraining,
    StartTraining,
    TimeTraining,
    StopTraining,
    PauseTraining,
    ResumeTraining,
    DiscardRun,
    GetAdapter,
    ExportAdapter,
    ImportAdapter,
    RenameAdapter,
    DeleteAdapter,
    RestoreAdapter,
    SaveSampleAnswers,
    ApplyAdapter,
    RemoveAdapter,
    Reply,
    StopReply,
    Compare,
    ReadLogits,
)
