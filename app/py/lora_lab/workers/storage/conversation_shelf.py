"""The conversations that stay: one folder each, with one file that is whole at any moment.

Several tabs may have one open. Each writes on what it has read: where another has written since, a conversation of its
own is made of what this one holds, so that neither takes the other's words away.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

from lora_lab.errors import LoraLabError
from lora_lab.workers.protocol import Conversation, ConversationInfo
from lora_lab.workers.storage.folders import Folder
from lora_lab.workers.storage.tabs import Locks
from lora_lab.workers.storage.whole_file import read_whole, write_whole
from lora_lab.workers.wire.codec import from_dict, to_dict

FILE = "conversation.json"
DELETED = "deleted"
MAX_TITLE_LENGTH = 120
ASKED_LENGTH = 60  # of a question that becomes a title
WITHOUT_TITLE, COPY = "New conversation", " (copy)"
MAX_BYTES = 32 << 20  # of one conversation: some thousand times a long one
WRITE_LOCK = "lora-lab-conversations-write"  # of the tab that reads, changes and writes


class ConversationStore:
    """Keeps conversations in a folder. Deleting hides; `forget_deleted` removes for good."""

    def __init__(self, folder: Folder, write_lock: Locks | None = None) -> None:
        """`write_lock`: between the tabs; None where there is but one."""
        self.folder = folder
        self._write_lock = write_lock
        self._changing = asyncio.Lock()  # one change at a time: it is read, changed and written
        self._known: dict[str, ConversationInfo] | None = None

    async def all(self, *, anew: bool = False) -> list[ConversationInfo]:
        """Return every conversation that is not deleted, the last written first. What cannot be read is passed over.

        They are read once; `anew`: again, for another tab may have written.
        """
        if self._known is None or anew:
            found = [await self._read(id) for id in await self.folder.names()]
            self._known = {one.id: _info(one) for one in found if one is not None}
        return sorted(self._known.values(), key=lambda info: (info.updated_at, info.id), reverse=True)

    async def open(self, id: str) -> Conversation:
        """Return a conversation. LoraLabError if it is not there."""
        if (found := await self._read(id)) is None:
            raise LoraLabError("This conversation is not in the browser's storage any more.")
        return found

    async def keep(self, conversation: Conversation) -> Conversation:
        """Write a conversation as it is; return it with its id, dates and revision, and a title that can be shown.

        One without an id is new; so is one that is deleted or was written since by another. StorageError leaves what
        was there.
        """
        async with self._alone():
            before = await self._read(conversation.id) if conversation.id else None
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            title = _clean(conversation.title) or _title_of(conversation)
            kept = replace(conversation, title=title, updated_at=now, revision=conversation.revision + 1)
            if before is not None and before.revision == conversation.revision:
                return await self._write(replace(kept, created_at=before.created_at))
            if before is not None:  # another tab has written it
                kept = replace(kept, title=_clean(title[: MAX_TITLE_LENGTH - len(COPY)] + COPY))
            return await self._write(replace(kept, id=secrets.token_hex(8), created_at=now, revision=1))

    async def rename(self, id: str, title: str) -> Conversation:
        """Give a conversation another title; an empty one changes nothing.

        Its place in the list stays, and its revision: who writes it in another tab meanwhile writes the same one.
        """
        async with self._alone():
            found = await self.open(id)
            return await self._write(replace(found, title=_clean(title) or found.title))

    async def delete(self, id: str) -> Conversation:
        """Hide a conversation until `restore` or `forget_deleted`."""
        async with self._alone():
            found = await self.open(id)
            await (await self.folder.folder(id)).write(DELETED, b"")
            (self._known or {}).pop(id, None)
        return found

    async def restore(self, id: str) -> Conversation:
        """Bring a hidden conversation back. LoraLabError if it is gone for good."""
        async with self._alone():
            if id not in await self.folder.names():
                raise LoraLabError("This conversation is not in the browser's storage any more.")
            await (await self.folder.folder(id)).delete(DELETED)
            found = await self.open(id)
            if self._known is not None:
                self._known[id] = _info(found)
            return found

    async def forget_deleted(self) -> None:
        """Remove hidden conversations, and what is left of some that were never whole.

        Not while another tab is open: it may be in the middle of `keep`, or want to `restore`.
        """
        for id in await self.folder.names():
            with contextlib.suppress(Exception):  # the next start's business
                folder = await self.folder.folder(id)
                names = await folder.names()
                if DELETED in names or (FILE not in names and await read_whole(folder, FILE) is None):
                    await self.folder.delete(id)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        async with self._changing:
            release = await self._write_lock.take("exclusive") if self._write_lock is not None else None
            try:
                yield
            finally:
                if release is not None:
                    release()

    async def _read(self, id: str) -> Conversation | None:
        if id not in await self.folder.names():
            return None
        try:
            folder = await self.folder.folder(id)
            if DELETED in await folder.names() or (found := await read_whole(folder, FILE)) is None:
                return None
            conversation: Conversation = from_dict(Conversation, found)
        except Exception:  # written by another version: it is kept, the list goes on without it
            return None
        return replace(conversation, id=id)

    async def _write(self, conversation: Conversation) -> Conversation:
        written = to_dict(conversation)
        size = _size(written)
        if size > MAX_BYTES:
            raise LoraLabError(f"This conversation has {size:,} characters; at most {MAX_BYTES:,} can be kept.")
        try:
            await write_whole(await self.folder.folder(conversation.id), FILE, written)
        except Exception:
            if conversation.revision == 1:  # there is none of it: leave no empty folder behind
                with contextlib.suppress(Exception):  # the first error is the one to tell
                    await self.folder.delete(conversation.id)
            raise
        if self._known is not None:
            self._known[conversation.id] = _info(conversation)
        return conversation


def _info(conversation: Conversation) -> ConversationInfo:
    return ConversationInfo(
        conversation.id, conversation.title, len(conversation.turns), conversation.created_at, conversation.updated_at,
        conversation.revision, conversation.model, conversation.adapters,
    )  # fmt: skip


def _title_of(conversation: Conversation) -> str:
    """Return the beginning of what a person asked first."""
    asked = (turn.wordings[turn.chosen].content for turn in conversation.turns
             if turn.role == "user" and 0 <= turn.chosen < len(turn.wordings))  # fmt: skip
    words = _clean(next(asked, ""))
    if len(words) > ASKED_LENGTH:
        words = words[:ASKED_LENGTH].rpartition(" ")[0] or words[:ASKED_LENGTH]
        words += "…"
    return words or WITHOUT_TITLE


def _clean(title: str) -> str:
    return " ".join(title.split())[:MAX_TITLE_LENGTH].strip()


def _size(written: dict) -> int:
    turns = [*written["turns"], {"wordings": [{"content": written["system"]}]}]
    return sum(len(wording["content"]) for turn in turns for wording in turn["wordings"])
