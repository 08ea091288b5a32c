"""What a model without a template is offered, and what suits it: its family's format where the tokens know its end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lora_lab.config import ModelConfig
from lora_lab.data.tokens.chat_formats import FORMATS
from lora_lab.data.tokens.tokenizer import load_tokenizer
from lora_lab.formats.tokenizer_files import TokenizerFiles
from lora_lab.model.chat_choice import ChatChoice
from lora_lab.model.families import FAMILIES, llama
from lora_lab.model.model_files import ModelFiles
from tests.tiny_model import build_tokenizer

pytestmark = pytest.mark.unit

CONFIG = llama.make_config(
    vocab_size=384, hidden_size=64, intermediate_size=96, num_layers=1, num_heads=4, num_kv_heads=2, head_dim=16,
    rope_theta=10_000.0, rms_norm_eps=1e-5, max_position_embeddings=512, eos_token_ids=(2,), tie_word_embeddings=True,
)  # fmt: skip


def choice_of(family: str, *more: str, eos: str = "<|endoftext|>", bare: bool = False) -> ChatChoice:
    """Return the choice of a family whose tokenizer has these special tokens; `bare`: without ChatML's."""
    import json

    tokenizer_json: dict[str, Any] = json.loads(build_tokenizer(384).to_str())
    size = len(tokenizer_json["model"]["vocab"])
    for number, name in enumerate(more):
        token = {**tokenizer_json["added_tokens"][0], "id": size + number, "content": name}
        tokenizer_json["added_tokens"].append(token)
    if bare:
        tokenizer_json = json.loads(json.dumps(tokenizer_json).replace("|im_", "|in_"))
    files = TokenizerFiles(tokenizer_json, None, {"eos_token": eos})
    config: ModelConfig = replace(CONFIG, architecture=family)
    return ChatChoice(ModelFiles(config, {}, files, "base"), load_tokenizer(files))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda one: one.NAME)
def test_every_family_names_formats_that_there_are(family: Any) -> None:
    assert family.CHAT_FORMATS and set(family.CHAT_FORMATS) <= FORMATS.keys() - {"plain"}
    title = FORMATS[family.CHAT_FORMATS[0]].title
    assert choice_of(family.NAME, eos="<|none|>", bare=True).offer("family").title == title


@pytest.mark.parametrize(
    ("family", "token", "eos", "title"),
    [
        ("llama", "<|eot_id|>", "<|endoftext|>", "Llama 3"),
        ("llama", "", "<|endoftext|>", "ChatML"),  # as SmolLM
        ("mistral", "</s>", "</s>", "Mistral"),
        ("qwen2", "", "<|endoftext|>", "ChatML"),
        ("qwen3", "", "<|endoftext|>", "ChatML"),
        ("gemma2", "<end_of_turn>", "<|endoftext|>", "Gemma"),
        ("gemma3", "<end_of_turn>", "<|endoftext|>", "Gemma"),
        ("smollm3", "", "<|endoftext|>", "ChatML"),
        ("granite", "<|end_of_text|>", "<|end_of_text|>", "Granite"),
        ("olmo2", "", "<|endoftext|>", "Tülu"),
        ("phi3", "<|end|>", "<|endoftext|>", "Phi-3"),
    ],
)
def test_what_suits_is_the_familys_own_where_its_end_is_a_token(family: str, token: str, eos: str, title: str) -> None:
    choice = choice_of(family, *[token] * bool(token), eos=eos)
    assert (choice.default, choice.offer("auto").value, choice.offer("family").title) == ("family", "family", title)
    assert "is a token of this model" in choice.offer("family").note
    # The control: the same family, whose tokenizer has no such token.
    other = choice_of(family, eos="<|none|>", bare=True)
    assert (other.default, other.offer("auto").title) == ("plain", "Plain text")
    assert "they are learned as text" in other.offer("family").note


def test_the_three_are_offered_with_what_there_is_to_know() -> None:
    offers = choice_of("llama", bare=True).offers
    assert [(one.value, one.title) for one in offers] == [
        ("plain", "Plain text"), ("chatml", "ChatML"), ("family", "Llama 3"),
    ]  # fmt: skip
    said = "its markers are no tokens of this model: they are learned as text"
    assert [one.note for one in offers] == ["", said, said]
