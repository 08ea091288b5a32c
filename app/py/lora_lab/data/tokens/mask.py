"""Which tokens of a templated conversation are trained: the assistant's words and the end-of-turn token after them.

Not trained: the assistant header, and what stands between the end-of-turn token and the next header (ChatML's line
break). The places are found in the rendered text, and only then carried over to the tokens of that whole text:

- with `{% generation %}` marks, the template says itself what the assistant writes;
- without, by rendering prefixes. Turn i begins where the conversation before it, with the generation prompt, ends,
  and ends where the conversation up to and with it ends. Both must really be prefixes of the whole text;
- where they are not (the template writes the number of turns, or leaves out old reasoning), by finding the answers in
  the whole text: see align.py. What cannot be told apart there is refused.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from lora_lab.data.problems import RowError, excerpt
from lora_lab.data.rows.messages import Message
from lora_lab.data.rows.schema import Conversation
from lora_lab.data.tokens.align import MOST_RENDERED, find_answers, find_together
from lora_lab.data.tokens.template import ChatTemplate, TemplateError
from lora_lab.data.tokens.tokenizer import Tokenizer
from lora_lab.settings import Masking


@dataclass(frozen=True)
class MaskedText:
    """A rendered conversation: `tokens` (T,) int32, `trained` (T,) bool, and the turns whose first token is blurred.

    A turn is blurred when the template's header and the answer's first characters melt into one token, which belongs
    to neither and is not trained. `aligned` says that the template breaks the prefix property, and the answers were
    found in the whole text instead. `turns` are the places [first, stop) of the assistant turns that were looked at;
    `starts` the characters at which the trained ones begin, None where everything is trained. They are left out where
    they were found by the generation prompt before them, so that training and chat begin alike.
    """

    text: str
    tokens: np.ndarray
    trained: np.ndarray
    blurred_turns: tuple[int, ...]
    aligned: bool = False
    turns: tuple[tuple[int, int, int], ...] = ()  # (turn, first token, token behind the last)
    starts: dict[int, int | None] = field(default_factory=dict)


@dataclass(frozen=True)
class _Span:
    """Characters [start, end) of the rendered text that one assistant turn occupies."""

    turn: int
    start: int
    end: int
    content_end: int  # where the turn's own words end inside the span; `start` when they cannot be found


# Of more turns than this not all are looked for by renderings of their own.
_FEW_TURNS = 24
_MOST_COUNTED = 1_000_000


def mask_conversation(
    conversation: Conversation, tokenizer: Tokenizer, template: ChatTemplate, masking: Masking = "assistant"
) -> MaskedText:
    """Render, tokenize and mask one conversation. Raises RowError or TemplateError, which say what is wrong.

    With `masking="all"` everything is trained but the turns that the row itself excludes (`"weight": 0`).
    """
    messages = [message.as_dict() for message in conversation.messages]
    wanted = _wanted_turns(conversation.messages, masking)
    aligned = False
    if not wanted:
        text, spans = template.render(messages), []
    elif template.marks_generation:
        text, marks = template.render_with_marks(messages)
        spans = [span for span in _marked_spans(conversation.messages, text, marks) if span.turn in wanted]
    else:
        text = template.render(messages)
        try:
            spans = _prefix_spans(conversation.messages, wanted, text, template)
        except _BrokenPrefixError as error:
            found = find_answers(messages, wanted, text, template)
            if found is None:
                raise RowError(error.message, error.hint, error.kind) from error
            spans, aligned = [_Span(turn, start, len(text), end) for turn, start, end in found], True
    ids = tokenizer.encode(text)
    places = _TokenPlaces(text, ids, tokenizer)
    trained = np.full(len(ids), masking == "all", np.bool_)
    blurred, turns = [], []
    for span in spans:
        first, is_blurred = places.first_token_from(span.start)
        known = span.content_end > span.start
        if known and template.end_of_turn and not aligned and not template.marks_generation:
            stop = max(first, places.last_token_until(_behind_marker(text, span, template.end_of_turn)))
        else:
            content_stop = places.last_token_until(span.content_end) if known else first
            stop = places.last_token_until(span.end)
            if aligned:
                stop = _direct_end_of_turn(ids, content_stop, span.turn, places, tokenizer)
            else:
                stop = _end_of_turn(ids, first, max(first, content_stop), stop, places, tokenizer, template)
        trained[first:stop] = masking != "all"
        turns.append((span.turn, first, stop))
        if is_blurred and masking != "all":
            blurred.append(span.turn)
    starts: dict[int, int | None] = {}
    if masking == "all":
        starts = dict.fromkeys(trained_turns(conversation.messages, masking))
    elif aligned or template.marks_generation:
        starts = {span.turn: span.start for span in spans}
    return MaskedText(text, np.asarray(ids, np.int32), trained, tuple(blurred), aligned, tuple(turns), starts)


def trained_turns(messages: Sequence[Message], masking: Masking) -> frozenset[int]:
    """Return the assistant turns that are trained; with "all" those that the row does not exclude."""
    if masking != "all":
        return _wanted_turns(messages, masking)
    return frozenset(index for index, one in enumerate(messages) if one.role == "assistant" and not one.excluded)


def _wanted_turns(messages: Sequence[Message], masking: Masking) -> frozenset[int]:
    """Return the assistant turns whose places must be known: those to train, or with "all" those to leave out."""
    assistant = [index for index, message in enumerate(messages) if message.role == "assistant"]
    if masking == "all":
        return frozenset(index for index in assistant if messages[index].excluded)
    trained = [index for index in assistant if messages[index].trained]
    return frozenset(trained[-1:] if masking == "last" else trained)


def _direct_end_of_turn(
    ids: Sequence[int], content_stop: int, turn: int, places: _TokenPlaces, tokenizer: Tokenizer
) -> int:
    """Return where the turn stops whose words end at `content_stop`: its end-of-turn token must follow directly."""
    for index in range(content_stop, len(ids)):
        if ids[index] in tokenizer.special_ids:
            return index + 1
        if not places.is_blank(index):
            break
    raise RowError(
        f"messages[{turn}]: the chat template changes what stands before this turn, and puts no end-of-turn token "
        "behind it, so the end of the answer cannot be told",
        "a template with {% generation %} marks would help",
        "template-prefix",
    )


def _behind_marker(text: str, span: _Span, marker: str) -> int:
    """Return where a turn's words end, or the marker behind them: text that need be no token of the model."""
    behind = text[span.content_end : span.end]
    place = len(behind) - len(behind.lstrip())
    return span.content_end + (place + len(marker) if behind.startswith(marker, place) else 0)


