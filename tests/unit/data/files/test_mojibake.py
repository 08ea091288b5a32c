"""UTF-8 that was read as Latin-1: undone exactly in every script, and never seen where a text is right."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_lab.data.files.mojibake import may_be_damaged, undo, undo_value
from tests.unit.data.corpus.cases import RIGHT, garbled

pytestmark = pytest.mark.unit


def letters(*ranges: tuple[int, int]) -> st.SearchStrategy[str]:
    """Letters of the ranges of code points."""
    each = [st.characters(min_codepoint=first, max_codepoint=last, categories=("L",)) for first, last in ranges]
    return st.one_of(*each)


ASCII = (0x61, 0x7A)
ALPHABETS = {
    "French, German, Spanish": letters(ASCII, (0xDF, 0xFF)),
    "Polish, Czech, Turkish": letters(ASCII, (0x100, 0x17F)),
    "Vietnamese": letters(ASCII, (0x1EA0, 0x1EF9)),
    "Greek": letters((0x391, 0x3C9)),
    "Cyrillic": letters((0x410, 0x44F)),
    "Hebrew": letters((0x5D0, 0x5EA)),
    "Arabic": letters((0x621, 0x64A)),
    "Devanagari": letters((0x905, 0x939)),
    "Thai": letters((0xE01, 0xE2E)),
    "Hangul": letters((0xAC00, 0xD7A3)),
    "kana": letters((0x3041, 0x3096), (0x30A1, 0x30FA)),
    "Han": letters((0x4E00, 0x9FA5)),
}
CASES = st.sampled_from([str.lower, str.upper, str.capitalize])
# What stands between words and behind them, in one language or another.
BETWEEN = st.sampled_from(
    [" ", ", ", ". ", "\n", "\xa0: ", "\xa0! ", "\xa0» ", " «\xa0", "” ", "’", "’s ", " “", "… ", "…", "–", " — ", "® ",
     "™ ", "² ", "³ ", "° ", "· ", " £5 ", " €", "€ ", " ½ ", " 2×½ ", "† ", "-", "/", " §2 ", "\xad", "‘"]
)  # fmt: skip


@st.composite
def texts(draw: st.DrawFn, least: int = 1) -> str:
    """Words of one script, in small letters, capitals or both, with the signs of typography between them."""
    alphabet = draw(st.sampled_from(sorted(ALPHABETS)).map(ALPHABETS.__getitem__))
    # Â and Ã are words of no language: alone before a sign they are the damage itself (`Â®`, the test below).
    word = st.text(alphabet, min_size=1, max_size=9).filter(lambda word: word.upper() not in ("Â", "Ã"))
    words = draw(st.lists(word, min_size=least, max_size=12))
    return "".join(draw(CASES)(word) + draw(BETWEEN) for word in words)


@settings(max_examples=1500, deadline=None)
@given(texts())
def test_a_right_text_is_never_touched(text: str) -> None:
    assert undo(text) is None


@pytest.mark.parametrize("sign", "®²³°§¼")
def test_a_sign_behind_the_letter_that_no_word_is_comes_out_alone(sign: str) -> None:
    assert undo(f"Acme\xa0{sign} 7".encode().decode("latin-1")) == f"Acme\xa0{sign} 7"
    assert undo(f"Â{sign} 7") == f"{sign} 7"
    # The control: behind a letter it may end a word in capitals.
    assert (undo(f"PÂ{sign} 7") is None) == (sign not in "¼")


@settings(max_examples=600, deadline=None)
@given(texts(least=4))
def test_a_damaged_text_becomes_exactly_what_it_was_or_stays(text: str) -> None:
    for damaged in (text.encode().decode("latin-1"), garbled(text)):
        assert undo(damaged) in (text, None)


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(sorted(ALPHABETS)).flatmap(lambda name: st.lists(
    st.text(ALPHABETS[name], min_size=3, max_size=9), min_size=6, max_size=12)))  # fmt: skip
def test_damage_in_plain_words_is_found_in_every_script(words: list[str]) -> None:
    text = " ".join(words)
    if len({char for char in text if not char.isascii()}) < 4:
        return
    for damaged in (text.encode().decode("latin-1"), garbled(text)):
        assert may_be_damaged(damaged)
        assert undo(damaged) == text


@pytest.mark.parametrize("text", RIGHT)
def test_right_texts_that_could_be_taken_for_damaged_ones(text: str) -> None:
    assert undo(text) is None
    # The control: they pass for UTF-8 that was read wrongly, all but those whose signs stand alone.
    raw = b"".join(char.encode("cp1252") for char in text)
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        assert text.startswith(("„", "«"))


@pytest.mark.parametrize("text", ["Près", "à côté", "n° 5", "it’s", "“so”", "Größe", "łódź", "tiếng", "да", "🙂", "€"])
def test_short_texts(text: str) -> None:
    assert undo(garbled(text)) == text
    assert undo(text.encode().decode("latin-1")) == text
    assert undo(garbled(text) + " é") is None  # half of it is right: then none is changed


def test_every_text_of_a_row_is_looked_at() -> None:
    turns = [garbled("Où ?"), garbled("Près du quai"), "Là."]
    mended, change = undo_value({"messages": [{"content": turn} for turn in turns], "n": 1})
    assert mended == {"messages": [{"content": turn} for turn in ("Où ?", "Près du quai", "Là.")], "n": 1}
    assert change == (garbled("Où ?"), "Où ?")
    assert undo_value(mended) == (mended, None)
    # The control: by itself the first of them may be right, a note's number behind a word.
    assert undo(garbled("Où ?")) is None
    assert undo_value({"prompt": garbled("Où ?"), "completion": "Là."})[1] is None


def test_what_would_become_white_space_alone_stays() -> None:
    """Else mending would empty a turn, and its row would be refused."""
    assert undo("Â\xa0") is None and undo("Â\xa0Â\xa0") is None
    assert undo("cafÃ©Â\xa0") == "café\xa0", "the control"
