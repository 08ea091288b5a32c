"""Chat templates, rendered as Hugging Face renders them: real jinja2 in its immutable sandbox.

Same environment as `transformers`: `trim_blocks`, `lstrip_blocks`, loop controls, `{% generation %}`, the filter
`tojson` (without HTML escaping), the globals `raise_exception`, `strftime_now`, and guarded `dict` and `namespace`.
A template is a stranger's program: what it may do is bounded (template_sandbox.py), and whatever goes wrong while it is
compiled or runs is a `TemplateError`.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.runtime
import jinja2.utils

from lora_lab.data.rows.names import REASONING
from lora_lab.data.tokens.template_budget import MAX_SOURCE, Budget, LimitError
from lora_lab.data.tokens.template_sandbox import BoundedEnvironment
from lora_lab.data.tokens.template_timer import HardLimit
from lora_lab.errors import LoraLabError

# Unicode's noncharacters U+FDD0 … U+FDEF: no text for interchange holds them, so they can mark places in one.
_NONCHARACTERS = [chr(code) for code in range(0xFDD0, 0xFDF0)]


_MESSAGE_CHARACTERS = 600
# `%Y`, `%-d`: a number between the two would be a width, of any size.
_DATE_FORMAT = re.compile(r"[^%]*(?:%[-_0^#]?[A-Za-z%][^%]*)*")
_DATE_CHARACTERS = 200


class TemplateError(LoraLabError):
    """A chat template that cannot be read, or that refuses a conversation. The message is the template's own."""


class ChatTemplate:
    """A chat template. `special_tokens` are what it may print: bos_token, eos_token, unk_token, pad_token.

    `end_of_turn` is the text behind an answer, where the template is not the model's own (chat_formats.py): the model
    need not know it as a token, or as an end.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str] | None = None) -> None:
        """Compile the template. Raises TemplateError with the line when it is no valid jinja2."""
        self.source = source
        self.special_tokens = dict(special_tokens or {})
        self.end_of_turn = ""
        self._environment, self._limit = _make_environment(), HardLimit()
        if len(source) > MAX_SOURCE:
            raise TemplateError(
                f"the chat template cannot be read: it has {len(source):,} characters; wanted at most {MAX_SOURCE:,}"
            )
        try:
            with self._limit, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Python's about code like 1[2], which a template may well hold
                self._template = self._environment.from_string(source)
        except Exception as error:  # jinja2's own, and Python's compiler's: IndentationError, MemoryError, …
            raise TemplateError(f"the chat template cannot be read: {_said(error)}") from error
        # Whether the template itself says which parts the assistant generates.
        self.marks_generation = self._environment.generation_blocks > 0  # type: ignore[attr-defined]

    def render(self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = False) -> str:
        """Return the conversation as the text that is tokenized. Raises TemplateError when the template refuses it."""
        plain = [_template_message(message) for message in messages]
        environment = self._environment
        environment.budget = Budget(plain)
        try:
            context = self._template.new_context(
                {
                    "messages": plain,
                    "tools": None,
                    "documents": None,
                    "add_generation_prompt": add_generation_prompt,
                    **self.special_tokens,
                }
            )
            with self._limit:
                return environment.concat(self._template.root_render_func(context))
        except jinja2.TemplateError as error:
            raise TemplateError(f"the chat template refuses this conversation: {_said(error)}") from error
        except Exception as error:
            # Expressions inside a template raise Python's own errors, e.g. adding a list to a string.
            raise TemplateError(f"the chat template fails on this conversation: {_said(error)}") from error

    def render_with_marks(self, messages: Sequence[Mapping[str, Any]]) -> tuple[str, list[tuple[int, int]]]:
        """Return the rendered text and the (start, end) characters of its `{% generation %}` blocks, in order."""
        text = self.render(messages)
        free = [char for char in _NONCHARACTERS if char not in text and char not in self.source]
        if len(free) < 2:
            raise TemplateError("the conversation is full of Unicode noncharacters (U+FDD0 to U+FDEF); remove them")
        opening, closing = free[:2]
        environment: Any = self._environment
        environment.generation_marks = (opening, closing)
        try:
            marked = self.render(messages)
        finally:
            environment.generation_marks = ("", "")
        return text, _find_marks(marked, text, opening, closing)


def _said(error: Exception) -> str:
    """Return an error's words, cut short: a template may raise as many as it likes."""
    if isinstance(error, jinja2.TemplateSyntaxError):
        said = f"line {error.lineno}: {error.message}"
    elif isinstance(error, jinja2.TemplateError):
        said = str(error.message or error)
    elif isinstance(error, (LimitError, TimeoutError)):
        said = str(error)
    elif isinstance(error, RecursionError):
        said = "it is nested too deeply"
    else:
        said = f"{type(error).__name__}: {error}"
    return said if len(said) <= _MESSAGE_CHARACTERS else said[: _MESSAGE_CHARACTERS - 1] + "…"


