"""A marker in text that comes in pieces: found wherever it is cut, and nothing of it is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_lab.generate.text_stop import TextStop

pytestmark = pytest.mark.unit


def passed(marker: str, pieces: list[str]) -> tuple[str, bool]:
    stop = TextStop(marker)
    text = "".join(stop.push(piece) for piece in pieces)
    return text + stop.finish(), stop.found


def test_pieces_that_may_be_the_marker_wait_for_what_follows() -> None:
    stop = TextStop("<|im_end|>")
    assert [stop.push(piece) for piece in ("Yes", ".<", "|im", "port|", "<|im", "_end", "|>\n<")] == [
        "Yes", ".", "", "<|import|", "", "", "",
    ]  # fmt: skip
    assert stop.found and stop.finish() == "" and stop.push("more") == ""


@pytest.mark.parametrize("marker", ["<|im_end|>", "aab", "aa", "###"])
@given(data=st.data())
def test_what_is_shown_is_the_text_before_the_marker_however_it_is_cut(marker: str, data: st.DataObject) -> None:
    pieces = data.draw(st.lists(st.text(alphabet=[*set(marker), "x"], max_size=5), max_size=12))
    if data.draw(st.booleans()):
        pieces.insert(data.draw(st.integers(0, len(pieces))), marker)
    whole = "".join(pieces)
    before, found, _ = whole.partition(marker)
    assert passed(marker, pieces) == (before, bool(found))


def test_without_a_marker_everything_passes_at_once() -> None:
    stop = TextStop("")
    assert stop.push("a <|im_end|>") == "a <|im_end|>" and not stop.found and stop.finish() == ""
