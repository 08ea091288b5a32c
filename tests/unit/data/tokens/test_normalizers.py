"""Normalizers in Python against Rust's, character by character, and charsmaps, whole and damaged."""

from __future__ import annotations

import base64
import random
import unicodedata

import pytest
from tokenizers import normalizers

from lora_lab.data.tokens.precompiled import Precompiled, read_charsmap
from lora_lab.data.tokens.tokenizer import load_tokenizer
from lora_lab.data.tokens.unicode_forms import nfkc
from lora_lab.errors import ModelError
from lora_lab.model.files import TokenizerFiles
from tests.unit.data.hostile_text import hostile_texts
from tests.unit.data.unigram_files import build_charsmap, charsmap, trained_files

pytestmark = pytest.mark.unit

# Those that anything may be known of, in this Unicode and later ones.
CHARS = [
    chr(code)
    for code in (*range(1, 0xD800), *range(0xE000, 0x20000), *range(0x2F800, 0x2FA20), *range(0xE0000, 0xE0200))
]


def in_lines(pattern: str, chars: list[str]) -> list[str]:
    """Return texts with the pattern in every line, for one character after the other; a line feed joins nothing."""
    return ["\n".join(pattern.format(char) for char in chars[start : start + 64]) for start in range(0, len(chars), 64)]


def both(charsmap: str) -> tuple[Precompiled, normalizers.Precompiled]:
    return Precompiled({"precompiled_charsmap": charsmap}), normalizers.Precompiled(base64.b64decode(charsmap))


def test_nfkc_is_rusts_for_every_character() -> None:
    rust = normalizers.NFKC()
    for text in in_lines("e\u0301{}\u0316", CHARS):
        assert nfkc(text) == rust.normalize_str(text), ascii(text)


def test_sentencepieces_table_is_read_as_rust_reads_it() -> None:
    ours, rust = both(charsmap())
    for text in hostile_texts(4000, seed=92):
        assert ours(text) == rust.normalize_str(text), ascii(text)
    for pattern in ("a{}", "{}a", "{}\u0301", "e{}\u0301", "\u1100{}", "\r{}"):
        for text in in_lines(pattern, CHARS):
            assert ours(text) == rust.normalize_str(text), ascii(text)


def test_which_characters_belong_together_is_rusts() -> None:
    """A key takes the place of all that stands with it: so every mark, every prepended and every control shows."""
    ours, rust = both(build_charsmap({"a": "b"}))
    for text in in_lines("a{}", CHARS):
        assert ours(text) == rust.normalize_str(text), ascii(text)
    assert sum(ours(f"a{char}") == "b" for char in CHARS) > 2000
    joined = 0
    for block in range(0, 0x12000, 0x1000):
        chars = [char for char in CHARS if block <= ord(char) < block + 0x1000]
        ours, rust = both(build_charsmap(dict.fromkeys([*chars, "a"], "b")))
        for pattern in ("{}a", "{}\u0301", "\v{}\u0301"):
            for text in in_lines(pattern, chars):
                assert ours(text) == rust.normalize_str(text), ascii(text)
        joined += sum(ours(f"{char}a") == "b" for char in chars)
    assert joined > 20


def test_without_the_tables_the_texts_differ() -> None:
    """The negative controls: newer Unicode's NFKC, a look-up by single characters, and a table with one key less."""
    rust = normalizers.NFKC()
    assert sum(unicodedata.normalize("NFKC", char) != rust.normalize_str(char) for char in CHARS) > 50
    ours, theirs = both(charsmap())
    texts = hostile_texts(2000, seed=92)
    single = {ord(key): text for key, text in read_charsmap(charsmap()).items() if len(key) == 1}
    assert sum(text.translate(single) != theirs.normalize_str(text) for text in texts) > 100
    less, _ = both(build_charsmap({key: text for key, text in read_charsmap(charsmap()).items() if key != "\t"}))
    assert sum(less(text) != theirs.normalize_str(text) for text in texts) > 50
    assert all(ours(text) == theirs.normalize_str(text) for text in texts)


def test_a_table_of_another_language() -> None:
    ours, rust = both(
        build_charsmap({"ß": "ss", "ä": "ae", "a\u0308": "ae", "x": "", "\r\n": "\n", "日": "sun", "👍": "+"})
    )
    for text in [
        "Straße",
        "ä a\u0308 a\u0308\u0301",
        "xx",
        "xa\u0308",
        "a\r\nb",
        "日本",
        "👍👍🏽",
        *hostile_texts(1500, seed=93),
    ]:
        assert ours(text) == rust.normalize_str(text), ascii(text)
    assert ours("Straße xä") == "Strasse ae"
    assert read_charsmap(build_charsmap({"ab": "c"})) == {"ab": "c"}


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        (None, "precompiled_charsmap.* is None"),
        ("€", "is not in base64"),
        ("AAA", "is not in base64"),
        ("", "holds 0 bytes"),
        (base64.b64encode(b"\x04\0\0\0").decode(), "holds 4 bytes, of which the trie shall be 4"),
        (base64.b64encode(b"\x06\0\0\0" + bytes(8)).decode(), "the trie shall be 6"),
        (base64.b64encode(b"\x04\0\0\0" + bytes(4)).decode(), "points beyond its trie's end"),
    ],
)
def test_damaged_tables_are_refused_in_both_hosts(damaged: str | None, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        read_charsmap(damaged)
    files = trained_files(True)
    node = {"type": "Sequence", "normalizers": [{"type": "Precompiled", "precompiled_charsmap": damaged}]}
    with pytest.raises(ModelError, match=said):
        load_tokenizer(TokenizerFiles(files.tokenizer_json | {"normalizer": node}, None, {}))


def test_spoiled_bytes_are_refused_or_read_as_rust_reads_them() -> None:
    """Rust's library ends in a panic where a table points beyond its end: none that is accepted may do so."""
    generator = random.Random(8)
    whole = base64.b64decode(build_charsmap({"ß": "ss", "a\u0308": "ae", "x": "", "日": "sun", "é": "e"}))
    texts = ["Straße", "a\u0308 xé日", *hostile_texts(60, seed=94)]
    refused = 0
    for _ in range(600):
        spoiled = bytearray(whole)
        for _ in range(generator.randint(1, 4)):
            # Few of its bytes are in use: those are the ones to spoil.
            used = (
                [place for place, byte in enumerate(spoiled) if byte]
                if generator.random() < 0.9
                else range(len(spoiled))
            )
            spoiled[generator.choice(used)] = generator.randrange(256)
        encoded = base64.b64encode(
            spoiled[: generator.choice([len(spoiled), len(spoiled), generator.randrange(len(spoiled))])]
        )
        try:
            ours = Precompiled({"precompiled_charsmap": encoded.decode()})
        except ModelError:
            refused += 1
            continue
        rust = normalizers.Precompiled(base64.b64decode(encoded))
        for text in texts:
            assert ours(text) == rust.normalize_str(text)
    assert 50 < refused < 550