class _BrokenPrefixError(RowError):
    """The conversation up to a turn is rendered differently than inside the whole."""


def _end_of_turn(
    ids: Sequence[int],
    first: int,
    content_stop: int,
    stop: int,
    places: _TokenPlaces,
    tokenizer: Tokenizer,
    template: ChatTemplate,
) -> int:
    """Return where the trained tokens of a turn stop: after the end-of-turn token, without what follows it."""
    special = tokenizer.special_ids
    if content_stop > first:
        # The first special token after the turn's words ends the turn (Phi-like templates put more behind it).
        for index in range(content_stop, stop):
            if ids[index] in special:
                return index + 1
    else:
        # The template changes the words (trims, escapes): the last special token with only white space behind it.
        for index in range(stop - 1, first - 1, -1):
            if ids[index] in special:
                return index + 1
            if not places.is_blank(index):
                break
    # A template that marks the words only: the model must learn its end-of-text token all the same.
    if template.marks_generation and stop < len(ids) and ids[stop] == tokenizer.end_of_text_id:
        return stop + 1
    return stop


def _marked_spans(messages: Sequence[Message], text: str, marks: Sequence[tuple[int, int]]) -> list[_Span]:
    turns = [index for index, message in enumerate(messages) if message.role == "assistant"]
    if len(turns) != len(marks):
        raise RowError(
            f"the chat template marks {len(marks)} generated parts for {len(turns)} assistant turns",
            "it leaves some turns out, so they cannot be told apart",
            "template",
        )
    pairs = zip(turns, marks, strict=True)
    return [_with_content(turn, start, end, text, messages[turn].content) for turn, (start, end) in pairs]


