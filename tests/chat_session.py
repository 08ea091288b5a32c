"""A chat worker under CPython on a real device: its page's end is a list of events."""

from __future__ import annotations

from pathlib import Path

from lora_lab.workers.chat_worker import ChatWorker
from lora_lab.workers.protocol import (
    ChangedToken,
    ChangesEnded,
    ChangesPart,
    ChatMessage,
    Command,
    ComparedReply,
    CompareReplies,
    ComparisonEnded,
    Failed,
    OpenModel,
    Reply,
    ReplyDone,
    Sampling,
    ShowChanges,
)
from tests.unit.workers.helpers import Page, named

SAMPLING = Sampling(max_new_tokens=12, temperature=1.0, top_p=0.95, repetition_penalty=1.1, seed=5)
TALK = (ChatMessage("user", "What is the way to the lighthouse?"),)


class Chat:
    """A worker, its page, and what it answered last."""

    def __init__(self, folder: Path) -> None:
        self.page, self.folder = Page(), folder
        self.worker = ChatWorker(self.page)
        self.turn = 0

    async def send(self, *commands: Command) -> None:
        for command in commands:
            await self.worker.answer(command)

    async def open_model(self) -> None:
        files = [path for path in sorted(self.folder.iterdir()) if path.is_file()]
        await self.send(OpenModel(files=tuple(named(f"tiny/{path.name}", path.read_bytes()) for path in files)))

    async def reply(self, *messages: ChatMessage, sampling: Sampling = SAMPLING, **how) -> ReplyDone:
        self.turn += 1
        await self.send(Reply(self.turn, messages, sampling, **how))
        assert self.page.all(Failed) == []
        return self.page.last(ReplyDone)

    async def compare(self, left: tuple, right: tuple, **how) -> list[ComparedReply]:
        self.turn += 1
        await self.send(CompareReplies(self.turn, TALK, SAMPLING, left, right, **how))
        assert self.page.all(Failed) == []
        assert self.page.last(ComparisonEnded) == ComparisonEnded(self.turn, True)
        done = {event.side: event for event in self.page.all(ComparedReply) if event.turn == self.turn}
        return [done["left"], done["right"]]

    async def changes(self, **what) -> list[ChangedToken]:
        self.turn += 1
        await self.send(ShowChanges(self.turn, **what))
        assert self.page.all(Failed) == []
        assert self.page.last(ChangesEnded).is_whole
        parts = [event for event in self.page.all(ChangesPart) if event.request == self.turn]
        assert parts[-1].done == parts[-1].total
        return [token for part in parts for token in part.tokens]
