"""Conversations that are kept: listed, opened, written, renamed, deleted and brought back."""

from __future__ import annotations

from dataclasses import dataclass

from lora_lab.settings import CHAT_FORMAT
from lora_lab.workers.protocol.parts import AdapterUse, Command, Event, Sampling

# ---------------------------------------------------------------------------------------------------- parts


@dataclass(frozen=True)
class Wording:
    """One wording of a turn: what a person wrote, or what was answered, and then by whom and how.

    `adapters` wrote it, none: the base model. `token_ids` are for ShowChanges.
    """

    content: str
    adapters: tuple[AdapterUse, ...] = ()
    token_ids: tuple[int, ...] = ()
    finish_reason: str = ""
    seed: int | None = None


@dataclass(frozen=True)
class KeptTurn:
    """A turn of a kept conversation: its wordings, of which number `chosen` is shown.

    A reply that was asked for again, and words that were edited, have several.
    """

    role: str
    wordings: tuple[Wording, ...]
    chosen: int = 0


@dataclass(frozen=True)
class Conversation:
    """A kept conversation. `revision` counts its writings; the store gives id, dates and revision.

    `fixed_seed`: sampling.seed is what a person chose, and not drawn anew for each reply.
    """

    id: str
    title: str
    sampling: Sampling
    turns: tuple[KeptTurn, ...] = ()
    system: str = ""
    adapters: tuple[AdapterUse, ...] = ()
    fixed_seed: bool = False
    chat_format: str = CHAT_FORMAT.default
    model: str = ""  # what people call it
    created_at: str = ""  # ISO 8601, UTC
    updated_at: str = ""
    revision: int = 0


@dataclass(frozen=True)
class ConversationInfo:
    """A kept conversation as the list shows it. `turns`: how many."""

    id: str
    title: str
    turns: int
    created_at: str
    updated_at: str
    revision: int
    model: str = ""
    adapters: tuple[AdapterUse, ...] = ()


# ---------------------------------------------------------------------------------------------------- commands


@dataclass(frozen=True)
class ListConversations(Command):
    """Chat worker: tell what is kept (ConversationList), read anew."""


@dataclass(frozen=True)
class OpenConversation(Command):
    """Chat worker: ask for a conversation (ConversationOpened)."""

    id: str


@dataclass(frozen=True)
class KeepConversation(Command):
    """Chat worker: write a conversation down as it is now (ConversationKept). One without an id is a new one.

    `conversation.revision` is the one that it was opened or kept with last. Where another tab has written it since,
    this one is kept as a conversation of its own: nothing is lost.
    """

    conversation: Conversation
    request: int = 0


@dataclass(frozen=True)
class RenameConversation(Command):
    """Chat worker: give a conversation another title; an empty one changes nothing."""

    id: str
    title: str


@dataclass(frozen=True)
class DeleteConversation(Command):
    """Chat worker: hide a conversation; RestoreConversation brings it back until the site is started anew."""

    id: str


@dataclass(frozen=True)
class RestoreConversation(Command):
    """Chat worker: undo DeleteConversation."""

    id: str


# ---------------------------------------------------------------------------------------------------- events


@dataclass(frozen=True)
class ConversationList(Event):
    """Every conversation that is kept, the last written first. Comes whenever something about them has changed, here or
    in another tab. `reason`: why they will not outlive the page, "" where they will."""

    conversations: tuple[ConversationInfo, ...]
    reason: str = ""


@dataclass(frozen=True)
class ConversationOpened(Event):
    """A conversation, whole."""

    conversation: Conversation


@dataclass(frozen=True)
class ConversationKept(Event):
    """A conversation is written down. `as_copy`: under another id than it came with, for another tab wrote that one."""

    request: int
    id: str
    title: str
    revision: int
    as_copy: bool = False


@dataclass(frozen=True)
class ConversationDeleted(Event):
    """A conversation is hidden; RestoreConversation brings it back."""

    id: str
    title: str


COMMANDS: tuple[type[Command], ...] = (
    ListConversations,
    OpenConversation,
    KeepConversation,
    RenameConversation,
    DeleteConversation,
    RestoreConversation,
)
EVENTS: tuple[type[Event], ...] = (ConversationList, ConversationOpened, ConversationKept, ConversationDeleted)
