"""A model that was opened: what its files say, checked, the weights still where they lie."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import ModelConfig
from ..formats.byte_source import ByteSource
from ..formats.tensors import StoredTensor
from ..formats.tokenizer_files import TokenizerFiles


@dataclass(frozen=True)
class ModelFiles:
    """A model whose files fit together: every tensor that the settings need is there and has the right shape."""

    config: ModelConfig
    tensors: dict[str, StoredTensor]  # by Hugging Face's names
    tokenizer: TokenizerFiles
    name: str
    hub_id: str | None = None  # OWNER/NAME on the Hugging Face hub, where the files say it
    sources: tuple[ByteSource, ...] = ()  # all that was given, the small files too
