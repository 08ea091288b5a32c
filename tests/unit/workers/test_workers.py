"""The two workers: every command has one answer, and their services keep to themselves what is theirs."""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path

import pytest

from lora_lab.workers import services
from lora_lab.workers.chat_worker import ChatWorker
from lora_lab.workers.protocol import COMMANDS, OpenModel, Ping, ReadDataset, Reply
from lora_lab.workers.services import stores
from lora_lab.workers.storage.folders import Home, MemoryFolder
from lora_lab.workers.train_worker import TrainWorker
from tests.unit.workers.helpers import Page

SERVICES = sorted(path for path in Path(services.__path__[0]).glob("*.py") if path.name != "__init__.py")


def test_every_command_is_answered_by_one_of_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def open_home() -> Home:
        return Home(MemoryFolder())

    monkeypatch.setattr(stores, "open_home", open_home)

    async def main() -> None:
        train, chat = TrainWorker(Page()).commands, ChatWorker(Page()).commands
        assert train | chat == set(COMMANDS)
        assert train & chat == {OpenModel, Ping} and ReadDataset in train and Reply in chat

    asyncio.run(main())


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.stem)
def test_a_service_has_no_parent_and_no_hand_in_another(path: Path) -> None:
    tree = ast.parse(path.read_text())
    reached = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
        if not (isinstance(node.value, ast.Name) and node.value.id == "self")
    ]
    assert reached == []
    assert [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.bases] == []
