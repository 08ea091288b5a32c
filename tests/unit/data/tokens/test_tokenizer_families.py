"""The published tokenizers of other families, and every step of theirs: the same tokens in both hosts, known places."""

from __future__ import annotations

import functools
import itertools
import json
import random
import unicodedata
from typing import Any

import pytest
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import normalizers, pre_tokenizers

from lora_lab.data.tokens.tokenizer import StreamDecoder, Tokenizer, load_tokenizer
from lora_lab.data.tokens.tokenizer_json import rewrite_for_javascript
from lora_lab.data.tokens.unicode_forms import nfc
from lora_lab.errors import ModelError
from lora_lab.model.files import TokenizerFiles
from tests.unit.data.helpers import (
    javascript_tokens,
    llama2_like_files,
    llama3_like_files,
    published_files,
    run_node_tokenizer,
)
from tests.unit.data.hostile_text import hostile_texts
from tests.unit.data.unigram_files import trained_files

pytestmark = pytest.mark.unit

# npm's name of each; llama2 is Mistral 7B's, gpt4o's way to split is Phi-4's, mistral_nemo is "tekken".
PUBLISHED = ["gemma3", "qwen3", "llama3_2", "llama2", "mistral_nemo", "gpt4o"]
MARKS = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) in ("Mn", "Mc")]


@functools.cache
def texts_for(name: str) -> tuple[str, ...]:
    """Hostile texts with the tokenizer's own special tokens in them, and long runs of combining marks."""
    generator = random.Random(61)
    added = [token["content"] for token in published_files(name).tokenizer_json["added_tokens"]][:200]
    texts = [
        text.replace("<|im_end|>", generator.choice(added)).replace("<|im_start|>", generator.choice(added))
        for text in hostile_texts(1300, seed=62)
    ]
    texts += ["a" + "".join(generator.choices(MARKS, k=generator.randint(2, 60))) for _ in range(150)]
    texts += [f"{generator.choice(added)}\u0338x\u0301{generator.choice(added)}" for _ in range(20)]
    return (*texts, "a\u2581b \u2581\u2581 c", "'\u017ft 'LL\u212a", "\u1e9b\u0323 \u00c5 \u212b \uac00\u11a8")


def assert_same_in_both_hosts(files: TokenizerFiles, texts: list[str]) -> None:
    tokenizer = load_tokenizer(files)
    javascript = javascript_tokens(files, texts)
    pairs = [(text, tokenizer.encode(text), theirs) for text, theirs in zip(texts, javascript, strict=True)]
    different = [pair for pair in pairs if pair[1] != pair[2]]
    assert not different, f"{len(different)} of {len(texts)} differ, first: {different[:2]}"


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_tokenizers_have_the_same_tokens_in_both_hosts(name: str) -> None:
    assert_same_in_both_hosts(published_files(name), list(texts_for(name)))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_tokenizers_decode_as_rust_does(name: str) -> None:
    tokenizer = load_tokenizer(published_files(name))
    rust = RustTokenizer.from_str(json.dumps(published_files(name).tokenizer_json))
    for text in texts_for(name):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == rust.decode(ids, skip_special_tokens=False)
        assert_streams(tokenizer, ids)


def test_without_pythons_part_the_hosts_differ() -> None:
    """The negative control: JavaScript's own NFC moves other marks than Rust's."""
    files, texts = published_files("qwen3"), list(texts_for("qwen3"))
    rewritten = rewrite_for_javascript(files.tokenizer_json) | {"normalizer": {"type": "NFC"}}
    tokenizer = load_tokenizer(files)
    assert sum(tokenizer.encode(a) != b for a, b in zip(texts, run_node_tokenizer(rewritten, texts), strict=True)) > 20


def test_composing_is_rusts_for_every_character() -> None:
    rust = normalizers.NFC()
    generator = random.Random(5)
    for code in range(0x110000):
        if not 0xD800 <= code < 0xE000:
            text = f"e\u0301{chr(code)}\u0316"
            assert nfc(text) == rust.normalize_str(text), hex(code)
    for _ in range(3000):
        text = "".join(generator.choices(MARKS, k=generator.randint(2, 40)))
        assert nfc(text) == rust.normalize_str(text)


