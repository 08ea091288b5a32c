"""Chat formats for models that bring no template: as their families' instruct models write conversations.

Each is a few lines of jinja, written here. An answer ends with a marker, and a reply with it: `chosen_template` finds
it by rendering, so that the same holds of a template from a file. Knows nothing of families: they name their formats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lora_lab.data.tokens.template import ChatTemplate, TemplateError
from lora_lab.data.tokens.tokenizer import Tokenizer

_MARK = "\ufdef"  # a noncharacter, as in align.py


@dataclass(frozen=True)
class ChatFormat:
    """A way to write conversations. `writes_begin`: it writes the beginning-of-text token itself."""

    title: str
    source: str
    writes_begin: bool = False


# Messages one behind the other, and the end of the text behind the last; the chat goes on with what was written.
PLAIN = ChatFormat(
    "Plain text",
    "{% for message in messages %}{{ message.content }}{% endfor %}"
    "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}",
)

CHATML = ChatFormat(
    "ChatML",
    """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{% endif %}
""",
)

LLAMA3 = ChatFormat(
    "Llama 3",
    """\
{{- bos_token }}
{%- for message in messages %}
{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' + message.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}
""",
    writes_begin=True,
)

# The system message stands before the first question, as these two have no turn for it.
MISTRAL = ChatFormat(
    "Mistral",
    """\
{%- set texts = namespace(before='') %}
{{- bos_token }}
{%- for message in messages %}
{%- if message.role == 'system' %}{% set texts.before = texts.before + message.content + '\n\n' %}
{%- elif message.role == 'assistant' %}{{- ' ' + message.content + '</s>' }}
{%- else %}{{- '[INST] ' + texts.before + message.content + '[/INST]' }}{% set texts.before = '' %}
{%- endif %}
{%- endfor %}
""",
    writes_begin=True,
)

GEMMA = ChatFormat(
    "Gemma",
    """\
{%- set texts = namespace(before='') %}
{{- bos_token }}
{%- for message in messages %}
{%- if message.role == 'system' %}{% set texts.before = texts.before + message.content + '\n\n' %}
{%- else %}
{%- set role = 'model' if message.role == 'assistant' else message.role %}
{{- '<start_of_turn>' + role + '\n' + (texts.before + message.content) | trim + '<end_of_turn>\n' }}
{%- set texts.before = '' %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<start_of_turn>model\n' }}{% endif %}
""",
    writes_begin=True,
)

GRANITE = ChatFormat(
    "Granite",
    """\
{%- for message in messages %}
{{- '<|start_of_role|>' + message.role + '<|end_of_role|>' + message.content + '<|end_of_text|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_of_role|>assistant<|end_of_role|>' }}{% endif %}
""",
)

TULU = ChatFormat(
    "Tülu",
    """\
{{- bos_token }}
{%- for message in messages %}
{{- '<|' + message.role + '|>\n' + message.content }}
{%- if message.role == 'assistant' %}{{- eos_token or '<|endoftext|>' }}{% endif %}
{{- '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>\n' }}{% endif %}
""",
    writes_begin=True,
)

PHI3 = ChatFormat(
    "Phi-3",
    """\
{%- for message in messages %}
{{- '<|' + message.role + '|>\n' + message.content + '<|end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>\n' }}{% endif %}
""",
)

FORMATS: dict[str, ChatFormat] = {
    "plain": PLAIN, "chatml": CHATML, "llama3": LLAMA3, "mistral": MISTRAL, "gemma": GEMMA, "granite": GRANITE,
    "tulu": TULU, "phi3": PHI3,
}  # fmt: skip


def template_of(chat_format: ChatFormat, tokenizer: Tokenizer, special_tokens: Mapping[str, str]) -> ChatTemplate:
    """Return a format as a template for this tokenizer, with its beginning of text where that begins every text."""
    begin = special_tokens.get("bos_token")
    source = chat_format.source
    if begin and not chat_format.writes_begin:
        first = tokenizer.encode("a", add_special_tokens=True)[:1]
        source = ("{{- bos_token -}}\n" if first == [tokenizer.token_to_id(begin)] else "") + source
    return chosen_template(source, special_tokens)


def chosen_template(source: str, special_tokens: Mapping[str, str]) -> ChatTemplate:
    """Return a template that is not the model's own, its end of a turn found. TemplateError when it cannot be used."""
    template = ChatTemplate(source, special_tokens)
    template.end_of_turn = _find_end_of_turn(template)
    return template


def _find_end_of_turn(template: ChatTemplate) -> str:
    """Return what the template writes behind an answer, its first line; "" for nothing."""
    asked = {"role": "user", "content": "Question"}
    text = template.render([asked, {"role": "assistant", "content": f"Answer{_MARK}"}])
    if _MARK not in text:
        raise TemplateError("the chat template does not write what the assistant says")
    return text.rpartition(_MARK)[2].strip().split("\n")[0].strip()


def end_token(template: ChatTemplate, tokenizer: Tokenizer) -> int | None:
    """Return the one token that the template's end of a turn is; None where it is several, or there is none."""
    ids = tokenizer.encode(template.end_of_turn) if template.end_of_turn else []
    return ids[0] if len(ids) == 1 else None
