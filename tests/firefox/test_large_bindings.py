"""A weight that is larger than what Firefox binds: 143 MB of embedding, where a binding has 128 MiB at most."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.lab import START_MS, Lab
from tests.tiny_model import write_tiny_model

VOCABULARY, WIDTH = 70_000, 512


@pytest.fixture
def wide_model(tmp_path: Path) -> Path:
    assert VOCABULARY * WIDTH * 4 > 128 << 20
    return write_tiny_model(
        tmp_path / "wide", vocab_size=VOCABULARY, hidden=WIDTH, layers=1, heads=4, head_dim=16, intermediate=64
    )


def test_it_trains_and_chats(open_lab: Callable[..., Lab], wide_model: Path, ships: Path) -> None:
    lab = open_lab()
    lab.wait_for_model()
    lab.choose_model(*sorted(wide_model.iterdir()))
    expect(lab.part("model-status")).to_have_attribute("title", re.compile("36 million"), timeout=START_MS)
    lab.wait_for_model()
    lab.drop_data(ships)
    lab.wait_for_data()
    lab.set(steps=3, batch=1, max_length=64, lr="1e-3")
    lab.start()
    lab.wait_for_phase("done")
    losses = lab.losses()
    # What a model of small random weights knows of the next token: nothing.
    assert losses[0] == pytest.approx(math.log(VOCABULARY), rel=0.05)
    assert losses[-1] < losses[0]
    lab.greedy(4)
    lab.ask_anything("What is ship 7?")
