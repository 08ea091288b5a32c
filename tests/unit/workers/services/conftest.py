"""What the tests of the services share: the tiny model, open as Models has it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lora_lab.workers.model.opened import OpenedModel, open_files
from tests.unit.workers.services.helpers import files_in


@pytest.fixture(scope="session")
def opened(tiny_model_folder: Path) -> OpenedModel:
    """The tiny model. Read only: the whole session shares it."""
    return _open(tiny_model_folder)


@pytest.fixture(scope="session")
def opened_base(base_model_folder: Path) -> OpenedModel:
    """The tiny model without a chat template. Read only."""
    return _open(base_model_folder)


def _open(folder: Path) -> OpenedModel:
    files, tokenizer, template = asyncio.run(open_files(files_in(folder), lambda event: None))
    return OpenedModel(files, tokenizer, template, "tests/tiny", "Tiny")
