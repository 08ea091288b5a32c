"""The page's own chat worker in Chromium: conversations in OPFS, seen by two tabs; two sides, and what they change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import BrowserContext, Worker

from lora_lab.config import LoraConfig
from lora_lab.formats.peft import expected_shapes, write_adapter
from tests.browser.lab import REPLY_MS, Lab
from tests.browser.test_brought_adapters import config_of

SAMPLING = {"max_new_tokens": 6, "temperature": 1.0, "top_k": 0, "top_p": 0.95, "min_p": 0.0,
            "repetition_penalty": 1.1, "seed": 5}  # fmt: skip
TALK = {"id": "", "title": "", "sampling": SAMPLING, "system": "Answer shortly.", "turns": [
    {"role": "user", "wordings": [{"content": "Where is the lamp? 你好 😀"}]},
    {"role": "assistant", "wordings": [{"content": "Up."}, {"content": "There.", "token_ids": [1, 2]}], "chosen": 1},
]}  # fmt: skip
ASK = """([command, wanted]) => new Promise((resolve, reject) => {
  if (!self.said) {
    const post = self.postMessage;
    self.said = [];
    self.waiting = [];
    self.postMessage = (message, moved) => {
      self.said.push(message);
      self.waiting = self.waiting.filter((hear) => !hear(message));
      return post.call(self, message, moved);
    };
  }
  const begun = self.said.length;
  self.waiting.push((message) => {
    if (message.type !== wanted && message.type !== "failed") return false;
    if (message.type === "failed") reject(new Error(message.message)); else resolve(self.said.slice(begun));
    return true;
  });
  for (const side of ["left", "right"]) for (const part of command[side] ?? []) {
    for (const name of Object.keys(part.files ?? {})) part.files[name] = new Uint8Array(part.files[name]);
  }
  self.onmessage({ data: command });
})"""


def chat_worker(lab: Lab) -> Worker:
    return next(worker for worker in lab.page.workers if "kind=chat" in worker.url)


def ask(lab: Lab, wanted: str, **command: Any) -> list[dict]:
    """Give the worker a command; return what it has posted until the answer, which is the last."""
    return chat_worker(lab).evaluate(ASK, [command, wanted])


def titles(lab: Lab) -> list[str]:
    listed = ask(lab, "conversation_list", type="list_conversations")[-1]
    return [info["title"] for info in listed["conversations"]]


def started(lab: Lab) -> Lab:
    lab.wait_for_model()
    return lab


def test_conversations_outlive_the_page_and_other_tabs_hear_of_them(
    context: BrowserContext, open_lab: Callable[..., Lab]
) -> None:
    here, there = started(open_lab()), started(open_lab())
    assert titles(here) == titles(there) == []
    kept = ask(here, "conversation_kept", type="keep_conversation", conversation=TALK, request=3)[-1]
    assert (kept["request"], kept["title"], kept["revision"]) == (3, "Where is the lamp? 你好 😀", 1)
    # The other tab was told without asking.
    heard = "(title) => self.said.some((m) => m.type === 'conversation_list' && m.conversations[0]?.title === title)"
    deadline = 200
    while not chat_worker(there).evaluate(heard, kept["title"]) and deadline:
        there.page.wait_for_timeout(100)
        deadline -= 1
    assert deadline, "the other tab has heard nothing"
    opened = ask(there, "conversation_opened", type="open_conversation", id=kept["id"])[-1]["conversation"]
    assert opened["turns"][1]["wordings"][1]["content"] == "There." and opened["system"] == "Answer shortly."
    # Both write it: neither takes anything from the other.
    for lab, system in ((here, "mine"), (there, "theirs")):
        ask(lab, "conversation_kept", type="keep_conversation", conversation={**opened, "system": system})
    assert len(titles(here)) == 2
    there.page.close()
    here.page.reload()
    started(here)
    assert sorted(titles(here)) == [kept["title"], f"{kept['title']} (copy)"]
    ask(here, "conversation_deleted", type="delete_conversation", id=kept["id"])
    assert titles(here) == [f"{kept['title']} (copy)"]
    ask(here, "conversation_list", type="restore_conversation", id=kept["id"])
    assert len(titles(here)) == 2
    again = ask(here, "conversation_opened", type="open_conversation", id=kept["id"])[-1]["conversation"]
    assert again["system"] == "mine"
    # What is deleted is forgotten when the only tab starts anew.
    ask(here, "conversation_deleted", type="delete_conversation", id=kept["id"])
    here.page.reload()
    started(here)
    assert titles(here) == [f"{kept['title']} (copy)"]


def test_two_sides_and_what_the_adapter_changes(open_lab: Callable[..., Lab], tiny_model_folder: Path) -> None:
    config = config_of(tiny_model_folder)
    lora, rng = LoraConfig(rank=2, alpha=4, targets=("q_proj", "v_proj")), np.random.default_rng(0)
    tensors = {key: rng.normal(0, 0.4, shape).astype(np.float32) for key, shape in
               expected_shapes(lora, config).items()}  # fmt: skip
    files = {name: list(data) for name, data in write_adapter(tensors, lora, config, None).items()}
    lab = open_lab()
    lab.wait_for_model()
    lab.page.set_default_timeout(REPLY_MS)
    talk = [{"role": "user", "content": "What is the way?"}]
    adapter = {"id": "1", "name": "Ships", "strength": 1.0}
    said = ask(
        lab, "comparison_ended", type="compare_replies", turn=1, messages=talk, sampling=SAMPLING, left=[],
        right=[{**adapter, "files": files}],
    )  # fmt: skip
    assert said[-1]["is_whole"]
    left, right = sorted((one for one in said if one["type"] == "compared_reply"), key=lambda one: one["side"])
    assert left["adapters"] == [] and right["adapters"] == [adapter]
    assert list(left["token_ids"]) != list(right["token_ids"])
    again = ask(
        lab, "comparison_ended", type="compare_replies", turn=2, messages=talk, sampling=SAMPLING,
        left=[adapter], right=[adapter],
    )  # fmt: skip
    sides = [list(one["token_ids"]) for one in again if one["type"] == "compared_reply"]
    assert sides == [list(right["token_ids"])] * 2
    changes = ask(
        lab, "changes_ended", type="show_changes", request=3, messages=talk, token_ids=list(right["token_ids"]),
        adapters=[adapter], alternatives=2,
    )  # fmt: skip
    assert changes[-1]["is_whole"]
    tokens = [token for part in changes if part["type"] == "changes_part" for token in part["tokens"]]
    assert [token["token_id"] for token in tokens] == list(right["token_ids"])
    assert all(len(token["tuned_top"]) == 2 for token in tokens) and any(t["tuned"] != t["base"] for t in tokens)
