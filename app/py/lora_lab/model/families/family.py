"""What a model family's file answers. A family is a module that has these names; nothing else knows a family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from ...config import ModelConfig
from ...formats.gguf_model import GgufNames, GgufSettings
from ...formats.hf_config import HfConfig
from ...gpu.plan import Tensor
from ..block import Pass


@dataclass(frozen=True)
class DecodeRoles:
    """Which of a block's parts are what in the fast forward pass of one token (model/decode.py).

    It is made for blocks that are norm, attention, residual, norm, SwiGLU, residual, and nothing else. The four groups
    of linear layers are ModelConfig.joined_names, the same in every layer: into and out of attention, into and out of
    the MLP.
    """

    attention_norm: str
    mlp_norm: str


class Family(Protocol):
    """One model family."""

    @property
    def NAME(self) -> str:
        """What ModelConfig.architecture says."""

    @property
    def TITLE(self) -> str:
        """What people call it."""

    @property
    def MODEL_TYPES(self) -> tuple[str, ...]:
        """The values of `model_type` in config.json."""

    @property
    def GGUF_ARCHITECTURES(self) -> tuple[str, ...]:
        """The values of `general.architecture` in GGUF."""

    @property
    def FINAL_NORM(self) -> str:
        """The tensor behind the last block."""

    @property
    def NORMS_ADD_ONE(self) -> bool:
        """Whether a norm multiplies by 1 + gain in Hugging Face's files."""

    @property
    def DECODE(self) -> DecodeRoles | None:
        """How one token goes through a block the fast way; None where only the general way is right."""

    @property
    def CHAT_FORMATS(self) -> tuple[str, ...]:
        """How its instruct models write conversations (data/tokens/chat_formats.py); the first that fits the tokens."""

    def read_hf(self, config: HfConfig, name: str) -> ModelConfig | None:
        """Return the settings of a Hugging Face folder. None when they cannot be made out; problems go to `config`."""

    def read_gguf(self, settings: GgufSettings, eos_token_ids: tuple[int, ...], name: str) -> ModelConfig | None:
        """The same for a GGUF file."""

    def write_hf(self, config: ModelConfig) -> dict[str, Any]:
        """Return config.json for a model that came as GGUF: what `read_hf` reads these settings from."""

    def write_gguf(self, config: ModelConfig) -> dict[str, Any]:
        """Return GGUF metadata that `read_gguf` reads these settings from, without `ARCHITECTURE.` before their names.

        What GGUF cannot say is left out.
        """

    def gguf_names(self, config: ModelConfig) -> GgufNames:
        """Return how the tensors are called in GGUF, and which of them are stored permuted."""

    def block_vectors(self, config: ModelConfig, layer: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of a layer's gains, biases and convolutions, by Hugging Face's path inside the block."""

    def block_order(self, config: ModelConfig, layer: int) -> tuple[str, ...]:
        """Return the names of those and of a layer's linear layers in the order in which data passes them."""

    def block(self, run: Pass, layer: int, x: Tensor) -> Tensor:
        """Return the residual stream (rows, C) behind a block, from the one before it."""
