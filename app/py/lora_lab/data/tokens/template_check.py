"""What a chat template does to a conversation's words: whether it keeps them all, and whether chat begins where
training did.

Words are looked for with marks, which no text for interchange holds, in a second rendering:

- the outline: the same roles, a mark in place of each text. Where the rendered row is the outline with the texts in
  the marks' places, all of it is there. One outline serves all rows of the same roles;
- else the template looks at what is said (it cuts reasoning away, say): a mark behind each word of each text. A word
  is kept where it still stands before its mark; a tag, which templates write anew, where it stands between the words
  beside it. The marks must change nothing but white space;
- where they do, each text is looked for between the outline's stretches, and where those are not there, words are
  counted: one that stands in the texts more often than in the rendered row is missed.
"""

from __future__ import annotations

import re
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lora_lab.data.rows.names import REASONING
from lora_lab.data.tokens.template import ChatTemplate, TemplateError

# Noncharacters: a mark is a number between the first two, its digits in hexadecimal from _ZERO on.
_OPEN, _CLOSE, _ZERO = "\ufdd0", "\ufdd1", 0xFDE0
_MARK = re.compile(f"{_OPEN}([{chr(_ZERO)}-{chr(_ZERO + 15)}]+){_CLOSE}")
_NONCHARACTER = re.compile("[\ufdd0-\ufdef]")
# A tag and a switch (/no_think) are one piece each: templates look for them as a whole.
_PIECE = re.compile(r"</?[^<>\s]{1,64}>|\[/?[^\[\]\s]{1,64}\]|/\w+|\w+|[^\w\s<\[/]+|[<\[/]")
_SPACE = re.compile(r"\s+")
_KEPT_OUTLINES = 256


@dataclass(frozen=True)
class Lost:
    """Words of one turn that the rendered row does not have, their first stretch. `whole`: none of it is there."""

    turn: int
    key: str  # "content", or the name of its reasoning
    words: str
    whole: bool


@dataclass(frozen=True)
class _Part:
    """One text of a conversation."""

    turn: int
    key: str
    text: str


_outlines: weakref.WeakKeyDictionary[ChatTemplate, dict[Any, str]] = weakref.WeakKeyDictionary()


def lost_words(
    messages: Sequence[Mapping[str, Any]], text: str, template: ChatTemplate
) -> tuple[list[Lost], tuple[int, ...]]:
    """Return what of the messages is not in `text`, which is their rendering, and the turns that only lost white space.

    White space at the ends of a turn is no word: many templates trim it.
    """
    parts = _parts(messages)
    if not _NONCHARACTER.search(text):
        trimmed = _follows_outline(messages, parts, text, template)
        if trimmed is not None:
            return [], trimmed
        kept = _kept_pieces(messages, parts, text, template) or _kept_in_places(messages, parts, text, template)
        if kept is not None:
            return _lost_of(parts, kept), ()
    return _lost_by_count(parts, text), ()


def unseen_start(
    messages: Sequence[Mapping[str, Any]], starts: Mapping[int, int | None], text: str, template: ChatTemplate
) -> tuple[int, str, str] | None:
    """Return the first turn that chat would begin in another state than it is trained in, and both texts before it.

    `starts` are the trained turns with the characters of `text` at which they begin (None: everything is trained).
    What stands in `text` up to there must be what a generation prompt ends the conversation before with.
    """
    for turn, start in sorted(starts.items()):
        if turn == 0:
            continue  # nothing stands before it, and chat never begins so
        try:
            prompt = template.render(messages[:turn], add_generation_prompt=True)
        except TemplateError:
            continue  # chat gets no reply there at all
        # A span that begins earlier has the header in it, which is trained then.
        if text.startswith(prompt) and (start is None or start <= len(prompt)):
            continue
        found = text[: len(prompt)] if start is None else text[:start]
        return turn, found, prompt
    return None


def _parts(messages: Sequence[Mapping[str, Any]]) -> list[_Part]:
    parts = []
    for turn, message in enumerate(messages):
        reasoning = next((key for key in REASONING if isinstance(message.get(key), str)), None)
        for key in ("content", *((reasoning,) if reasoning and message["role"] == "assistant" else ())):
            if message[key].strip():
                parts.append(_Part(turn, key, message[key]))
    return parts


def _mark(number: int) -> str:
    return _OPEN + "".join(chr(_ZERO + int(digit, 16)) for digit in f"{number:x}") + _CLOSE


def _number(match: re.Match[str]) -> int:
    return int("".join(f"{ord(digit) - _ZERO:x}" for digit in match[1]), 16)


def _replaced(
    messages: Sequence[Mapping[str, Any]], parts: Sequence[_Part], texts: Sequence[str]
) -> list[dict[str, Any]]:
    changed = [dict(message) for message in messages]
    for part, text in zip(parts, texts, strict=True):
        changed[part.turn][part.key] = text
        if part.key != "content":  # a reasoning may stand under several names
            changed[part.turn].update({key: text for key in REASONING if key in changed[part.turn]})
    return changed


# ---------------------------------------------------------------------------------------------------- the outline


def _follows_outline(
    messages: Sequence[Mapping[str, Any]], parts: Sequence[_Part], text: str, template: ChatTemplate
) -> tuple[int, ...] | None:
    """Return the turns that are trimmed where `text` is the outline with every part in its place, else None."""
    known = _outlines.setdefault(template, {})
    plain = all(message.keys() <= {"role", "content"} for message in messages)
    marked = {part.turn for part in parts}
    shape = tuple((m["role"], "" if turn in marked else m["content"]) for turn, m in enumerate(messages))
    outline = known.get(shape) if plain else None
    if outline is not None and (found := _walk(outline, parts, text)) is not None:
        return found
    try:
        fresh = template.render(_replaced(messages, parts, [_mark(number) for number in range(len(parts))]))
    except TemplateError:
        return None
    if fresh == outline:  # else the template writes the time of day, say
        return None
    if plain:
        if len(known) >= _KEPT_OUTLINES:
            known.clear()
        known[shape] = fresh
    return _walk(fresh, parts, text)