# ---------------------------------------------------------------------------------------------------- single steps


def changed(files: TokenizerFiles, **changes: Any) -> TokenizerFiles:
    return TokenizerFiles({**files.tokenizer_json, **changes}, None, files.special_tokens)


def with_added(files: TokenizerFiles, **flags: bool) -> TokenizerFiles:
    """The same tokenizer, all of whose added tokens have these flags."""
    added = [{**token, **flags} for token in files.tokenizer_json["added_tokens"]]
    return changed(files, added_tokens=added)


def metaspace(scheme: str, split: bool = True) -> TokenizerFiles:
    step = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}
    decoder = {
        "type": "Sequence",
        "decoders": [{"type": "ByteFallback"}, {key: value for key, value in step.items() if key != "split"}],
    }
    return changed(llama2_like_files(), normalizer=None, pre_tokenizer=step, decoder=decoder)


def split(behavior: str, invert: bool = False, **pattern: str) -> TokenizerFiles:
    step = {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}
    return changed(llama2_like_files(), pre_tokenizer=step)


STEPS = {
    "metaspace always": lambda: metaspace("always"),
    "metaspace first": lambda: metaspace("first"),
    "metaspace never": lambda: metaspace("never"),
    "metaspace whole": lambda: metaspace("first", split=False),
    "gemma 3's split": lambda: split("MergedWithPrevious", String=" "),
    "merged with previous": lambda: split("MergedWithPrevious", String="▁"),
    "merged with next": lambda: split("MergedWithNext", String="▁"),
    "contiguous": lambda: split("Contiguous", Regex="[▁ae]"),
    "isolated": lambda: split("Isolated", String="▁"),
    "what matches is kept": lambda: split("Removed", True, Regex="▁?\\p{L}+"),
    "a dollar": lambda: changed(
        llama2_like_files(), normalizer={"type": "Replace", "pattern": {"String": " "}, "content": "$&$"}
    ),
    "composed": lambda: changed(llama3_like_files(), normalizer={"type": "NFC"}),
    "strips left": lambda: with_added(llama2_like_files(), lstrip=True),
    "strips right": lambda: with_added(llama2_like_files(), rstrip=True),
    "strips both": lambda: with_added(llama3_like_files(), lstrip=True, rstrip=True),
    "normalized": lambda: with_added(llama2_like_files(), normalized=True),
}
UNIGRAM = {
    "unigram": lambda: trained_files(True, None, pre_tokenizers.Metaspace()),
    "unigram, llama's steps": lambda: trained_files(
        True, normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    ),
}
STEP_TEXTS = [
    text.replace("<|im_end|>", "</s>").replace("<|im_start|>", " <s>\u0085") for text in hostile_texts(500, seed=63)
] + [
    "<s>",
    " <s> a",
    "a </s>\ufeff\u0085 b",
    "<s></s>  <s>",
    "a▁b",
    "▁a  ▁",
    "<|im_end|>  \n<|im_end|>x",
    "  ",
    "<s>\u0338",
]


@pytest.mark.parametrize("name", STEPS)
def test_each_step_is_the_same_in_both_hosts(name: str) -> None:
    # A known difference: tokenizer_json.py tells it.
    texts = [text for text in STEP_TEXTS if name != "normalized" or text != "</s></s>"]
    assert_same_in_both_hosts(STEPS[name](), texts)


@pytest.mark.parametrize("name", ["llama2", "mistral_nemo", "gemma3"])
def test_the_begin_of_text_is_the_same_in_both_hosts(name: str) -> None:
    files, texts = published_files(name), list(texts_for(name))[:50]
    tokenizer = load_tokenizer(files)
    ours = [tokenizer.encode(text, add_special_tokens=True) for text in texts]
    assert javascript_tokens(files, texts, add_special_tokens=True) == ours
    assert len({ids[0] for ids in ours}) == 1


