"""Finding the assistant's words in a whole rendered text, for templates whose prefixes do not match.

Each answer is rendered once more with a mark at its beginning and one at its end, which no text for interchange holds.
A template may cut an answer's beginning away (old reasoning); then only the mark at the end is left, and what stands
before it is compared with the answer's end. The text without the marks must be the text that is trained on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lora_lab.data.tokens.template import ChatTemplate, TemplateError

# Two of Unicode's noncharacters (U+FDD0 … U+FDEF); conversations that hold one are not aligned.
_OPENING, _CLOSING = "\ufdee", "\ufdef"
_MARK = re.compile(f"([{_OPENING}{_CLOSING}])")
# Messages that are rendered for one row: with a rendering for each answer their number is the square of a row's length.
MOST_RENDERED = 200_000


def find_answers(
    messages: Sequence[Mapping[str, Any]], wanted: frozenset[int], text: str, template: ChatTemplate
) -> list[tuple[int, int, int]] | None:
    """Return (turn, start, end) of the `wanted` turns' words in the rendered `text`; None when one cannot be found."""
    together = find_together(messages, wanted, text, template)
    if together is not None:
        return [(turn, *together[turn]) for turn in sorted(wanted)]
    if _OPENING in text or _CLOSING in text or len(wanted) * len(messages) > MOST_RENDERED:
        return None
    found = []
    for turn in sorted(wanted):
        span = _find(messages, turn, text, template)
        if span is None:
            return None
        found.append((turn, *span))
    return found


def find_together(
    messages: Sequence[Mapping[str, Any]], wanted: Iterable[int], text: str, template: ChatTemplate
) -> dict[int, tuple[int, int]] | None:
    """Return (start, end) of each wanted turn's words in the rendered `text`, by one more rendering.

    None where the template changes the words of one of them, or what it writes depends on them.
    """
    if _OPENING in text or _CLOSING in text:
        return None
    marked, turns = [dict(message) for message in messages], sorted(wanted)
    for turn in turns:
        parts = _parts(messages[turn]["content"])
        if parts is None:
            return None
        before, words, behind = parts
        marked[turn]["content"] = f"{before}{_OPENING}{words}{_CLOSING}{behind}"
    try:
        rendered = template.render(marked)
    except TemplateError:
        return None
    pieces = _MARK.split(rendered)  # text, mark, text, mark, …
    if "".join(pieces[::2]) != text or pieces[1::2] != [_OPENING, _CLOSING] * len(turns):
        return None
    found, place = {}, 0
    for index, turn in enumerate(turns):
        start = place + len(pieces[4 * index])
        place = start + len(pieces[4 * index + 2])
        if pieces[4 * index + 2] != messages[turn]["content"].strip():
            return None
        found[turn] = (start, place)
    return found


def _parts(content: str) -> tuple[str, str, str] | None:
    """Return the white space before the words, the words, and what is behind; None where there are no words."""
    words = content.strip()
    if not words:
        return None
    start = content.index(words)
    return content[:start], words, content[start + len(words) :]


def _find(
    messages: Sequence[Mapping[str, Any]], turn: int, text: str, template: ChatTemplate
) -> tuple[int, int] | None:
    parts = _parts(messages[turn]["content"])
    if parts is None:
        return None
    # White space outside the marks, so that a template's `trim` still finds it.
    before, words, behind = parts
    marked = [dict(message) for message in messages]
    marked[turn]["content"] = f"{before}{_OPENING}{words}{_CLOSING}{behind}"
    try:
        rendered = template.render(marked)
    except TemplateError:
        return None
    if rendered.count(_CLOSING) != 1 or rendered.count(_OPENING) > 1:
        return None
    if rendered.replace(_OPENING, "").replace(_CLOSING, "") != text:
        return None
    start, end = rendered.find(_OPENING), rendered.find(_CLOSING)
    if start >= 0:
        return (start, end - 1) if rendered[start + 1 : end] == words else None
    length = 0
    while length < min(end, len(words)) and rendered[end - length - 1] == words[-length - 1]:
        length += 1
    # Blank characters at the found beginning may be the template's as well as the answer's.
    shared = rendered[end - length : end]
    length -= len(shared) - len(shared.lstrip())
    return (end - length, end) if length else None
