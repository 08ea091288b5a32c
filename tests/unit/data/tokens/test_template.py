"""Chat templates against transformers' own `apply_chat_template`: the same text, the same refusals."""

from __future__ import annotations

import functools
import random
from typing import Any

import jinja2
import pytest

from lora_lab.data.tokens.template import ChatTemplate, TemplateError
from tests.unit.data.helpers import TEMPLATE_NAMES, read_template, smollm2_files
from tests.unit.data.hostile_text import hostile_texts

pytestmark = pytest.mark.unit

SPECIAL_TOKENS = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "unk_token": "<|endoftext|>"}


@functools.cache
def _transformers_tokenizer() -> Any:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), **SPECIAL_TOKENS)


def _transformers_render(source: str, messages: list[dict], add_generation_prompt: bool) -> str:
    return _transformers_tokenizer().apply_chat_template(
        messages, chat_template=source, tokenize=False, add_generation_prompt=add_generation_prompt
    )


def _conversations(count: int) -> list[list[dict]]:
    generator = random.Random(3)
    texts = hostile_texts(400, seed=31)
    conversations: list[list[dict]] = [
        [{"role": "user", "content": "Hi"}],
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}],
        [
            {"role": "system", "content": ""},
            {"role": "user", "content": " a "},
            {"role": "assistant", "content": "\nb\n"},
        ],
        [{"role": "assistant", "content": "I begin."}, {"role": "user", "content": "Oh."}],
        [{"role": "user", "content": "{{ 1 + 1 }} {% if x %} <b>&amp;</b> </s>"}],
        [{"role": "user", "content": "x", "name": "Ada"}, {"role": "assistant", "content": "y", "thinking": "hm"}],
        [{"role": "user", "content": "x", "name": None}, {"role": "assistant", "content": "y", "reasoning": "so"}],
        [{"role": "tool", "content": "42"}],
    ]
    while len(conversations) < count:
        roles = ["system"] * generator.randint(0, 1) + ["user", "assistant"] * generator.randint(1, 5)
        if generator.random() < 0.3:
            generator.shuffle(roles)
        conversations.append([{"role": role, "content": generator.choice(texts)} for role in roles])
    return conversations


@pytest.mark.parametrize("name", ["smollm2", *TEMPLATE_NAMES])
def test_renders_and_refuses_as_transformers_does(name: str) -> None:
    source = smollm2_files().chat_template if name == "smollm2" else read_template(name)
    assert source
    template = ChatTemplate(source, SPECIAL_TOKENS)
    refused = rendered = 0
    for messages in _conversations(300):
        for add_generation_prompt in (False, True):
            try:
                wanted = _transformers_render(source, messages, add_generation_prompt)
            except (jinja2.TemplateError, TypeError, ValueError):
                with pytest.raises(TemplateError):
                    template.render(messages, add_generation_prompt)
                refused += 1
            else:
                assert template.render(messages, add_generation_prompt) == wanted
                rendered += 1
    assert rendered > 100
    assert (refused > 0) == (name in ("gemma_like", "mistral_like"))


def test_a_changed_template_is_noticed() -> None:
    """The negative control: trim_blocks and lstrip_blocks matter, so a plain environment renders otherwise."""
    source = read_template("zephyr_like")
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
    plain = jinja2.Environment().from_string(source).render(messages=messages, eos_token="<|im_end|>")
    assert plain != ChatTemplate(source, SPECIAL_TOKENS).render(messages)


def test_a_refusal_carries_the_templates_own_words() -> None:
    template = ChatTemplate(read_template("gemma_like"), SPECIAL_TOKENS)
    with pytest.raises(TemplateError, match="Turns must go user, assistant"):
        template.render([{"role": "assistant", "content": "x"}])


@pytest.mark.parametrize("source", ["{% for m in messages %}", "{{ }}", "{% generation %}x", "{% nosuch %}"])
def test_a_template_that_is_no_jinja_is_refused_with_its_line(source: str) -> None:
    with pytest.raises(TemplateError, match="line 1"):
        ChatTemplate(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[0].content + 1 }}",
        "{{ messages[7].content.upper() }}",
        "{{ nosuch.thing }}",
        "{{ 1 // 0 }}",
        "{{ messages[0] < messages[0] }}",
        "{% for i in range(10 ** 9) %}x{% endfor %}",
    ],
)
def test_pythons_errors_inside_a_template_are_template_errors(source: str) -> None:
    with pytest.raises(TemplateError):
        ChatTemplate(source).render([{"role": "user", "content": "x"}])


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ dict.__class__ }}",
        "{{ messages.__class__.__base__.__subclasses__() }}",
        "{{ raise_exception.__globals__ }}",
        "{% set ns = namespace(_x=1) %}{{ ns._x }}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
        "{{ ('{0.__class__}').format(messages) }}",
        "{{ self._TemplateReference__context }}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(source: str) -> None:
    template = ChatTemplate("{{ bos_token }}" + source)
    try:
        shown = template.render([{"role": "user", "content": "x"}])
    except TemplateError:
        return
    # jinja2 makes what is unsafe undefined, and undefined prints nothing.
    assert shown == ""


def test_the_marks_of_generation_are_where_transformers_sees_them() -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    for name in ("marked_chatml", "marked_words_only"):
        template = ChatTemplate(read_template(name), SPECIAL_TOKENS)
        assert template.marks_generation
        for messages in _conversations(200):
            texts, spans = render_jinja_template(
                [messages], chat_template=read_template(name), return_assistant_tokens_mask=True, **SPECIAL_TOKENS
            )
            text, ours = template.render_with_marks(messages)
            assert text == texts[0]
            assert ours == spans[0]


def test_marks_survive_the_characters_that_mark_them() -> None:
    template = ChatTemplate(read_template("marked_chatml"))
    content = "odd \ufdd0 and \ufdd1"
    text, spans = template.render_with_marks(
        [{"role": "user", "content": "x"}, {"role": "assistant", "content": content}]
    )
    assert [text[start:end] for start, end in spans] == [content + "<|im_end|>\n"]
    everything = "".join(map(chr, range(0xFDD0, 0xFDF0)))
    with pytest.raises(TemplateError, match="noncharacters"):
        template.render_with_marks([{"role": "assistant", "content": everything}])


def test_no_marks_no_generation() -> None:
    assert not ChatTemplate(read_template("zephyr_like")).marks_generation
    assert ChatTemplate(read_template("zephyr_like")).render_with_marks([])[1] == []
