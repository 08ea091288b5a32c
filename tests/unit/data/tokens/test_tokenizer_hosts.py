"""The browser's tokenizer against Rust's: the same tokens on thousands of hostile strings."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import pytest
from tokenizers import Tokenizer

from lora_lab.data.tokens.tokenizer import load_tokenizer
from lora_lab.data.tokens.tokenizer_json import rewrite_for_javascript
from lora_lab.errors import ModelError
from lora_lab.model.files import TokenizerFiles
from tests.unit.data.helpers import (
    javascript_tokens,
    llama2_like_files,
    llama3_like_files,
    run_node_tokenizer,
    smollm2_files,
)
from tests.unit.data.hostile_text import hostile_texts

pytestmark = pytest.mark.unit


KINDS = pytest.mark.parametrize(
    ("make_files", "count"),
    [(smollm2_files, 6000), (llama3_like_files, 4000), (llama2_like_files, 4000)],
    ids=["smollm2", "llama3-like", "llama2-like"],
)


@KINDS
def test_same_tokens_in_both_hosts(make_files: Callable[[], TokenizerFiles], count: int) -> None:
    files = make_files()
    tokenizer = load_tokenizer(files)
    texts = hostile_texts(count, seed=20)
    assert len(set(texts)) > 0.8 * count
    javascript = javascript_tokens(files, texts)
    pairs = [(text, tokenizer.encode(text), theirs) for text, theirs in zip(texts, javascript, strict=True)]
    different = [(text, ours, theirs) for text, ours, theirs in pairs if ours != theirs]
    assert not different, f"{len(different)} of {count} differ, first: {different[:3]}"


@KINDS
def test_decoding_is_rusts(make_files: Callable[[], TokenizerFiles], count: int) -> None:
    """Decoding is the same Python in both hosts; here it is held against Rust's, on broken UTF-8 too."""
    files = make_files()
    tokenizer = load_tokenizer(files)
    rust = Tokenizer.from_str(json.dumps(files.tokenizer_json))
    id_lists = [tokenizer.encode(text) for text in hostile_texts(count, seed=22)]
    generator = random.Random(5)
    for _ in range(1000):
        id_lists.append([generator.randrange(tokenizer.vocab_size) for _ in range(generator.randint(1, 12))])
    for ids in id_lists:
        assert tokenizer.decode(ids) == rust.decode(ids, skip_special_tokens=False)
        assert tokenizer.decode(ids, skip_special_tokens=True) == rust.decode(ids, skip_special_tokens=True)


def test_without_the_rewriting_they_differ() -> None:
    """The negative control: the strings are hostile enough to find what the rewriting mends."""
    files = smollm2_files()
    tokenizer = load_tokenizer(files)
    texts = hostile_texts(4000, seed=20)
    javascript = run_node_tokenizer(files.tokenizer_json, texts)
    assert sum(tokenizer.encode(text) != theirs for text, theirs in zip(texts, javascript, strict=True)) > 100


def test_byte_level_decoding_gives_the_text_back() -> None:
    """… except for the bytes that SmolLM2's vocabulary lacks, and those are named."""
    tokenizer = load_tokenizer(smollm2_files())
    lossy = 0
    for text in hostile_texts(4000, seed=21):
        lost = tokenizer.lost_bytes(text)
        kept = bytes(byte for byte in text.encode() if byte not in lost)
        assert tokenizer.decode(tokenizer.encode(text)) == kept.decode("utf-8", "replace")
        lossy += bool(lost)
    assert 0 < lossy < 400
    assert tokenizer.lost_bytes("a\x1db\x04") == b"\x1d\x04"
    assert tokenizer.lost_bytes("tab\tand ☃") == b""


@pytest.mark.parametrize(
    "pre_tokenizer",
    [
        {"type": "Whitespace"},
        {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True},
        {"type": "Split", "pattern": {"String": " "}, "behavior": "Removed", "invert": False},
        {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": True},
        {"type": "Split", "pattern": {"String": ""}, "behavior": "Isolated", "invert": False},
        {"type": "Sequence", "pretokenizers": [{"type": "Punctuation", "behavior": "Isolated"}]},
    ],
)
def test_what_the_javascript_library_reads_differently_is_refused(pre_tokenizer: dict) -> None:
    with pytest.raises(ModelError, match="not supported"):
        rewrite_for_javascript({**smollm2_files().tokenizer_json, "pre_tokenizer": pre_tokenizer})


def test_the_rewriting_leaves_the_given_dictionary_alone() -> None:
    tokenizer_json = smollm2_files().tokenizer_json
    before = repr(tokenizer_json["pre_tokenizer"])
    rewrite_for_javascript(tokenizer_json)
    assert repr(tokenizer_json["pre_tokenizer"]) == before
