"""The chat beyond a single reply: several adapters at once, two replies side by side, what an adapter has changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lora_lab.settings import CHAT_FORMAT, STRENGTH
from lora_lab.workers.protocol.parts import AdapterUse, ChatMessage, Command, Event, FieldProblem, Sampling

SideName = Literal["left", "right"]


# ---------------------------------------------------------------------------------------------------- parts


@dataclass(frozen=True)
class AdapterPart:
    """An adapter that is to take part, and how strongly.

    `files` are AdapterFiles'. None: those that came last under this id; the worker keeps the last few.
    """

    id: str
    name: str
    strength: float = STRENGTH.default
    files: dict[str, bytes] | None = None


@dataclass(frozen=True)
class LikelyToken:
    """A token that could have stood at a place, with the natural logarithms of its probability by the base model and
    by the adapted one. `text` is what it stands for by itself; half a character is U+FFFD."""

    token_id: int
    text: str
    base: float
    tuned: float


@dataclass(frozen=True)
class ChangedToken:
    """A token of a text: LikelyToken's fields, and the likeliest at its place by each, the likeliest first.

    `text` is what it adds to the text: "" while a character is incomplete. Special tokens are shown by name. The
    log-ratio is `tuned - base`: above 0 the adapter has made it likelier.
    """

    token_id: int
    text: str
    base: float
    tuned: float
    base_top: tuple[LikelyToken, ...]
    tuned_top: tuple[LikelyToken, ...]


# ---------------------------------------------------------------------------------------------------- commands


@dataclass(frozen=True)
class ApplyAdapters(Command):
    """Chat worker: use these adapters together from now on, each at its strength; none of them: the base model.

    They add up to one, whatever their ranks, layers and scales. AdaptersApplied follows; where one is for another
    model Failed does, and the ones before stay.
    """

    adapters: tuple[AdapterPart, ...]


@dataclass(frozen=True)
class CheckSampling(Command):
    """Ask what of these values cannot be used (SamplingChecked). `request` comes back."""

    sampling: Sampling
    strength: float = STRENGTH.default
    request: int = 0


@dataclass(frozen=True)
class CompareReplies(Command):
    """Chat worker: answer a conversation twice, with the same sampling and seed: the same chance at each place.

    A side is any adapters, each at its strength; none is the base model. Pieces of both come in turn under `turn`.
    StopReply ends both. What is applied stays applied.
    """

    turn: int
    messages: tuple[ChatMessage, ...]
    sampling: Sampling
    left: tuple[AdapterPart, ...] = ()
    right: tuple[AdapterPart, ...] = ()
    chat_format: str = CHAT_FORMAT.default


@dataclass(frozen=True)
class ShowChanges(Command):
    """Chat worker: say of each token of a text how likely the base model and the adapted one find it.

    With `messages` it is their answer that is looked at: `token_ids` as the reply's events gave them, or else `text`.
    Without, it is `text` as it stands, from its second token on. `adapters` None: those that are applied.
    """

    request: int
    messages: tuple[ChatMessage, ...] = ()
    token_ids: tuple[int, ...] = ()
    text: str = ""
    adapters: tuple[AdapterPart, ...] | None = None
    strength: float = STRENGTH.default  # of the applied ones
    alternatives: int = 5
    max_new_tokens: int = 0  # the reply's: it decides how much of a long conversation was in its prompt
    chat_format: str = CHAT_FORMAT.default


# ---------------------------------------------------------------------------------------------------- events


@dataclass(frozen=True)
class AdaptersApplied(Event):
    """Chat worker: which adapters are in use from now on, after ApplyAdapters."""

    adapters: tuple[AdapterUse, ...]


@dataclass(frozen=True)
class SamplingChecked(Event):
    """What CheckSampling asked for; no problems: all can be used."""

    request: int
    problems: tuple[FieldProblem, ...] = ()


@dataclass(frozen=True)
class ComparedPiece(Event):
    """The next bit of one of two replies."""

    turn: int
    side: SideName
    adapters: tuple[AdapterUse, ...]  # who writes it; none: the base model
    text: str


@dataclass(frozen=True)
class ComparedReply(Event):
    """One of two replies is complete: ReplyDone's fields, for a side."""

    turn: int
    side: SideName
    adapters: tuple[AdapterUse, ...]
    text: str
    token_ids: tuple[int, ...]
    prompt_tokens: int
    tokens_per_s: float
    first_token_ms: float
    finish_reason: str
    dropped_messages: int = 0


@dataclass(frozen=True)
class ComparisonEnded(Event):
    """Nothing more comes of this turn, also where Failed has said why. `is_whole`: nobody stopped it, all went well."""

    turn: int
    is_whole: bool


@dataclass(frozen=True)
class ChangesPart(Event):
    """The next tokens of a text that is looked at, of which `done` of `total` are told by then."""

    request: int
    tokens: tuple[ChangedToken, ...]
    done: int
    total: int


@dataclass(frozen=True)
class ChangesEnded(Event):
    """Nothing more comes of this request, also where Failed has said why. `adapters` are those it was about."""

    request: int
    is_whole: bool
    adapters: tuple[AdapterUse, ...] = ()


COMMANDS: tuple[type[Command], ...] = (ApplyAdapters, CheckSampling, CompareReplies, ShowChanges)
EVENTS: tuple[type[Event], ...] = (
    AdaptersApplied,
    SamplingChecked,
    ComparedPiece,
    ComparedReply,
    ComparisonEnded,
    ChangesPart,
    ChangesEnded,
)
