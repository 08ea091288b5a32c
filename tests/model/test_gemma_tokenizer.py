"""Gemma 3's tokenizer out of a real GGUF file: SentencePiece's 262,144 tokens and their scores."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lora_lab.data.tokens.tokenizer import load_tokenizer
from lora_lab.formats.byte_source import FileSource
from lora_lab.formats.gguf import read_gguf
from lora_lab.formats.gguf_tokenizer import build_tokenizer_json, end_token_ids
from lora_lab.model.files import TokenizerFiles
from tests.unit.data.helpers import javascript_tokens, published_files
from tests.unit.data.hostile_text import hostile_texts
from tests.unit.formats.spm_reference import LlamaCppTokenizer

TEXTS = [
    *[text.replace("<|im_end|>", "<end_of_turn>").replace("<|im_start|>", "\n\n<start_of_turn>")
      for text in hostile_texts(4000, seed=71)],
    "<table><tr>  <td>\n\n\n</td></s>", " " * 40 + "a", "\n" * 40, "\t\t x",
]  # fmt: skip


@pytest.fixture(scope="module")
def metadata(gemma_path: Path) -> dict[str, Any]:
    return asyncio.run(read_gguf(FileSource(gemma_path))).metadata


@pytest.fixture(scope="module")
def files(metadata: dict[str, Any]) -> TokenizerFiles:
    tokenizer_json, problems = build_tokenizer_json(metadata)
    assert problems == []
    return TokenizerFiles(tokenizer_json, None, {})


def test_the_tokens_are_the_published_ones(files: TokenizerFiles) -> None:
    ours, theirs = load_tokenizer(files), load_tokenizer(published_files("gemma3"))
    assert [text for text in TEXTS if ours.encode(text) != theirs.encode(text)] == []
    assert ours.encode("Hi", add_special_tokens=True) == theirs.encode("Hi", add_special_tokens=True) == [2, 10979]
    # The file spells a run of spaces with spaces; the published tokenizer knows it with U+2581 as well.
    assert ours.encode("\u2581\u2581") != theirs.encode("\u2581\u2581")


def test_the_tokens_are_those_of_llama_cpps_rules(files: TokenizerFiles, metadata: dict[str, Any]) -> None:
    ours, rules = load_tokenizer(files), LlamaCppTokenizer(metadata)
    texts = [*TEXTS[::8], *TEXTS[-4:], "\u2581\u2581 \u2581a"]
    assert [text for text in texts if ours.encode(text) != rules.encode(text)] == []


def test_both_hosts_have_the_same_tokens(files: TokenizerFiles) -> None:
    tokenizer = load_tokenizer(files)
    texts = [*TEXTS[::4], *TEXTS[-4:]]
    assert javascript_tokens(files, texts) == [tokenizer.encode(text) for text in texts]


def test_the_merges_are_found_in_seconds(metadata: dict[str, Any]) -> None:
    start = time.process_time()
    tokenizer_json, _ = build_tokenizer_json(metadata)
    elapsed_s = time.process_time() - start
    assert len(tokenizer_json["model"]["merges"]) == 513_511
    assert elapsed_s < 15


def test_the_score_decides(files: TokenizerFiles, metadata: dict[str, Any]) -> None:
    """The negative control: with the scores turned round the tokens are others."""
    turned = metadata | {"tokenizer.ggml.scores": -np.asarray(metadata["tokenizer.ggml.scores"])}
    wrong, right = load_tokenizer(TokenizerFiles(build_tokenizer_json(turned)[0], None, {})), load_tokenizer(files)
    texts = TEXTS[::8]
    assert sum(wrong.encode(text) != right.encode(text) for text in texts) > 0.4 * len(texts)


def test_a_turn_ends_with_its_token(files: TokenizerFiles, metadata: dict[str, Any]) -> None:
    tokenizer = load_tokenizer(files)
    ends = [tokenizer.id_to_token(token_id) for token_id in end_token_ids(metadata, files.tokenizer_json)]
    assert ends == ["<eos>", "<end_of_turn>"]  # and not `</s>`, a word of HTML here
