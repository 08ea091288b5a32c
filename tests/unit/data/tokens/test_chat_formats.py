"""The formats for models without a template: what each writes, its end of a turn, and that masks are the answers."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lora_lab.data.rows.messages import Message
from lora_lab.data.rows.schema import Conversation
from lora_lab.data.tokens.chat_formats import FORMATS, chosen_template, end_token, template_of
from lora_lab.data.tokens.mask import mask_conversation
from lora_lab.data.tokens.template import ChatTemplate, TemplateError
from lora_lab.data.tokens.tokenizer import Tokenizer, load_tokenizer
from lora_lab.formats.tokenizer_files import TokenizerFiles
from tests.unit.data.helpers import llama2_like_files, smollm2_files

pytestmark = pytest.mark.unit

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
MARKERS = ["<s>", "</s>", "<|eot_id|>", "<end_of_turn>", "<|end_of_text|>", "<|end|>"]
ENDS = {"plain": "</s>", "chatml": "<|im_end|>", "llama3": "<|eot_id|>", "mistral": "</s>", "gemma": "<end_of_turn>",
        "granite": "<|end_of_text|>", "tulu": "</s>", "phi3": "<|end|>"}  # fmt: skip
TALK = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Ho."), ("user", "And?"), ("assistant", "Bye.")]
WRITTEN = {
    "plain": "Be brief.HiHo.And?Bye.</s>",
    "chatml": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo."
    "<|im_end|>\n<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\nBye.<|im_end|>\n",
    "llama3": "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user"
    "<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHo.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nAnd?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    "Bye.<|eot_id|>",
    "mistral": "<s>[INST] Be brief.\n\nHi[/INST] Ho.</s>[INST] And?[/INST] Bye.</s>",
    "gemma": "<s><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHo.<end_of_turn>\n"
    "<start_of_turn>user\nAnd?<end_of_turn>\n<start_of_turn>model\nBye.<end_of_turn>\n",
    "granite": "<|start_of_role|>system<|end_of_role|>Be brief.<|end_of_text|>\n<|start_of_role|>user<|end_of_role|>Hi"
    "<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>Ho.<|end_of_text|>\n<|start_of_role|>user"
    "<|end_of_role|>And?<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>Bye.<|end_of_text|>\n",
    "tulu": "<s><|system|>\nBe brief.\n<|user|>\nHi\n<|assistant|>\nHo.</s>\n<|user|>\nAnd?\n<|assistant|>\nBye.</s>\n",
    "phi3": "<|system|>\nBe brief.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHo.<|end|>\n<|user|>\nAnd?<|end|>\n"
    "<|assistant|>\nBye.<|end|>\n",
}


@functools.cache
def _tokenizer(kind: str = "special") -> Tokenizer:
    """SmolLM2's tokens: `special`, every format's end among them; `text`, none of any format's markers."""
    tokenizer_json = copy.copy(smollm2_files().tokenizer_json)
    added = [token for token in tokenizer_json["added_tokens"] if kind == "special" or "|im_" not in token["content"]]
    names = MARKERS if kind == "special" else ["<s>", "</s>"]
    added += [{"id": 49152 + i, "content": name, "special": True, "single_word": False, "lstrip": False,
               "rstrip": False, "normalized": False} for i, name in enumerate(names)]  # fmt: skip
    tokenizer_json["added_tokens"] = added
    if kind == "text":
        model = copy.copy(tokenizer_json["model"])
        model["vocab"] = {name.replace("|im_", "|in_"): token for name, token in model["vocab"].items()}
        tokenizer_json["model"] = model
    return load_tokenizer(TokenizerFiles(tokenizer_json, None, SPECIAL))


def _template(name: str, kind: str = "special") -> ChatTemplate:
    return template_of(FORMATS[name], _tokenizer(kind), SPECIAL)


