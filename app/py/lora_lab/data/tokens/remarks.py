"""What there is to say about a row that the chat template has rendered: one problem of each kind at most."""

from __future__ import annotations

from collections.abc import Sequence

from lora_lab.data.problems import Problem, excerpt, shown
from lora_lab.data.rows.schema import Conversation
from lora_lab.data.tokens.mask import MaskedText, trained_turns
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.template_check import Lost, lost_words, unseen_start
from lora_lab.settings import Masking

TEMPLATE_KINDS = ("template-loss", "template-context-loss", "template-start", "template-trims")

_LOST_ANSWER = (
    "what is left out is not learned, and chat would not show it either; where the last answer of a row is kept whole, "
    "let a row end with this one, else use another chat template (--chat-template)"
)
_LOST_CONTEXT = "the model never reads it, in training or in chat; take it out, or move it to a turn that is kept"
_OTHER_START = (
    "give the answers what the prompt ends with (an empty <think></think>, say), or use another chat template "
    "(--chat-template)"
)
_QUOTED = 120


def template_remarks(
    row: Conversation, masked: MaskedText, template: ChatTemplate, masking: Masking
) -> tuple[Problem, ...]:
    """Return the warnings about a rendered row: lost words, another start than chat's, blurred first tokens."""
    messages = [message.as_dict() for message in row.messages]
    found = [
        _remark(
            row, "mask", f"messages[{turn}]: the answer's first characters melt with the template's header into one "
            "token, which is not trained; remove the white space at the start of the answer",
        )
        for turn in masked.blurred_turns
    ]  # fmt: skip
    lost, trimmed = lost_words(messages, masked.text, template)
    trained = trained_turns(row.messages, masking)
    answers = [one for one in lost if one.turn in trained]
    if answers:
        found.append(_remark(row, "template-loss", _lost(answers, row), _LOST_ANSWER))
    others = [one for one in lost if one.turn not in trained]
    if others:
        found.append(_remark(row, "template-context-loss", _lost(others, row), _LOST_CONTEXT))
    if trimmed:
        said = f"messages[{trimmed[0]}]: the chat template leaves out the white space at the ends of this turn"
        found.append(Problem(row.line, said, kind="template-trims", severity="info"))
    unseen = unseen_start(messages, masked.starts, masked.text, template)
    if unseen is not None:
        turn, stands, prompt = unseen
        place = next((i for i, (a, b) in enumerate(zip(stands, prompt, strict=False)) if a != b), None)
        place = min(len(stands), len(prompt)) if place is None else place
        said = (
            f"messages[{turn}]: before the trained words stands {excerpt(stands, place)!r}, but the prompt that chat "
            f"gives ends in {excerpt(prompt, place)!r}: chat begins in a state that training never saw"
        )
        found.append(_remark(row, "template-start", said, _OTHER_START))
    return tuple(found)


def _remark(row: Conversation, kind: str, message: str, hint: str = "") -> Problem:
    return Problem(row.line, message, kind=kind, severity="warning", hint=hint)


def _lost(lost: Sequence[Lost], row: Conversation) -> str:
    """Say what is lost, the first of it word for word."""
    first = lost[0]
    is_reasoning = first.key != "content"
    place = f"messages[{first.turn}]" + (f".{first.key}" if is_reasoning else "")
    part = "leaves out" if first.whole else "leaves out or changes a part of"
    what = "reasoning" if is_reasoning else f"{row.messages[first.turn].role} turn"
    said = f"{place}: the chat template {part} this {what}: {shown(first.words, _QUOTED)!r}"
    more = len({one.turn for one in lost}) - 1
    return said + (f", and of {more} more {'turn' if more == 1 else 'turns'}" if more else "")
