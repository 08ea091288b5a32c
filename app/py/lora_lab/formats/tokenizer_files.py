"""What a model's files hold of its tokenizer, in the terms of Hugging Face's files, wherever it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TokenizerFiles:
    """What a tokenizer and a chat template are made from."""

    tokenizer_json: dict[str, Any]
    chat_template: str | None
    special_tokens: dict[str, str]  # bos_token, eos_token, unk_token, pad_token; those that the model has