def _prefix_spans(
    messages: Sequence[Message], wanted: frozenset[int], text: str, template: ChatTemplate
) -> list[_Span]:
    plain = [message.as_dict() for message in messages]
    if len(wanted) > _FEW_TURNS:
        many = _many_spans(messages, plain, sorted(wanted), text, template)
        if many is not None:
            return many
        if len(wanted) * len(messages) > MOST_RENDERED:
            raise _BrokenPrefixError(
                f"the conversation has {len(messages):,} messages, and what the chat template writes around them "
                "differs, so the assistant's words cannot be told from the rest in reasonable time",
                "split the row, or use a template with {% generation %} marks",
                "template-prefix",
            )
    return _spans_of(sorted(wanted), messages, plain, text, template)


def _many_spans(
    messages: Sequence[Message], plain: Sequence[dict], wanted: Sequence[int], text: str, template: ChatTemplate
) -> list[_Span] | None:
    """Return the spans of many turns; None where they cannot be told in time that is linear in their number.

    The words of all are found by one rendering. What stands between the prefix and the words, and between the words and
    the next turn, is taken from the turns 1, 2, 4, 8, …, whose prefixes together are as long as two conversations, and
    must be the same for all.
    """
    words = find_together(plain, wanted, text, template)
    if words is None:
        return None
    asked = {wanted[(1 << power) - 1] for power in range(len(wanted).bit_length()) if (1 << power) <= len(wanted)}
    asked |= {wanted[-1]} if wanted[-1] == len(messages) - 1 else set()
    sampled = {span.turn: span for span in _spans_of(sorted(asked), messages, plain, text, template)}
    around = {turn: _with_space(text, messages[turn].content, *words[turn]) for turn in wanted}
    heads = {text[span.start : around[turn][0]] for turn, span in sampled.items()}
    tails = {text[around[turn][1] : span.end] for turn, span in sampled.items() if turn + 1 < len(messages)}
    if len(heads) != 1 or len(tails) != 1:
        return None
    head, tail = heads.pop(), tails.pop()
    spans = []
    for turn in wanted:
        start, end = around[turn]
        if turn not in sampled and not (text.startswith(tail, end) and text.endswith(head, 0, start)):
            return None
        span = _with_content(turn, start - len(head), end + len(tail), text, messages[turn].content)
        spans.append(sampled.get(turn, span))
    return spans


def _with_space(text: str, content: str, start: int, end: int) -> tuple[int, int]:
    """Return the place of a turn's words with the white space around them that the template leaves there."""
    before, behind = content[: len(content) - len(content.lstrip())], content[len(content.rstrip()) :]
    if before and text.endswith(before, 0, start):
        start -= len(before)
    return start, end + len(behind) * text.startswith(behind, end)


def _spans_of(
    turns: Sequence[int], messages: Sequence[Message], plain: Sequence[dict], text: str, template: ChatTemplate
) -> list[_Span]:
    """Return the turns' spans, by a rendering of the conversation before each and one with it."""
    spans = []
    for turn in turns:
        message = messages[turn]
        start = len(_prefix_before(plain, turn, text, template))
        span = _with_content(turn, start, len(text), text, message.content)
        if turn + 1 < len(messages):
            up_to = _render_part(plain[: turn + 1], turn, template, add_generation_prompt=False)
            end = _common_length(up_to, text)
            # A template may add something at a conversation's very end only (Phi-3); the words must be the same.
            if end < len(up_to) and (end < span.content_end or span.content_end == start):
                raise _broken_prefix(turn, up_to, text, end)
            span = replace(span, end=end)
        spans.append(span)
    return spans


def _prefix_before(plain: Sequence[dict], turn: int, text: str, template: ChatTemplate) -> str:
    """Return the text before an assistant turn, its header included. Raises RowError when it is no prefix."""
    if turn == 0:
        raise RowError("the conversation begins with an assistant turn", "put a user turn before it", "no-prompt")
    prefix = _render_part(plain[:turn], turn, template, add_generation_prompt=True)
    if not text.startswith(prefix):
        raise _broken_prefix(turn, prefix, text, _common_length(prefix, text))
    return prefix


