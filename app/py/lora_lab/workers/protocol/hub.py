"""Everything about models of the hub that the page asks and the train worker answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lora_lab.workers.protocol.parts import Command, Event, Message, TrainSettings

# ------------------------------------------------------------------------------------------------------------ Commands


@dataclass(frozen=True)
class LookAtRepository(Command):
    """Ask the hub what a repository holds: HubListed, or Failed at "hub". The only thing that makes the first request.

    `name` is OWNER/NAME, perhaps with `hf:` before it, or the address of its page. A newer one takes an older's place.
    """

    name: str


@dataclass(frozen=True)
class CheckHubModel(Command):
    """Read a listed model's header, by ranges, and say what a run with these settings takes (HubChecked).

    `settings` are those of the form, None where they cannot be used. A newer one takes an older's place.
    """

    id: str
    settings: TrainSettings | None = None


@dataclass(frozen=True)
class FetchHubModel(Command):
    """Fetch a listed model, or what is missing of one that is kept: FetchProgress again and again, then FetchEnded.

    Goes on beside anything else, one at a time: while one is fetched another is refused.
    """

    id: str


@dataclass(frozen=True)
class StopFetching(Command):
    """Stop what is fetched. What has come stays, and can be gone on with."""


@dataclass(frozen=True)
class RemoveKeptModel(Command):
    """Delete a model that was fetched; the one that is open is refused."""

    id: str


# -------------------------------------------------------------------------------------------------------------- Events


@dataclass(frozen=True)
class HubOffer(Message):
    """A model of a repository. `refused` says why it cannot be used, "" where nothing speaks against it so far."""

    id: str
    title: str
    kind: str  # gguf or safetensors
    form: str
    size_bytes: int
    refused: str = ""
    kept: bool = False  # it is here already, whole


@dataclass(frozen=True)
class HubListed(Event):
    """What a repository holds. `note` is worth knowing before anything is fetched: it has moved, say.

    `chosen` is the id of the model that was named, or of the only one; "" where there is a choice.
    """

    repository: str
    revision: str
    licence: str
    models: tuple[HubOffer, ...]
    note: str = ""
    chosen: str = ""


@dataclass(frozen=True)
class HubChecked(Event):
    """What a listed model's header says. `words` tell what a run takes, or why there can be none.

    "unknown": no GPU, a run that has its memory, or settings that cannot be used. "refused": the model cannot be read.
    """

    id: str
    verdict: Literal["fits", "too large", "unknown", "refused"]
    words: str
    about: str = ""  # the model in a line: its parameters, layers, context
    memory_bytes: int = 0


@dataclass(frozen=True)
class FetchProgress(Event):
    """How far a model is. `waits`: the connection broke, and another attempt is made in a moment."""

    id: str
    title: str
    done_bytes: int
    total_bytes: int
    rate_bytes_per_s: float | None = None
    left_ms: float | None = None
    waits: bool = False


@dataclass(frozen=True)
class FetchEnded(Event):
    """A model is all here and checked (`whole`), or its fetching was stopped. What fails is Failed at "hub"."""

    id: str
    title: str
    whole: bool


@dataclass(frozen=True)
class KeptModel(Message):
    """A model of the hub that is kept, `done_bytes` of it, as long as the storage lasts. `whole`: it can be opened."""

    id: str
    title: str
    repository: str
    licence: str
    form: str
    size_bytes: int
    done_bytes: int
    whole: bool
    in_use: bool = False
    coming: bool = False  # it is being fetched


@dataclass(frozen=True)
class KeptModels(Event):
    """All models of the hub that are kept."""

    models: tuple[KeptModel, ...]


COMMANDS: tuple[type[Command], ...] = (
    LookAtRepository,
    CheckHubModel,
    FetchHubModel,
    StopFetching,
    RemoveKeptModel,
)
EVENTS: tuple[type[Event], ...] = (HubListed, HubChecked, FetchProgress, FetchEnded, KeptModels)
