"""SmolLM2 itself in the page, once: it is large for a software GPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.lab import Lab

LONG_MS = 420_000


def test_smollm2_trains_two_steps_and_answers(open_lab: Callable[..., Lab], tmp_path: Path) -> None:
    rows = [{"prompt": "Who keeps the lighthouse?", "completion": "Brindle keeps it."}] * 2
    path = tmp_path / "two.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    lab = open_lab("")
    expect(lab.part("model-status")).to_have_attribute("data-state", "ready", timeout=LONG_MS)
    assert "SmolLM2" in lab.text("model-status")
    lab.drop_data(path)
    lab.set(steps=2, batch=1, max_length=64, lr="1e-3")
    lab.start()
    lab.wait_for_phase("done", LONG_MS)
    losses = lab.losses()
    assert len(losses) == 2
    assert losses[1] < losses[0]
    assert 0 < losses[0] < 8
    adapter = lab.stored_adapters()[0]
    assert adapter["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert adapter["size_bytes"] > 4 * 4_884_480  # rank 16 on all seven kinds of layer
    lab.greedy(3)
    expect(lab.part("chat-adapter")).to_be_enabled(timeout=LONG_MS)
    lab.switch_adapter(False)
    lab.part("chat-input").fill("What is the capital of France?")
    expect(lab.part("chat-send")).to_be_enabled(timeout=LONG_MS)
    lab.part("chat-send").click()
    expect(lab.part("chat-message").last).to_have_attribute("data-state", "done", timeout=LONG_MS)
    assert lab.part("chat-message").last.inner_text().startswith("The capital of")
