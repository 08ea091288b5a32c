"""Kept conversations as the page meets them, in two tabs of one browser."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from lora_lab.workers.protocol import (
    Conversation,
    ConversationDeleted,
    ConversationKept,
    ConversationList,
    ConversationOpened,
    DeleteConversation,
    Failed,
    KeepConversation,
    ListConversations,
    OpenConversation,
    RenameConversation,
    RestoreConversation,
    Sampling,
)
from lora_lab.workers.services import conversations as service
from lora_lab.workers.services.conversations import Conversations
from lora_lab.workers.storage.folders import Home, MemoryFolder, StorageError
from lora_lab.workers.wire.dispatch import Dispatcher
from tests.unit.workers.helpers import Page
from tests.unit.workers.test_tabs import FakeLocks

TALK = Conversation("", "Ships", Sampling())


class Browser:
    """What the tabs of one browser share: its storage, its locks by name, its channels."""

    def __init__(self) -> None:
        self.home = MemoryFolder()
        self.locks: dict[str, FakeLocks] = {}
        self.listeners: list[tuple[object, Callable[[str], None]]] = []

    def lock(self, name: str) -> FakeLocks:
        return self.locks.setdefault(name, FakeLocks())

    def channel(self, name: str) -> Channel:
        return Channel(self)

    async def open_home(self) -> Home:
        return Home(self.home, locks=FakeLocks())


class Channel:
    def __init__(self, browser: Browser) -> None:
        self.browser = browser

    def tell(self, what: str) -> None:
        for owner, do in self.browser.listeners:
            if owner is not self:
                do(what)

    def when_told(self, do: Callable[[str], None]) -> None:
        self.browser.listeners.append((self, do))


class Tab:
    def __init__(self) -> None:
        self.page = Page()
        self.service = Conversations(self.page)
        self._dispatcher = Dispatcher(self.page, [self.service])

    async def send(self, *commands) -> None:
        for command in commands:
            await self._dispatcher.answer(command)

    @property
    def titles(self) -> list[str]:
        return [info.title for info in self.page.last(ConversationList).conversations]


async def settled(*tabs: Tab) -> None:
    while any(tab.service._telling for tab in tabs):
        await asyncio.sleep(0)


def in_a_browser(monkeypatch: pytest.MonkeyPatch, work: Callable[[Browser], Awaitable[None]]) -> None:
    async def main() -> None:
        browser = Browser()
        monkeypatch.setattr(service, "open_home", browser.open_home)
        monkeypatch.setattr(service, "BrowserLocks", browser.lock)
        monkeypatch.setattr(service, "BrowserChannel", browser.channel)
        await work(browser)

    asyncio.run(main())


def test_a_conversation_is_kept_opened_renamed_deleted_and_brought_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(_: Browser) -> None:
        tab = Tab()
        await tab.send(ListConversations())
        assert tab.page.events == [ConversationList(())]
        await tab.send(KeepConversation(TALK, request=3))
        kept = tab.page.last(ConversationKept)
        assert (kept.request, kept.title, kept.revision, kept.as_copy) == (3, "Ships", 1, False)
        await tab.send(OpenConversation(kept.id), RenameConversation(kept.id, "Tides"))
        assert replace(tab.page.last(ConversationOpened).conversation, id="", created_at="", updated_at="",
                       revision=0) == TALK  # fmt: skip
        assert tab.titles == ["Tides"]
        await tab.send(DeleteConversation(kept.id))
        assert tab.page.last(ConversationDeleted) == ConversationDeleted(kept.id, "Tides") and tab.titles == []
        await tab.send(OpenConversation(kept.id))
        assert tab.page.last(Failed).where == "storage"
        await tab.send(RestoreConversation(kept.id))
        assert tab.titles == ["Tides"]
        assert len(tab.page.all(Failed)) == 1

    in_a_browser(monkeypatch, work)


def test_other_tabs_are_told_and_what_they_hold_is_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(_: Browser) -> None:
        here, there = Tab(), Tab()
        await here.send(ListConversations())
        await there.send(ListConversations())
        told = len(here.page.events)
        await here.send(KeepConversation(TALK))
        await settled(here, there)
        assert here.titles == there.titles == ["Ships"]
        assert len(here.page.events) == told + 2  # kept, and the list: nobody tells itself
        id = here.page.last(ConversationKept).id
        await there.send(OpenConversation(id), RenameConversation(id, "Tides"))
        await settled(here, there)
        assert here.titles == ["Tides"]
        opened = there.page.last(ConversationOpened).conversation
        await here.send(KeepConversation(replace(TALK, id=id, revision=1, system="mine")))
        await there.send(KeepConversation(replace(opened, system="theirs")))
        await settled(here, there)
        assert not here.page.last(ConversationKept).as_copy and there.page.last(ConversationKept).as_copy
        assert sorted(here.titles) == sorted(there.titles) == ["Ships", "Ships (copy)"]
        await there.send(DeleteConversation(id))
        await settled(here, there)
        assert here.titles == ["Ships (copy)"]
        assert here.page.all(Failed) == there.page.all(Failed) == []

    in_a_browser(monkeypatch, work)


def test_a_tab_that_starts_beside_another_forgets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(browser: Browser) -> None:
        here = Tab()
        await here.send(KeepConversation(TALK))
        id = here.page.last(ConversationKept).id
        await here.send(DeleteConversation(id))
        await Tab().send(ListConversations())
        await here.send(RestoreConversation(id))
        assert here.titles == ["Ships"]
        await here.send(DeleteConversation(id))
        browser.locks.clear()  # all tabs are closed
        await Tab().send(ListConversations())
        await here.send(RestoreConversation(id))
        assert here.page.last(Failed).where == "storage"

    in_a_browser(monkeypatch, work)


def test_a_browser_that_keeps_nothing_says_so_and_one_that_fails_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def work(browser: Browser) -> None:
        async def refused() -> Home:
            raise StorageError("not now")

        async def memory() -> Home:
            return Home(MemoryFolder(), "This browser lets the site store nothing.")

        tab = Tab()
        monkeypatch.setattr(service, "open_home", refused)
        await tab.send(ListConversations())
        assert tab.page.events == [Failed("storage", "not now", None, None, "StorageError")]
        monkeypatch.setattr(service, "open_home", memory)
        await tab.send(KeepConversation(TALK))
        assert tab.page.last(ConversationList).reason == "This browser lets the site store nothing."
        assert tab.titles == ["Ships"] and browser.locks == {}

    in_a_browser(monkeypatch, work)


def test_a_list_that_cannot_be_read_when_another_tab_writes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(browser: Browser) -> None:
        here, there = Tab(), Tab()
        await here.send(ListConversations())
        await there.send(ListConversations())

        async def refused() -> list[str]:
            raise StorageError("gone")

        store, _ = await here.service._opened()
        monkeypatch.setattr(store, "all", lambda **_: refused())
        await there.send(KeepConversation(TALK))
        await settled(here, there)
        assert here.page.last(Failed).message == "gone"

    in_a_browser(monkeypatch, work)
