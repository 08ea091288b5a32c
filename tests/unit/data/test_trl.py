"""Our masks against TRL's: the same rows through its SFTTrainer, with the chat templates that it knows.

TRL marks the answers in the template (`{% generation %}`) and swaps such a template in; we work from the unmarked one
by rendering prefixes. One difference is meant: blanks at an answer's edges that are the template's own. The line break
behind the end-of-turn token, and before the answer where the mark stands before it (Qwen) or melts with its neighbours
(Llama 3), are trained by TRL and not by us; and so is the end-of-text token that Phi-3 puts behind a whole
conversation, after the last end-of-turn token.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from lora_lab.data import read_dataset
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import Tokenizer, load_tokenizer
from lora_lab.model.files import TokenizerFiles
from tests.unit.data.helpers import run, smollm2_files

pytestmark = pytest.mark.unit

# TRL's name of the template, and the token that ends a turn in it.
FAMILIES = {"qwen2_5": "<|im_end|>", "llama3": "<|eot_id|>", "gemma": "<end_of_turn>", "phi3": "<|end|>"}
SPECIAL = ["<|eot_id|>", "<end_of_turn>", "<start_of_turn>", "<|end|>", "<|start_header_id|>", "<|end_header_id|>",
           "<|user|>", "<|assistant|>", "<|system|>"]  # fmt: skip
WORDS = [
    "Hello 42!",
    "  spaces around  ",
    "two\nlines",
    "Ünïcödé 日本",
    "user",
    "a.b,c;d",
    "It's 1,000.",
    "<b>bold</b>",
]
CHATS = [
    [
        ("user", WORDS[i % 8]),
        ("assistant", WORDS[(i + 3) % 8]),
        ("user", WORDS[i * 5 % 8]),
        ("assistant", WORDS[i * 3 % 8]),
    ]
    for i in range(12)
]
CHATS[::3] = [chat[:2] for chat in CHATS[::3]]


def _tokenizer_json() -> dict[str, Any]:
    plain = smollm2_files().tokenizer_json
    added = [{"id": 49152 + i, "content": name, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False} for i, name in enumerate(SPECIAL)]  # fmt: skip
    return {**plain, "added_tokens": [*plain["added_tokens"], *added]}


def _rows(kind: str) -> list[dict[str, Any]]:
    chats = [[{"role": role, "content": words} for role, words in chat] for chat in CHATS]
    if kind == "messages":
        return [{"messages": chat} for chat in chats]
    return [{"prompt": chat[:-1], "completion": chat[-1:]} for chat in chats]


def _template(family: str) -> str:
    return (files("trl") / "chat_templates" / f"{family}.jinja").read_text(encoding="utf-8")


def _by_trl(family: str, kind: str, model_folder: Path, out: Path) -> list[tuple[list[int], list[bool]]]:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    end = FAMILIES[family]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer.from_str(json.dumps(_tokenizer_json())),
        bos_token="<|endoftext|>", eos_token=end, pad_token="<|endoftext|>", chat_template=_template(family),
    )  # fmt: skip
    config = SFTConfig(
        output_dir=str(out), assistant_only_loss=kind == "messages", report_to=[], use_cpu=True, bf16=False,
        max_length=None, eos_token=end, pad_token="<|endoftext|>",
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    trainer = SFTTrainer(model, config, train_dataset=Dataset.from_list(_rows(kind)), processing_class=tokenizer)
    return [(row["input_ids"], [label != -100 for label in row["labels"]]) for row in trainer.train_dataset]


def _by_us(family: str, kind: str) -> tuple[Tokenizer, list[tuple[list[int], list[bool]]]]:
    special = {"bos_token": "<|endoftext|>", "eos_token": FAMILIES[family]}
    tokenizer = load_tokenizer(TokenizerFiles(_tokenizer_json(), None, special))
    raw = "\n".join(map(json.dumps, _rows(kind)))
    dataset = run(read_dataset(raw, tokenizer, ChatTemplate(_template(family), special), 4096))
    assert dataset.report.problems == ()
    return tokenizer, [(e.tokens.tolist(), e.trained.tolist()) for e in dataset.examples]


def _unexplained(ours: list[bool], theirs: list[bool], ids: list[int], tokenizer: Tokenizer) -> list[int]:
    """Return where the masks differ, but for blanks that only TRL trains, at the edges of what we train."""
    blank = [not tokenizer.decode([token]).strip() for token in ids]
    found = []
    for place in np.flatnonzero(np.array(ours) != np.array(theirs)).tolist():
        after = next((i for i in range(place, len(ids)) if not blank[i]), len(ids) - 1)
        before = next((i for i in range(place, -1, -1) if not blank[i]), 0)
        is_end_of_text = place == len(ids) - 1 and ids[place] in tokenizer.special_ids
        if ours[place] or not (ours[after] or ours[before] or is_end_of_text) or not (blank[place] or is_end_of_text):
            found.append(place)
    return found


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["messages", "prompt-completion"])
def test_the_same_tokens_are_trained_as_by_trl(family: str, kind: str, tiny_model_folder: Path, tmp_path: Path) -> None:
    theirs = _by_trl(family, kind, tiny_model_folder, tmp_path)
    tokenizer, ours = _by_us(family, kind)
    assert len(ours) == len(theirs) == len(CHATS)
    for (ids, our_mask), (their_ids, their_mask) in zip(ours, theirs, strict=True):
        assert ids == their_ids
        places = _unexplained(our_mask, their_mask, ids, tokenizer)
        assert places == [], [tokenizer.decode(ids[max(0, p - 3) : p + 4]) for p in places]
        # The control: a mask that is off by one token is seen.
        assert _unexplained([False, *our_mask[:-1]], their_mask, ids, tokenizer)