def test_steps_that_javascript_reads_differently_are_refused() -> None:
    for normalizer in ({"type": "Lowercase"}, {"type": "Replace", "pattern": {"Regex": "a"}, "content": "b"}):
        with pytest.raises(ModelError, match="normalizer is not supported"):
            rewrite_for_javascript(changed(llama2_like_files(), normalizer=normalizer).tokenizer_json)
    with pytest.raises(ModelError, match="single word"):
        rewrite_for_javascript(with_added(llama2_like_files(), single_word=True).tokenizer_json)


# ---------------------------------------------------------------------------------------------------- places and bytes


def assert_streams(tokenizer: Tokenizer, ids: list[int]) -> None:
    decoder = StreamDecoder(tokenizer, skip_special_tokens=False)
    pieces = [decoder.push(token_id) for token_id in ids]
    assert "".join(pieces) + decoder.finish() == tokenizer.decode(ids)


PLACED = {
    **{name: functools.partial(published_files, name) for name in PUBLISHED},
    **{name: STEPS[name] for name in STEPS if name not in ("a dollar", "what matches is kept", "normalized")},
    **UNIGRAM,
}


@pytest.mark.parametrize("name", PLACED)
def test_tokens_end_where_rust_says(name: str) -> None:
    """Rust keeps track of each token's characters; of several tokens for one character only the last one ends there."""
    files = PLACED[name]()
    tokenizer, rust = load_tokenizer(files), RustTokenizer.from_str(json.dumps(files.tokenizer_json))
    texts = list(texts_for(name))[:700] if name in PUBLISHED else STEP_TEXTS
    told = 0
    for text in texts:
        encoding = rust.encode(text, add_special_tokens=False)
        ends = tokenizer.token_ends(text, encoding.ids)
        if ends is None:
            is_lossy = "▁" in text or tokenizer.lost_bytes(text)
            assert is_lossy or unicodedata.normalize("NFC", text) != text, ascii(text)
            continue
        told += 1
        places = ends.tolist()
        bytes_until = [0, *itertools.accumulate(len(char.encode()) for char in text)]
        assert places == sorted(places) and (not places or places[-1] == len(text.encode()))
        joined = b"".join(tokenizer.token_bytes(token_id) or b"" for token_id in encoding.ids)
        assert not text or joined
        for index, ((begin, end), (next_begin, next_end)) in enumerate(itertools.pairwise(encoding.offsets)):
            if next_end > end and next_begin >= end > begin:  # the last token of its last character
                assert places[index] == bytes_until[end], (ascii(text), index)
        assert_streams(tokenizer, encoding.ids)
    assert told > 0.6 * len(texts)


def test_bytes_of_tokens() -> None:
    tokenizer = load_tokenizer(llama2_like_files())

    def number(token: str) -> int:
        found = tokenizer.token_to_id(token)
        assert found is not None
        return found

    assert tokenizer.token_bytes(number("▁")) == b" "
    assert tokenizer.token_bytes(number("<0xE2>")) == b"\xe2"
    assert tokenizer.token_bytes(number("</s>")) == b"</s>"
    assert tokenizer.token_bytes(10**6) == b""
    ids = tokenizer.encode("a b\u0f04")
    ends = tokenizer.token_ends("a b\u0f04", ids)
    assert ends is not None and ends.tolist()[-4:] == [3, 4, 5, 6]
    decoder = StreamDecoder(tokenizer)
    assert [decoder.push(token_id) for token_id in ids][-3:] == ["", "", "\u0f04"]
    # The space in front is nobody's; behind an added token there is one again, and it has no place in the text.
    text = "<s>a</s>b"
    ids = tokenizer.encode(text)
    ends = tokenizer.token_ends(text, ids)
    assert ends is not None and ends[ids.index(1)] == 3 and ends[-1] == len(text)
    unknown = changed(llama2_like_files(), decoder={"type": "Replace", "pattern": {"String": "ab"}, "content": " "})
    assert load_tokenizer(unknown).token_bytes(5) is None
