"""The conversations that are kept: the page is told of every change to them, also of those that other tabs make."""

from __future__ import annotations

import asyncio

from lora_lab.workers.protocol import (
    ConversationDeleted,
    ConversationKept,
    ConversationList,
    ConversationOpened,
    DeleteConversation,
    KeepConversation,
    ListConversations,
    OpenConversation,
    RenameConversation,
    RestoreConversation,
)
from lora_lab.workers.storage.channel import CONVERSATIONS, BrowserChannel, Channel
from lora_lab.workers.storage.conversation_shelf import WRITE_LOCK, ConversationStore
from lora_lab.workers.storage.folders import open_home
from lora_lab.workers.storage.tabs import BrowserLocks, join_tabs
from lora_lab.workers.wire.dispatch import Host, failure, handles


class Conversations:
    """Answers the page's commands about conversations. The storage is opened when it is first asked for."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._reason = ""  # why nothing will outlive the page
        self._opening: asyncio.Future[tuple[ConversationStore, Channel]] | None = None
        self._telling: set[asyncio.Future[None]] = set()  # the loop holds tasks weakly

    async def _opened(self) -> tuple[ConversationStore, Channel]:
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._open())
        try:
            return await self._opening
        except BaseException:
            self._opening = None  # the next command tries again
            raise

    async def _open(self) -> tuple[ConversationStore, Channel]:
        home = await open_home()
        self._reason = home.reason
        shares = home.locks is not None
        store = ConversationStore(
            await home.folder.folder("conversations"), BrowserLocks(WRITE_LOCK) if shares else None
        )
        await join_tabs(BrowserLocks(CONVERSATIONS) if shares else None, store.forget_deleted)
        channel = BrowserChannel(CONVERSATIONS)
        channel.when_told(self._heard)
        return store, channel

    def _heard(self, _: str) -> None:
        """Another tab has changed something: read it anew, and tell the page."""
        task = asyncio.ensure_future(self._tell_anew())
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell_anew(self) -> None:
        try:
            await self._tell(anew=True)
        except Exception as error:  # nobody asked: nobody else would hear of it
            self._host.post(failure("storage", error))

    async def _tell(self, *, anew: bool = False) -> None:
        store, _ = await self._opened()
        self._host.post(ConversationList(tuple(await store.all(anew=anew)), self._reason))

    async def _changed(self, id: str) -> None:
        _, channel = await self._opened()
        channel.tell(id)
        await self._tell()

    @handles(ListConversations, "storage")
    async def list_conversations(self, _: ListConversations) -> None:
        """Tell what is kept."""
        await self._tell(anew=True)

    @handles(OpenConversation, "storage")
    async def open_conversation(self, command: OpenConversation) -> None:
        """Send a conversation."""
        store, _ = await self._opened()
        self._host.post(ConversationOpened(await store.open(command.id)))

    @handles(KeepConversation, "storage")
    async def keep_conversation(self, command: KeepConversation) -> None:
        """Write a conversation down."""
        store, _ = await self._opened()
        wanted = command.conversation
        kept = await store.keep(wanted)
        as_copy = wanted.id not in ("", kept.id)
        self._host.post(ConversationKept(command.request, kept.id, kept.title, kept.revision, as_copy))
        await self._changed(kept.id)

    @handles(RenameConversation, "storage")
    async def rename_conversation(self, command: RenameConversation) -> None:
        """Give a conversation another title."""
        store, _ = await self._opened()
        await store.rename(command.id, command.title)
        await self._changed(command.id)

    @handles(DeleteConversation, "storage")
    async def delete_conversation(self, command: DeleteConversation) -> None:
        """Hide a conversation; it is removed for good when the site is started anew."""
        store, _ = await self._opened()
        deleted = await store.delete(command.id)
        self._host.post(ConversationDeleted(deleted.id, deleted.title))
        await self._changed(command.id)

    @handles(RestoreConversation, "storage")
    async def restore_conversation(self, command: RestoreConversation) -> None:
        """Bring a hidden conversation back."""
        store, _ = await self._opened()
        await store.restore(command.id)
        await self._changed(command.id)
