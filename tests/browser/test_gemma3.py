"""A real model of another family in the page, once: a person's own file, K-quants mixed, SentencePiece, no template.

Gemma 3 270M's table of 262,144 tokens is larger than one binding of a software GPU.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.lab import Lab

LONG_MS = 600_000
PROMPT = "The capital of France is"
# What transformers continues with (tests/model/test_gemma3.py), as far as a software GPU is asked to write.
WRITTEN = "the capital of the country of France"


def test_gemma_3_trains_a_step_and_continues_as_transformers_does(
    open_lab: Callable[..., Lab], gemma_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "two.jsonl"
    path.write_text("".join(json.dumps({"prompt": "Who keeps it?", "completion": "Brindle."}) + "\n" for _ in range(2)))
    lab = open_lab()
    lab.wait_for_model()
    lab.choose_model(gemma_path)
    expect(lab.part("model-status")).to_contain_text("gemma", timeout=LONG_MS, ignore_case=True)
    expect(lab.part("model-status")).to_have_attribute("data-state", "ready", timeout=LONG_MS)
    chosen = lab.part("set-chat-format")
    expect(chosen).to_be_visible()
    chosen.select_option("plain")
    lab.drop_data(path)
    lab.set(steps=1, batch=1, max_length=32, lr="1e-3")
    lab.start()
    lab.wait_for_phase("done", LONG_MS)
    (loss,) = lab.losses()
    assert 0 < loss < 30
    lab.greedy(7)
    expect(lab.part("chat-adapter")).to_be_enabled(timeout=LONG_MS)
    lab.switch_adapter(False)
    expect(lab.part("chat-send")).to_be_enabled(timeout=LONG_MS)
    lab.part("chat-input").fill(PROMPT)
    lab.part("chat-send").click()
    reply = lab.part("chat-message").last
    expect(reply).to_have_attribute("data-state", "done", timeout=LONG_MS)
    assert reply.inner_text().strip().startswith(WRITTEN)