def _render_part(plain: Sequence[dict], turn: int, template: ChatTemplate, add_generation_prompt: bool) -> str:
    try:
        return template.render(plain, add_generation_prompt)
    except TemplateError as error:
        message = f"messages[{turn}]: the conversation up to here cannot be rendered alone: {error}"
        raise _BrokenPrefixError(message, "", "template-prefix") from error


def _broken_prefix(turn: int, prefix: str, text: str, place: int) -> RowError:
    return _BrokenPrefixError(
        f"messages[{turn}]: the chat template renders the conversation up to this turn differently than inside the "
        f"whole ({excerpt(prefix, place)!r} against {excerpt(text, place)!r}), so the assistant's words cannot be told "
        "from the rest",
        "a template with {% generation %} marks would help",
        "template-prefix",
    )


def _with_content(turn: int, start: int, end: int, text: str, content: str) -> _Span:
    for words in (content, content.strip()):
        place = text.find(words, start, start + len(content) + 16) if words else -1
        # Only spaces may stand before the words (Mistral's " answer"), else it is a chance find.
        if place >= 0 and not text[start:place].strip():
            return _Span(turn, start, end, place + len(words))
    return _Span(turn, start, end, start)


def _common_length(a: str, b: str) -> int:
    if b.startswith(a) or a.startswith(b):
        return min(len(a), len(b))
    return next(index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)


class _TokenPlaces:
    """Characters of a rendered text -> positions in its tokens."""

    def __init__(self, text: str, ids: Sequence[int], tokenizer: Tokenizer) -> None:
        self._text = text
        self._ids = ids
        self._tokenizer = tokenizer
        ends = tokenizer.token_ends(text, ids)
        self._ends: list[int] | None = None if ends is None else ends.tolist()
        self._bytes: np.ndarray | None = None  # where each character begins, for texts beyond ASCII
        self._counted = 0  # characters that were tokenized for their number

    def first_token_from(self, place: int) -> tuple[int, bool]:
        """Return the first token that lies wholly behind a character, and whether another one straddles it."""
        if self._ends is None:
            return self._token_count(place), False
        byte = self._byte(place)
        index = bisect.bisect_left(self._ends, byte)  # the token that ends at or behind the place
        if byte == 0:
            return 0, False
        return index + 1, self._ends[index] != byte

    def last_token_until(self, place: int) -> int:
        """Return the number of tokens needed to cover the text up to a character."""
        if self._ends is None:
            return len(self._ids) if place == len(self._text) else self._token_count(place)
        byte = self._byte(place)
        return bisect.bisect_left(self._ends, byte) + 1 if byte else 0

    def _byte(self, place: int) -> int:
        """Return the byte of the UTF-8 text at which a character begins."""
        if self._text.isascii():
            return place
        if self._bytes is None:
            codes = np.frombuffer(self._text.encode("utf-32-le", "surrogatepass"), np.uint32)
            sizes = 1 + (codes > 0x7F) + (codes > 0x7FF).astype(np.int64) + (codes > 0xFFFF)
            self._bytes = np.concatenate([[0], np.cumsum(sizes)])
        return int(self._bytes[place])

    def is_blank(self, index: int) -> bool:
        """Whether a token is nothing but white space."""
        return not self._tokenizer.decode([self._ids[index]]).strip()

    def _token_count(self, place: int) -> int:
        """Without token sizes: the prefix, tokenized by itself, must be a prefix of the whole text's tokens."""
        self._counted += place
        if self._counted > _MOST_COUNTED + 16 * len(self._text):
            raise RowError(
                "the conversation has too many turns for this tokenizer, of whose tokens no bytes can be told",
                "split the row",
                "melted-token",
            )
        part = self._tokenizer.encode(self._text[:place])
        if list(self._ids[: len(part)]) != part:
            raise RowError(
                f"the text before and after {excerpt(self._text, place)!r} melts into common tokens, so the "
                "assistant's words cannot be told from the rest",
                "remove white space at the start or end of the answer",
                "melted-token",
            )
        return len(part)
