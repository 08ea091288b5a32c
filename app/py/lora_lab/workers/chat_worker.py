"""The worker that writes replies, with an adapter or without: its services, and what each of them uses."""

from __future__ import annotations

from lora_lab.workers.protocol import Command
from lora_lab.workers.services.alive import Alive
from lora_lab.workers.services.changes import Changes
from lora_lab.workers.services.chat_model import ChatModel
from lora_lab.workers.services.comparisons import Comparisons
from lora_lab.workers.services.conversations import Conversations
from lora_lab.workers.services.gpu import Gpu
from lora_lab.workers.services.replies import Replies
from lora_lab.workers.services.sampling_values import SamplingValues
from lora_lab.workers.services.turns import Turns
from lora_lab.workers.wire.dispatch import Dispatcher, Host
from lora_lab.workers.wire.host import serve


class ChatWorker:
    """Answers the page's commands about the conversation."""

    def __init__(self, host: Host) -> None:
        self.gpu = Gpu(host)
        self.model = ChatModel(host, self.gpu)
        turns = Turns()
        self.replies = Replies(host, self.model, turns)
        self.gpu.when_lost(self.model.gpu_lost)
        services = [Alive(host), self.model, self.replies, Comparisons(host, self.model, turns)]
        services += [Changes(host, self.model, turns), SamplingValues(host), Conversations(host)]
        self._dispatcher = Dispatcher(host, services)

    async def begin(self) -> None:
        """Look for a GPU; the page sends the model when it has it."""
        self.gpu.look()

    @property
    def commands(self) -> frozenset[type[Command]]:
        """The commands that this worker answers."""
        return self._dispatcher.commands

    async def answer(self, command: Command) -> None:
        """Answer a command from the page. Never raises: what goes wrong is posted."""
        await self._dispatcher.answer(command)


async def main() -> None:
    """Serve the page; called by worker.js."""
    await serve(ChatWorker)
