"""The tokenizer's own promises: special tokens, half characters, token ends, and text out of a stream."""

from __future__ import annotations

import random

import numpy as np
import pytest

from lora_lab.data.tokens.token_table import TokenTable
from lora_lab.data.tokens.tokenizer import StreamDecoder, Tokenizer, load_tokenizer
from lora_lab.errors import ModelError
from lora_lab.model.files import TokenizerFiles
from tests.unit.data.helpers import llama2_like_files, llama3_like_files, nfc_files, smollm2_files
from tests.unit.data.hostile_text import hostile_texts

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(smollm2_files())


def test_special_tokens_in_the_text_are_recognised(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("<|im_start|>user\nHi<|im_end|>")
    assert [ids[0], ids[-1]] == [1, 2]
    assert {1, 2} <= tokenizer.special_ids
    assert tokenizer.decode(ids) == "<|im_start|>user\nHi<|im_end|>"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "user\nHi"
    assert tokenizer.encode("<|im_start") != [1]  # the negative control


def test_names_and_numbers(tokenizer: Tokenizer) -> None:
    assert tokenizer.vocab_size == 49152
    assert tokenizer.token_to_id("<|im_end|>") == 2 == tokenizer.end_of_text_id
    assert tokenizer.id_to_token(2) == "<|im_end|>"
    assert tokenizer.token_to_id("no such token") is None
    assert tokenizer.id_to_token(49152) is None
    assert tokenizer.id_to_token(-1) is None
    assert tokenizer.decode([]) == ""


def test_each_digit_is_a_token_of_its_own(tokenizer: Tokenizer) -> None:
    assert [tokenizer.id_to_token(i) for i in tokenizer.encode("in 1987²")] == ["in", "Ġ", "1", "9", "8", "7", "Â²"]


def test_half_characters_become_replacement_characters(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("a\ud800b") == tokenizer.encode("a\ufffdb")
    # Two halves that belong together (as JavaScript's strings may come) are one character.
    assert tokenizer.encode("\ud83d\ude00") == tokenizer.encode("😀")


@pytest.mark.parametrize("make_files", [smollm2_files, llama3_like_files])
def test_token_ends_are_the_lengths_of_the_decoded_prefixes(make_files) -> None:
    tokenizer = load_tokenizer(make_files())
    checked = 0
    for text in hostile_texts(1500, seed=23):
        ids = tokenizer.encode(text)
        ends = tokenizer.token_ends(text, ids)
        if tokenizer.lost_bytes(text):
            assert ends is None
            continue
        assert ends is not None
        data = text.encode()
        assert ends.tolist() == np.cumsum([len(tokenizer.token_bytes(i) or b"") for i in ids]).tolist()
        for count in {1, len(ids) // 2, len(ids)} - {0}:
            if ids:
                assert tokenizer.decode(ids[:count]) == data[: ends[count - 1]].decode("utf-8", "replace")
        checked += 1
    assert checked > 1000


def test_token_ends_are_none_where_they_cannot_be_told(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("Hello there")
    assert tokenizer.token_ends("Hello there", ids) is not None
    assert tokenizer.token_ends("Hello there!", ids) is None  # other text than the tokens'
    spaced = load_tokenizer(llama2_like_files())
    assert spaced.token_ends("a\u2581b", spaced.encode("a\u2581b")) is None  # its spelling of a space, in the text
    assert spaced.token_ends("a b", spaced.encode("a b", add_special_tokens=True)) is None
    composed = load_tokenizer(nfc_files())
    assert composed.token_ends("e\u0301", composed.encode("e\u0301")) is None
    assert composed.token_ends("\u00e9", composed.encode("\u00e9")) is not None


@pytest.mark.parametrize("make_files", [smollm2_files, llama3_like_files, llama2_like_files])
@pytest.mark.parametrize("skip", [False, True])
def test_the_streamed_pieces_joined_are_the_decoded_text(make_files, skip: bool) -> None:
    tokenizer = load_tokenizer(make_files())
    generator = random.Random(9)
    lists = [tokenizer.encode(text) for text in hostile_texts(800, seed=24)]
    # The window of a tokenizer that is not byte-level cuts runs of broken bytes; byte-level ones never do.
    broken = 0 if make_files is llama2_like_files else 200
    lists += [[generator.randrange(tokenizer.vocab_size) for _ in range(20)] for _ in range(broken)]
    for ids in lists:
        decoder = StreamDecoder(tokenizer, skip_special_tokens=skip)
        pieces = [decoder.push(i) for i in ids]
        whole = "".join(pieces) + decoder.finish()
        assert whole == tokenizer.decode(ids, skip_special_tokens=skip)


def test_no_piece_holds_half_a_character(tokenizer: Tokenizer) -> None:
    text = "👩‍👩‍👧‍👦 日本語 e\u0301 हिन्दी 🏳️‍🌈"
    ids = tokenizer.encode(text)
    assert any("\ufffd" in tokenizer.decode([i]) for i in ids)  # tokens do cut characters here
    decoder = StreamDecoder(tokenizer)
    pieces = [decoder.push(i) for i in ids]
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)
    assert "" in pieces


def test_an_unfinished_character_comes_out_at_the_end(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("ok 👩")[:-1]
    decoder = StreamDecoder(tokenizer)
    assert "".join(decoder.push(i) for i in ids) == "ok "
    assert decoder.finish() == "\ufffd"
    assert decoder.finish() == ""


class _CountingTokenizer:
    """Counts how many tokens are decoded in all, to see that a stream does not decode its past again and again."""

    def __init__(self, inner: Tokenizer) -> None:
        self._inner = inner
        self.special_ids = inner.special_ids
        self.decoded_tokens = 0

    def token_bytes(self, token_id: int) -> bytes | None:
        return self._inner.token_bytes(token_id)

    def decode(self, ids, skip_special_tokens: bool = False) -> str:
        self.decoded_tokens += len(ids)
        return self._inner.decode(ids, skip_special_tokens)


@pytest.mark.parametrize("make_files", [smollm2_files, llama2_like_files])
def test_a_long_stream_costs_the_same_for_every_token(make_files) -> None:
    counting = _CountingTokenizer(load_tokenizer(make_files()))
    decoder = StreamDecoder(counting)  # type: ignore[arg-type]
    ids = counting._inner.encode("It was a dark and stormy night, and the rain fell. " * 100)
    assert len(ids) > 1000
    for token_id in ids:
        decoder.push(token_id)
    assert counting.decoded_tokens < 5 * len(ids)


def test_a_tokenizer_of_another_kind_is_refused() -> None:
    for model in ({"type": "WordPiece", "vocab": {"a": 0}}, {"type": "BPE", "vocab": {}}, {}):
        with pytest.raises(ModelError, match="only BPE"):
            TokenTable({"model": model})
    broken = {**smollm2_files().tokenizer_json, "pre_tokenizer": {"type": "NoSuchKind"}}
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        load_tokenizer(TokenizerFiles(broken, None, {}))
    with pytest.raises(ModelError, match="decoder"):
        TokenTable({**smollm2_files().tokenizer_json, "decoder": {"type": "CTC"}})
