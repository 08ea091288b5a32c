"""How byte-level GGUF vocabularies split text: by example, and as the published tokenizers of the same name do."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tokenizers.pre_tokenizers import PreTokenizer as RustPreTokenizer
from tokenizers.pre_tokenizers import Sequence, Split

from lora_lab.formats.gguf_tokenizer import build_tokenizer_json
from lora_lab.formats.pre_tokenizers import PRE_TOKENIZERS, SAME_AS, PreTokenizer, find_pre_tokenizer
from tests.unit.data.helpers import published_files
from tests.unit.data.hostile_text import hostile_texts

pytestmark = pytest.mark.unit


def rust(node: dict[str, Any]) -> RustPreTokenizer:
    """Return the library's own pre-tokenizer for a part of tokenizer.json."""
    from tokenizers import Tokenizer, models

    empty = json.loads(Tokenizer(models.BPE()).to_str())
    found = Tokenizer.from_str(json.dumps({**empty, "pre_tokenizer": node})).pre_tokenizer
    assert isinstance(found, RustPreTokenizer | Sequence | Split)
    return found


def cutter(node: dict[str, Any]) -> Callable[[str], list[str]]:
    pre_tokenizer = rust(node)
    return lambda text: [text[begin:end] for _, (begin, end) in pre_tokenizer.pre_tokenize_str(text)]


def known(name: str) -> PreTokenizer:
    found = find_pre_tokenizer(name)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("qwen2", "It'S 2024²!\n\n  a", ["It", "'S", " ", "2", "0", "2", "4", "²", "!\n\n", " ", " a"]),
        ("qwen35", "q\u20dda 12", ["q\u20dda", " ", "1", "2"]),
        ("qwen2", "q\u20dda 12", ["q", "\u20dda", " ", "1", "2"]),
        ("dbrx", "in 20245 it's", ["in", " ", "202", "45", " it", "'s"]),
        ("tekken", "HelloWorld's 12/\n", ["Hello", "World", "'s", " ", "1", "2", "/\n"]),
        ("gpt-4o", "HelloWorld's 1234/\n", ["Hello", "World's", " ", "123", "4", "/\n"]),
        ("lfm2", "WE'LL 1234", ["WE", "'LL", " ", "123", "4"]),
        ("refact", "in 2024 it's", ["in", " ", "2", "0", "2", "4", " it", "'s"]),
        ("granite-docling", "in 2024 it's", ["in", " 2024", " it", "'s"]),
        ("deepseek-coder", "a 12\r\nb!?", ["a", " ", "1", "2", "\r", "\n", "b", "!?"]),
    ],
)
def test_text_is_split_as_the_name_says(name: str, text: str, expected: list[str]) -> None:
    assert cutter(known(name).as_json())(text) == expected


@pytest.mark.parametrize(
    ("name", "package"),
    [("llama-bpe", "llama3_2"), ("qwen2", "qwen3"), ("tekken", "mistral_nemo"), ("gpt-4o", "gpt4o")],
)
def test_text_is_split_as_the_published_tokenizer_does(name: str, package: str) -> None:
    published = published_files(package).tokenizer_json
    ours, theirs = cutter(known(name).as_json()), cutter(published["pre_tokenizer"])
    # To `(?i:'s)` a long s is an s; llama.cpp spells the two cases out, `'[sS]`, and so it stands here.
    texts = [text for text in hostile_texts(3000, seed=51) if "\u017f" not in text]
    assert [text for text in texts if ours(text) != theirs(text)] == []
    others = [cutter(PRE_TOKENIZERS[other].as_json()) for other in PRE_TOKENIZERS if other != name]
    # The negative control: the texts tell one way from another (dbrx is llama-bpe without whole words).
    differences = [sum(other(text) != theirs(text) for text in texts[:1000]) for other in others]
    assert sum(count > 20 for count in differences) >= len(others) - 1
    whole_words = published["model"].get("ignore_merges", False)
    assert known(name).whole_words == whole_words


def test_what_a_name_implies_besides() -> None:
    assert {name for name in PRE_TOKENIZERS if PRE_TOKENIZERS[name].whole_words} == {"llama-bpe", "tekken"}
    assert {name for name in PRE_TOKENIZERS if PRE_TOKENIZERS[name].begins_text} == {"llama-bpe", "tekken"}
    assert all(target in PRE_TOKENIZERS and name not in PRE_TOKENIZERS for name, target in SAME_AS.items())


def test_an_unknown_name_is_refused_by_name() -> None:
    metadata = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": ["a"], "tokenizer.ggml.merges": []}
    _, problems = build_tokenizer_json(metadata | {"tokenizer.ggml.pre": "kimi-k2"})
    assert len(problems) == 1
    assert problems[0].startswith("tokenizer.ggml.pre is 'kimi-k2', a way to split text that is not supported; wanted")
    assert build_tokenizer_json(metadata | {"tokenizer.ggml.pre": "qwen2"})[1] == []