def _template_message(message: Mapping[str, Any]) -> dict[str, Any]:
    # Keys whose value is None are left out: many templates would print the word "None".
    plain = {key: value for key, value in message.items() if value is not None}
    # A reasoning text goes by several names; `reasoning_content` is the one that templates read (gpt-oss: `thinking`).
    reasoning = next((plain[key] for key in REASONING if key in plain), None)
    return plain if reasoning is None else {"thinking": reasoning, **plain, "reasoning_content": reasoning}


def _find_marks(marked: str, text: str, opening: str, closing: str) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    position, start = 0, -1
    kept: list[str] = []
    for char in marked:
        if char == opening and start < 0:
            start = position
        elif char == closing and start >= 0:
            spans.append((start, position))
            start = -1
        elif char in (opening, closing):
            raise TemplateError("the chat template nests its {% generation %} blocks")
        else:
            kept.append(char)
            position += 1
    if start >= 0 or "".join(kept) != text:
        raise TemplateError("the chat template changes the text of its own {% generation %} blocks")
    return spans


class _GenerationExtension(jinja2.ext.Extension):
    """`{% generation %} … {% endgeneration %}`: prints its body, between two marks while marks are asked for."""

    tags = {"generation"}  # noqa: RUF012 (jinja2 declares it so)

    def __init__(self, environment: jinja2.Environment) -> None:
        super().__init__(environment)
        environment.extend(generation_marks=("", ""), generation_blocks=0)

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        self.environment.generation_blocks += 1  # type: ignore[attr-defined]
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller: jinja2.runtime.Macro) -> str:
        opening, closing = self.environment.generation_marks  # type: ignore[attr-defined]
        return f"{opening}{caller()}{closing}"


class _DictFactory:
    """`dict(…)` and `dict.fromkeys(…)` for templates, without the class itself and what hangs on it."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _GuardedNamespace(jinja2.utils.Namespace):
    """`namespace(…)` for templates, which may not store names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # no named `self`, so that `namespace(self=…)` works
        attributes = dict(*args[1:], **kwargs)
        for name in attributes:
            _refuse_underscore(name)
        jinja2.utils.Namespace.__init__(args[0], attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_underscore(name)
        super().__setitem__(name, value)


def _refuse_underscore(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a chat template may not store the name {name!r}")


def _make_environment() -> BoundedEnvironment:
    environment = BoundedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationExtension, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.bound_filters()
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    environment.globals["dict"] = _DictFactory()
    environment.globals["namespace"] = _GuardedNamespace
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise jinja2.exceptions.TemplateError(message)


def _strftime_now(format: str) -> str:
    if len(format) > _DATE_CHARACTERS or not _DATE_FORMAT.fullmatch(format):
        raise jinja2.exceptions.TemplateError(f"strftime_now({format[:80]!r}): no format of a date")
    return datetime.now().strftime(format)
