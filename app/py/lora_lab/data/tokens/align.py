"""Finding the assistant's words in a whole rendered text, for templates whose prefixes do not match.

Each answer is rendered once more with a mark at its beginning and one at its end, which no text for interchange holds.
A template may cut an answer's beginning away (old reasoning); then only the mark at the end is left, and what stands
before it is compared with the answer's end. The text without the marks must be the text that is trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lora_lab.data.tokens.template import ChatTemplate, TemplateError

# Two of Unicode's noncharacters (U+FDD0 … U+FDEF); conversations that hold one are not aligned.
_OPENING, _CLOSING = "\ufdee", "\ufdef"


def find_answers(
    messages: Sequence[Mapping[str, Any]], wanted: frozenset[int], text: str, template: ChatTemplate
) -> list[tuple[int, int, int]] | None:
    """Return (turn, start, end) of the `wanted` turns' words in the rendered `text`; None when one cannot be found."""
    if _OPENING in text or _CLOSING in text:
        return None
    found = []
    for turn in sorted(wanted):
        span = _find(messages, turn, text, template)
        if span is None:
            return None
        found.append((turn, *span))
    return found


def _find(
    messages: Sequence[Mapping[str, Any]], turn: int, text: str, template: ChatTemplate
) -> tuple[int, int] | None:
    content = messages[turn]["content"]
    words = content.strip()
    if not words:
        return None
    # White space outside the marks, so that a template's `trim` still finds it.
    before, behind = content[: content.index(words)], content[content.index(words) + len(words) :]
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
