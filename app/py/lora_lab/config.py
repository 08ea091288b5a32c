"""The frozen settings that travel through the whole program.

Letters used everywhere: B batch, T tokens, C channels (hidden size), H heads, D head size, V vocabulary, R rank.
Defaults are the ones FORMATS.md argues for (effective batch 8, rank 16, alpha 32, 2e-4 with a cosine schedule).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

# Every linear layer of a Llama block, in the order the data passes them. The names are Hugging Face's.
LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
# Those that share their input, and so can be one product.
JOINED_LAYERS: tuple[tuple[str, ...], ...] = (
    ("q_proj", "k_proj", "v_proj"),
    ("o_proj",),
    ("gate_proj", "up_proj"),
    ("down_proj",),
)
ATTENTION_LAYERS = frozenset({"q_proj", "k_proj", "v_proj", "o_proj"})


@dataclass(frozen=True)
class ModelConfig:
    """Dimensions and constants of a Llama-architecture model, as read from its files."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float
    max_position_embeddings: int
    tie_word_embeddings: bool
    # Hugging Face's `rope_scaling` (or the scaling half of `rope_parameters`); None means plain RoPE.
    rope_scaling: dict[str, Any] | None = None
    architecture: str = "llama"
    name: str = "model"
    bos_token_id: int | None = None
    # Tokens that end a turn or a text: generation stops at any of them.
    eos_token_ids: tuple[int, ...] = ()

    @property
    def query_size(self) -> int:
        """Width of the query projection, H * D."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of the key and of the value projection, Hkv * D."""
        return self.num_kv_heads * self.head_dim

    def linear_shape(self, layer_name: str) -> tuple[int, int]:
        """Return (out, in) of one of LINEAR_LAYERS."""
        c, i = self.hidden_size, self.intermediate_size
        return {
            "q_proj": (self.query_size, c),
            "k_proj": (self.kv_size, c),
            "v_proj": (self.kv_size, c),
            "o_proj": (c, self.query_size),
            "gate_proj": (i, c),
            "up_proj": (i, c),
            "down_proj": (c, i),
        }[layer_name]


def module_path(layer_index: int, layer_name: str) -> str:
    """Return Hugging Face's module path of a linear layer, e.g. `model.layers.0.self_attn.q_proj`."""
    block = "self_attn" if layer_name in ATTENTION_LAYERS else "mlp"
    return f"model.layers.{layer_index}.{block}.{layer_name}"


@dataclass(frozen=True)
class LoraConfig:
    """Which linear layers get an adapter and how wide it is. The scale is alpha / rank."""

    rank: int = 16
    alpha: float = 32
    targets: tuple[str, ...] = LINEAR_LAYERS
    use_rslora: bool = False  # scale = alpha / sqrt(rank)

    @property
    def scale(self) -> float:
        return self.alpha / (self.rank**0.5 if self.use_rslora else self.rank)


Packing = Literal["auto"] | bool
PACKING: dict[str, Packing] = {"auto": "auto", "on": True, "off": False}  # as people say it


@dataclass(frozen=True)
class TrainConfig:
    """One training run. `batch` rows are a micro-batch; `accumulate` micro-batches make one optimizer step."""

    steps: int | None = None  # None: `epochs` decides
    epochs: float = 1.0
    batch: int = 1
    accumulate: int = 8
    learning_rate: float = 2e-4
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_steps: int | None = None  # None: 5 % of the steps
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0  # 0 turns clipping off
    beta1: float = 0.9
    beta2: float = 0.999
    adam_eps: float = 1e-8
    max_length: int = 512
    # Whether layers compute their activations a second time in the backward pass instead of keeping them: all of them,
    # none, or ("auto") as few as it takes for the activations to stay within the budget.
    recompute: Literal["auto"] | bool = "auto"
    activation_budget_bytes: int = 4 << 30
    seed: int = 0
    shuffle: bool = True
    validation_fraction: float = 0.0
    # The rows of a micro-batch in one sequence, which changes no result; "auto": where it saves enough.
    packing: Packing = "auto"


@dataclass(frozen=True)
class SamplingConfig:
    """How the next token is chosen, in Hugging Face's order: penalty, temperature, top-k, top-p, min-p."""

    max_new_tokens: int = 256
    temperature: float = 0.7  # 0 is greedy
    top_k: int = 0  # 0 is off
    top_p: float = 1.0  # 1 is off
    min_p: float = 0.0  # 0 is off
    repetition_penalty: float = 1.0  # 1 is off
    seed: int = 0
    stop_token_ids: tuple[int, ...] = field(default=())