def test_every_format_is_looked_at() -> None:
    assert FORMATS.keys() == ENDS.keys() == WRITTEN.keys()


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_writes_what_its_family_writes(name: str) -> None:
    template = _template(name)
    messages = [{"role": role, "content": content} for role, content in TALK]
    assert template.render(messages) == WRITTEN[name]
    asked = template.render(messages[:-1], add_generation_prompt=True)
    assert WRITTEN[name].startswith(asked) and asked + "Bye." in WRITTEN[name].replace("] Bye", "]Bye")
    assert template.end_of_turn == ENDS[name]


@pytest.mark.parametrize("name", FORMATS)
def test_the_end_of_a_turn_is_one_token_or_text(name: str) -> None:
    assert end_token(_template(name), _tokenizer()) == _tokenizer().token_to_id(ENDS[name])
    is_eos = ENDS[name] == "</s>"
    assert (end_token(_template(name, "text"), _tokenizer("text")) is not None) == is_eos


words = st.text(st.sampled_from("abc XYZ 019.,?!'\n<|_>é"), min_size=1, max_size=20).filter(lambda text: text.strip())


@pytest.mark.parametrize("kind", ["special", "text"])
@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=15, deadline=None)
@given(answers=st.lists(words, min_size=1, max_size=3))
def test_the_mask_covers_exactly_the_answers(name: str, kind: str, answers: list[str]) -> None:
    """Words and end of turn, not the line break behind; of plain text the words, and the text's end behind the last."""
    assume(not any(marker in answer for answer in answers for marker in ("<|", "|>", "<s", "</")))
    tokenizer = _tokenizer(kind)
    turns = [turn for answer in answers for turn in (Message("user", "Hi there"), Message("assistant", answer))]
    masked = mask_conversation(Conversation(1, tuple(turns)), tokenizer, _template(name, kind))
    assume(not masked.blurred_turns)  # an answer that begins with what melts into the header
    places = np.zeros(len(masked.tokens), np.bool_)
    for number, ((_, first, stop), answer) in enumerate(zip(masked.turns, answers, strict=True)):
        end = "" if name == "plain" and number + 1 < len(answers) else ENDS[name]
        wanted = (answer.strip() if name in ("llama3", "gemma") else answer) + end
        ids = masked.tokens[first:stop].tolist()
        space = " " * (name == "mistral")
        text, without_last = (tokenizer.decode(part).removeprefix(space) for part in (ids, ids[:-1]))
        if tokenizer.token_to_id(end) in tokenizer.special_ids:
            assert text == wanted
        else:  # the token that has the end of the text in it may have what follows in it too, e.g. a line break
            assert text.startswith(wanted) and not without_last.startswith(wanted), (text, wanted)
        places[first:stop] = True
    assert (masked.trained == places).all()


def test_a_mask_of_text_markers_where_tokens_have_no_sizes() -> None:
    files = llama2_like_files()
    tokenizer = load_tokenizer(files)
    template = template_of(FORMATS["chatml"], tokenizer, files.special_tokens)
    assert template.source.startswith("{{- bos_token -}}\n"), "this tokenizer begins every text with it"
    row = Conversation(1, (Message("user", "the dog"), Message("assistant", "the end.")))
    masked = mask_conversation(row, tokenizer, template)
    ((_, first, stop),) = masked.turns
    assert tokenizer.decode(masked.tokens[first:stop].tolist()).strip() == "the end.<|im_end|>"


def test_a_model_of_its_own_template_has_no_chosen_end() -> None:
    source = smollm2_files().chat_template
    assert source and ChatTemplate(source).end_of_turn == ""
    assert chosen_template(source, {}).end_of_turn == "<|im_end|>"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{% for message in messages %}", "line 1"),
        ("{{ raise_exception('never') }}", "never"),
        ("{{ messages[0].content }}", "does not write what the assistant says"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
    ],
)
def test_a_template_that_cannot_be_used_says_why(source: str, said: str) -> None:
    with pytest.raises(TemplateError, match=said):
        chosen_template(source, {})
