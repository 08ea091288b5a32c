"""A row of thousands of turns: the same mask as by a rendering for each turn, in time that is linear in the row."""

from __future__ import annotations

import functools
import gzip
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from build_tools.base import ROOT
from lora_lab.data.problems import RowError
from lora_lab.data.rows.messages import Message
from lora_lab.data.rows.schema import Conversation
from lora_lab.data.tokens import align, mask
from lora_lab.data.tokens.mask import mask_conversation
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import load_tokenizer
from tests.unit.data.helpers import TEMPLATE_NAMES, read_template, smollm2_files

SPECIAL = {"bos_token": "<s>", "eos_token": "<|im_end|>"}
WORDS = ["Yes.", " no", "a\nb ", "é — ü", "<think>why</think>so", "x" * 40]


class Counting(ChatTemplate):
    """Counts the messages that are rendered."""

    rendered = 0

    def render(self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = False) -> str:
        self.rendered += len(messages)
        return super().render(messages, add_generation_prompt)


def conversation(turns: int, words: Sequence[str] = WORDS) -> Conversation:
    messages = []
    for number in range(turns):
        messages.append(Message("user", f"{number} {words[number * 5 % len(words)]}"))
        messages.append(Message("assistant", words[number * 7 % len(words)] + str(number), number % 9 != 4))
    return Conversation(1, tuple(messages))


def outcome(row: Conversation, template: ChatTemplate) -> Any:
    try:
        masked = mask_conversation(row, load(), template)
    except RowError as error:
        return str(error)
    return masked.tokens.tolist(), masked.trained.tolist(), masked.turns, masked.aligned, masked.blurred_turns


@functools.cache
def load() -> Any:
    return load_tokenizer(smollm2_files())


@pytest.mark.parametrize("words", [WORDS, ["Yes.", "é ü", "no"]], ids=["odd", "plain"])
@pytest.mark.parametrize("name", TEMPLATE_NAMES)
def test_many_turns_are_masked_as_few_are(name: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    template, row = ChatTemplate(read_template(name), SPECIAL), conversation(40, words)
    found = outcome(row, template)
    monkeypatch.setattr(mask, "_FEW_TURNS", 1000)
    monkeypatch.setattr(align, "find_together", lambda *_: None)
    assert found == outcome(row, template)


@pytest.mark.parametrize("name", ["plain", "zephyr_like", "mistral_like", "llama3_like", "marked_chatml",
                                  "counting_breaks_prefix", "all_features"])  # fmt: skip
def test_the_work_is_linear(name: str) -> None:
    work = []
    for turns in (100, 400):
        template = Counting(read_template(name), SPECIAL)
        outcome(conversation(turns, ["Yes.", "no"]), template)
        work.append(template.rendered)
    assert work[1] < 4.6 * work[0]
    assert work[1] < 8 * 800 + 100


def test_that_work_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: with a rendering for each turn it grows with the square."""
    monkeypatch.setattr(mask, "_FEW_TURNS", 1000)
    work = []
    for turns in (100, 400):
        template = Counting(read_template("zephyr_like"), SPECIAL)
        outcome(conversation(turns, ["Yes.", "no"]), template)
        work.append(template.rendered)
    assert work[1] > 12 * work[0]


def test_turns_that_cannot_be_told_apart_in_time_are_refused() -> None:
    """Each header another one: no rendering of all tells where a turn begins, and one for each is too much."""
    source = (
        "{% for m in messages %}<|im_start|>{{ m.role }}{{ messages|length - loop.index0 if loop.last else '' }}"
        "{{ '!' * (loop.index0 % 7) }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant{{ '!' * (messages|length % 7) }}\n{% endif %}"
    )
    template = Counting(source, SPECIAL)
    few = outcome(conversation(30, ["Yes."]), template)
    assert not isinstance(few, str), few
    many = outcome(conversation(1000, ["Yes."]), template)
    assert isinstance(many, tuple) or "split the row" in many
    assert template.rendered < 1_000_000


def test_the_row_of_2000_turns_is_masked() -> None:
    path = ROOT.parent / "shared/cases/files/row-of-2000-turns.jsonl.gz"
    if not path.exists():
        text = json.dumps(
            {"messages": [{"role": r, "content": "Hello there"} for _ in range(1000) for r in ("user", "assistant")]}
        )
    else:
        text = gzip.decompress(path.read_bytes()).decode()
    messages = tuple(Message(one["role"], one["content"]) for one in json.loads(text)["messages"])
    template = Counting(smollm2_files().chat_template or "", smollm2_files().special_tokens)
    masked = mask_conversation(Conversation(1, messages), load(), template)
    assert len(masked.turns) == sum(message.role == "assistant" for message in messages)
    assert np.count_nonzero(masked.trained) and template.rendered < 10 * len(messages)
