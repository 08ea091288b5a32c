"""Which chat template a model is used with: its own, or for one that has none the format that somebody chose.

A choice is a value of settings.CHAT_FORMAT. "auto" is the model's own template; where it has none, its family's format
if the end of a turn is one token of the tokenizer, so that the model can learn it as an end, else plain text.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ..data.tokens.chat_formats import FORMATS, ChatFormat, end_token, template_of
from ..data.tokens.template import ChatTemplate
from ..data.tokens.tokenizer import Tokenizer
from ..settings import CHAT_FORMAT
from .families import family_of
from .model_files import ModelFiles

AUTO = CHAT_FORMAT.default


@dataclass(frozen=True)
class Offer:
    """One of the formats to choose from. `value` is the setting's; `note` is what to know about it with this model."""

    value: str
    title: str
    note: str
    template: ChatTemplate


class ChatChoice:
    """The formats that a model without a template is offered, each made when it is asked for."""

    def __init__(self, files: ModelFiles, tokenizer: Tokenizer) -> None:
        self._tokenizer, self._special_tokens = tokenizer, files.tokenizer.special_tokens
        self._own = [FORMATS[name] for name in family_of(files.config).CHAT_FORMATS]
        self._known: dict[str, Offer] = {}

    @cached_property
    def default(self) -> str:
        """What suits the model, where nobody has chosen."""
        return "family" if self._ends_with_a_token(self._template(self._family_format)) else "plain"

    def offer(self, value: str) -> Offer:
        """Return what a value of the setting means for this model."""
        value = self.default if value == AUTO else value
        if value not in self._known:
            chat_format = self._family_format if value == "family" else FORMATS[value]
            template = self._template(chat_format)
            self._known[value] = Offer(value, chat_format.title, self._note(value, template), template)
        return self._known[value]

    @property
    def offers(self) -> tuple[Offer, ...]:
        """All that can be chosen."""
        return tuple(self.offer(value) for value in CHAT_FORMAT.values if value != AUTO)

    @cached_property
    def _family_format(self) -> ChatFormat:
        """The family's format whose end of a turn is a token of this tokenizer, else its first."""
        fitting = (one for one in self._own if self._ends_with_a_token(self._template(one)))
        return next(fitting, self._own[0])

    def _template(self, chat_format: ChatFormat) -> ChatTemplate:
        return template_of(chat_format, self._tokenizer, self._special_tokens)

    def _ends_with_a_token(self, template: ChatTemplate) -> bool:
        return end_token(template, self._tokenizer) is not None

    def _note(self, value: str, template: ChatTemplate) -> str:
        if value == "plain":
            return ""
        if self._ends_with_a_token(template):
            return f"{template.end_of_turn} ends an answer, and is a token of this model"
        return "its markers are no tokens of this model: they are learned as text"
