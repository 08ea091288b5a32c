"""SmolLM3 (Hugging Face 2025): a Llama that does not turn queries and keys in every fourth layer (NoPE)."""

from __future__ import annotations

from typing import Any

from ...config import LayerConfig, ModelConfig
from ...formats.gguf_model import GgufSettings
from ...formats.hf_config import HfConfig
from . import llama, shared
from .family import DecodeRoles

NAME = "smollm3"
TITLE = "SmolLM3"
MODEL_TYPES = ("smollm3",)
GGUF_ARCHITECTURES = ("smollm3",)
FINAL_NORM = shared.FINAL_NORM
DECODE: DecodeRoles | None = None
NORMS_ADD_ONE = False
CHAT_FORMATS = ("chatml",)
NO_ROPE_INTERVAL = 4

gguf_names, write_gguf, block_vectors, block_order, block = (
    llama.gguf_names, llama.write_gguf, llama.block_vectors, llama.block_order, llama.block,
)  # fmt: skip


def _layers(turned: list[int], windows: list[int | None]) -> tuple[LayerConfig, ...]:
    pairs = zip(turned, windows, strict=True)
    return tuple(LayerConfig(window, rope=0 if turns else None) for turns, window in pairs)


def _windows(config: HfConfig, turned: list[int]) -> list[int | None]:
    """Return each layer's window. Switched on, which no published one has, it is for the layers that do not turn."""
    window = shared.read_window(config, None) if config.get("use_sliding_window") else None
    default = ["full_attention" if turns else "sliding_attention" for turns in turned]
    kinds = shared.read_layer_types(config, len(turned), default)
    return [window if kind == "sliding_attention" else None for kind in kinds]


def _every(interval: int, num_layers: int) -> list[int]:
    return [int((layer + 1) % interval != 0) for layer in range(num_layers)]


def read_hf(config: HfConfig, name: str) -> ModelConfig | None:
    """Left-out optional fields take the values that transformers' SmolLM3Config gives them."""
    config.refuse_other_class("SmolLM3ForCausalLM")
    config.refuse_biases("attention_bias", "mlp_bias")
    config.refuse_other_activation("hidden_act", "silu", "swish")
    config.refuse_quantization()
    fields = shared.read_hf_fields(config, name, tied=True, max_positions=32_768, theta=2_000_000.0)
    turned = config.get("no_rope_layers")  # 0 where there is none, in spite of the name
    if turned is None:
        turned = _every(config.size("no_rope_layer_interval", NO_ROPE_INTERVAL), fields["num_layers"])
    if not isinstance(turned, list) or len(turned) != fields["num_layers"] or not set(turned) <= {0, 1}:
        config.wrong("no_rope_layers", f"{fields['num_layers']} times 0 or 1")
        return None
    layers = _layers(turned, _windows(config, turned))
    return None if config.problems else shared.make_config(NAME, layers=layers, **fields)


def read_gguf(settings: GgufSettings, eos_token_ids: tuple[int, ...], name: str) -> ModelConfig | None:
    """GGUF says nothing of the layers without RoPE: llama.cpp takes every fourth."""
    fields = shared.read_gguf_fields(settings, eos_token_ids, name)
    if settings.problems:
        return None
    turned = _every(NO_ROPE_INTERVAL, fields["num_layers"])
    return shared.make_config(NAME, layers=_layers(turned, [None] * len(turned)), **fields)


def write_hf(config: ModelConfig) -> dict[str, Any]:
    """Which layers turn, and a window, if any."""
    turned = [0 if config.layer(index).rope is None else 1 for index in range(config.num_layers)]
    window = shared.window_of(config)
    more = {"no_rope_layers": turned, "use_sliding_window": window is not None, "sliding_window": window}
    fields = shared.write_hf_fields(config, "SmolLM3ForCausalLM", "smollm3", mlp_bias=False, **more)
    del fields["head_dim"]
    return {**fields, "layer_types": shared.layer_types(config)}
