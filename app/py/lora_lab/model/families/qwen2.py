"""Qwen 2 and 2.5 (Yang et al. 2024): a Llama whose q, k and v have a bias."""

from __future__ import annotations

from typing import Any

from ...config import LayerConfig, ModelConfig
from ...formats.gguf_model import GgufNames, GgufSettings
from ...formats.hf_config import HfConfig
from ...gpu.plan import Tensor
from ..block import Pass
from . import llama, shared
from .family import DecodeRoles
from .shared import ATTENTION_IN, ATTENTION_OUT, MLP_IN, MLP_OUT

NAME = "qwen2"
TITLE = "Qwen 2"
MODEL_TYPES = ("qwen2",)
GGUF_ARCHITECTURES = ("qwen2",)
FINAL_NORM = shared.FINAL_NORM
DECODE: DecodeRoles | None = None
NORMS_ADD_ONE = False
CHAT_FORMATS = ("chatml",)
WINDOW, FIRST_WINDOW = 4096, 28  # transformers' defaults where a window is switched on


def read_layers(config: HfConfig, num_layers: int) -> tuple[LayerConfig, ...]:
    """Return the layers where windows are switched on: those from `max_window_layers` on, or as `layer_types` says.

    Published ones have it switched off. GGUF says nothing of it, and neither does llama.cpp's reader.
    """
    if not config.get("use_sliding_window"):
        return ()
    first = config.get("max_window_layers", FIRST_WINDOW)
    if isinstance(first, bool) or not isinstance(first, int) or first < 0:
        config.wrong("max_window_layers", "a whole number of at least 0")
        return ()
    default = ["full_attention"] * min(first, num_layers) + ["sliding_attention"] * max(0, num_layers - first)
    kinds = shared.read_layer_types(config, num_layers, default)
    return shared.sliding_layers(kinds, shared.read_window(config, WINDOW))


def read_hf(config: HfConfig, name: str) -> ModelConfig | None:
    """Left-out optional fields take the values that transformers' Qwen2Config gives them."""
    config.refuse_other_class("Qwen2ForCausalLM")
    config.refuse_other_activation("hidden_act", "silu", "swish")
    config.refuse_quantization()
    fields = shared.read_hf_fields(config, name, max_positions=32_768)
    layers = read_layers(config, fields["num_layers"])
    return None if config.problems else shared.make_config(NAME, layers=layers, **fields)


def read_gguf(settings: GgufSettings, eos_token_ids: tuple[int, ...], name: str) -> ModelConfig | None:
    """All of it is what GGUF says of every architecture."""
    fields = shared.read_gguf_fields(settings, eos_token_ids, name)
    return None if settings.problems else shared.make_config(NAME, **fields)


def windows(config: ModelConfig) -> dict[str, Any]:
    """Return the fields of config.json that say the windows."""
    window = shared.window_of(config)
    return {
        "use_sliding_window": window is not None,
        "sliding_window": window,
        "layer_types": shared.layer_types(config),
        "max_window_layers": config.num_layers,
    }


def write_hf(config: ModelConfig) -> dict[str, Any]:
    """The biases are taken for granted in this family."""
    fields = shared.write_hf_fields(config, "Qwen2ForCausalLM", "qwen2", **windows(config))
    del fields["attention_bias"], fields["head_dim"]
    return fields


write_gguf = llama.write_gguf


def gguf_names(config: ModelConfig) -> GgufNames:
    """As a Llama's, and nothing is permuted."""
    return GgufNames(whole=shared.GGUF_WHOLE, layer=llama.gguf_names(config).layer)


def block_vectors(config: ModelConfig, layer: int) -> dict[str, tuple[int, ...]]:
    """The gains and the three biases."""
    linears = [config.linear(layer, name) for name in ATTENTION_IN]
    biases = {f"{linear.module}.bias": (linear.out_size,) for linear in linears}
    return {**llama.block_vectors(config, layer), **biases}


def block_order(config: ModelConfig, layer: int) -> tuple[str, ...]:
    """Each bias behind its layer."""
    found: list[str] = []
    for name in llama.block_order(config, layer):
        found.append(name)
        if name in ATTENTION_IN:
            found.append(f"{config.linear(layer, name).module}.bias")
    return tuple(found)


def block(run: Pass, layer: int, x: Tensor) -> Tensor:
    """A Llama's block with biases on q, k and v."""
    h = run.norm(layer, "input_layernorm", x)
    q, k, v = run.linears(layer, ATTENTION_IN, h)
    q, k, v = (run.bias(layer, f"self_attn.{name}", part) for name, part in zip(ATTENTION_IN, (q, k, v), strict=True))
    q, k = run.rope(layer, q, k)
    (x,) = run.linears(layer, ATTENTION_OUT, run.attend(layer, q, k, v), residual=x)
    h = run.norm(layer, "post_attention_layernorm", x)
    gate, up = run.linears(layer, MLP_IN, h)
    (x,) = run.linears(layer, MLP_OUT, run.glu(gate, up), residual=x)
    return x
