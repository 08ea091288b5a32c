"""Chat templates, rendered as Hugging Face renders them: real jinja2 in its immutable sandbox.

Same environment as `transformers`: `trim_blocks`, `lstrip_blocks`, loop controls, `{% generation %}`, the filter
`tojson` (without HTML escaping), the globals `raise_exception`, `strftime_now`, and guarded `dict` and `namespace`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.runtime
import jinja2.utils
from jinja2.sandbox import ImmutableSandboxedEnvironment

from lora_lab.errors import LoraLabError

# Unicode's noncharacters U+FDD0 … U+FDEF: no text for interchange holds them, so they can mark places in one.
_NONCHARACTERS = [chr(code) for code in range(0xFDD0, 0xFDF0)]


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
        self._environment = _make_environment()
        try:
            self._template = self._environment.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(f"the chat template cannot be read: line {error.lineno}: {error.message}") from error
        except RecursionError as error:
            raise TemplateError("the chat template cannot be read: it is nested too deeply") from error
        # Whether the template itself says which parts the assistant generates.
        self.marks_generation = self._environment.generation_blocks > 0  # type: ignore[attr-defined]

    def render(self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = False) -> str:
        """Return the conversation as the text that is tokenized. Raises TemplateError when the template refuses it."""
        plain = [_template_message(message) for message in messages]
        try:
            return self._template.render(
                messages=plain,
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self.special_tokens,
            )
        except jinja2.TemplateError as error:
            raise TemplateError(f"the chat template refuses this conversation: {error.message or error}") from error
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError) as error:
            # Expressions inside a template raise Python's own errors, e.g. adding a list to a string.
            kind = type(error).__name__
            raise TemplateError(f"the chat template fails on this conversation: {kind}: {error}") from error

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


def _template_message(message: Mapping[str, Any]) -> dict[str, Any]:
    # Keys whose value is None are left out: many templates would print the word "None".
    plain = {key: value for key, value in message.items() if value is not None}
    # A reasoning text goes by several names; `reasoning_content` is the one that templates read (gpt-oss: `thinking`).
    reasoning = next((plain[key] for key in ("reasoning_content", "thinking", "reasoning") if key in plain), None)
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


def _make_environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationExtension, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
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
    return datetime.now().strftime(format)