def _walk(outline: str, parts: Sequence[_Part], text: str) -> tuple[int, ...] | None:
    marks = list(_MARK.finditer(outline))
    if {_number(mark) for mark in marks} != set(range(len(parts))):
        return None
    ends = [mark.start() for mark in marks[1:]] + [len(outline)]
    place = marks[0].start() if marks else len(outline)
    if not text.startswith(outline[:place]):
        return None
    trimmed = set()
    for mark, end in zip(marks, ends, strict=True):
        part, behind = parts[_number(mark)], outline[mark.end() : end]
        words = part.text
        for candidate in (words, words.strip(), words.rstrip(), words.lstrip()):
            if text.startswith(candidate, place) and text.startswith(behind, place + len(candidate)):
                break
        else:
            return None
        if candidate != words:
            trimmed.add(part.turn)
        place += len(candidate) + len(behind)
    return tuple(sorted(trimmed)) if place == len(text) else None


# ---------------------------------------------------------------------------------------------------- marked words


def _kept_pieces(
    messages: Sequence[Mapping[str, Any]], parts: Sequence[_Part], text: str, template: ChatTemplate
) -> list[list[bool]] | None:
    """Return for each part which of its pieces are in the row; None where the marks change what is rendered."""
    pieces = [part_pieces for part in parts for part_pieces in _PIECE.findall(part.text)]
    numbers = iter(range(len(pieces)))
    marked = [_PIECE.sub(lambda match: match[0] + _mark(next(numbers)), part.text) for part in parts]
    try:
        probe = template.render(_replaced(messages, parts, marked))
    except TemplateError:
        return None
    if _SPACE.sub("", _MARK.sub("", probe)) != _SPACE.sub("", text):
        return None
    kept, stretches, before, behind_kept = [False] * len(pieces), {}, 0, 0
    for mark in _MARK.finditer(probe):
        number = _number(mark)
        if number < len(pieces) and probe[before : mark.start()].endswith(pieces[number]):
            kept[number] = True
            stretches[number] = probe[behind_kept : mark.start() - len(pieces[number])]
            behind_kept = mark.end()
        before = mark.end()
    stretches[len(pieces)] = probe[behind_kept:]
    _keep_tags(pieces, kept, stretches)
    answer, place = [], 0
    for part in parts:
        count = len(_PIECE.findall(part.text))
        answer.append(kept[place : place + count])
        place += count
    return answer


def _keep_tags(pieces: Sequence[str], kept: list[bool], stretches: Mapping[int, str]) -> None:
    """Mark tags as kept that stand, in order, in the stretch before the next kept piece, with no word lost there."""
    first = 0
    for number in range(len(pieces) + 1):
        if number < len(pieces) and not kept[number]:
            continue
        run = pieces[first:number]
        stretch = stretches.get(number, "")
        if run and all(piece[-1] in ">]" and len(piece) > 1 for piece in run) and _in_order(run, stretch):
            kept[first:number] = [True] * len(run)
        first = number + 1


def _in_order(pieces: Sequence[str], text: str) -> bool:
    place = 0
    for piece in pieces:
        place = text.find(piece, place) + len(piece)
        if place < len(piece):
            return False
    return True


def _kept_in_places(
    messages: Sequence[Mapping[str, Any]], parts: Sequence[_Part], text: str, template: ChatTemplate
) -> list[list[bool]] | None:
    """Return the same by looking for each part's pieces where the outline has it; None where that is nowhere."""
    try:
        outline = template.render(_replaced(messages, parts, [_mark(number) for number in range(len(parts))]))
    except TemplateError:
        return None
    marks = list(_MARK.finditer(outline))
    ends = [mark.start() for mark in marks[1:]] + [len(outline)]
    kept = [[False] * len(_PIECE.findall(part.text)) for part in parts]
    if not marks or not text.startswith(outline[: marks[0].start()]):
        return None
    place = marks[0].start()
    for mark, end in zip(marks, ends, strict=True):
        behind = outline[mark.end() : end]
        stop = text.find(behind, place) if end < len(outline) else len(text) - len(behind)
        if not behind or stop < place or not text.startswith(behind, stop):
            return None
        flags = kept[_number(mark)]
        for index, piece in enumerate(_PIECE.findall(parts[_number(mark)].text)):
            found = text.find(piece, place, stop)
            if found >= 0:
                flags[index], place = True, found + len(piece)
        place = stop + len(behind)
    return kept


def _lost_of(parts: Sequence[_Part], kept: Sequence[Sequence[bool]]) -> list[Lost]:
    found = []
    for part, flags in zip(parts, kept, strict=True):
        if all(flags):
            continue
        first = flags.index(False)
        last = next((i for i in range(first, len(flags)) if flags[i]), len(flags)) - 1
        spans = [match.span() for match in _PIECE.finditer(part.text)]
        found.append(Lost(part.turn, part.key, part.text[spans[first][0] : spans[last][1]], not any(flags)))
    return found


# ---------------------------------------------------------------------------------------------------- counted words


def _lost_by_count(parts: Sequence[_Part], text: str) -> list[Lost]:
    said = Counter(piece for part in parts for piece in _PIECE.findall(part.text))
    missed = {piece for piece, count in said.items() if text.count(piece) < count}
    return _lost_of(parts, [[piece not in missed for piece in _PIECE.findall(part.text)] for part in parts])
