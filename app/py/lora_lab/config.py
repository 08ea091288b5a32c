"""The frozen settings that travel through the whole program.

Letters used everywhere: B batch, T tokens, C channels (hidden size), H heads, D head size, V vocabulary, R rank.
Defaults are those of the table in settings.py (effective batch 8, rank 16, alpha 32, 2e-4 with a cosine schedule).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from lora_lab import settings
from lora_lab.settings import SWITCH, Auto, Schedule


@dataclass(frozen=True)
class LinearLayer:
    """A linear layer of a block: the name that people and PEFT choose it by, where it stands in the block, its size."""

    name: str  # q_proj
    module: str  # self_attn.q_proj: Hugging Face's path inside the block
    out_size: int
    in_size: int


Groups = tuple[tuple[LinearLayer, ...], ...]


@dataclass(frozen=True)
class LayerConfig:
    """What may differ from layer to layer."""

    window: int | None = None  # how many positions a token sees, its own among them; None: all before it
    rope: int | None = 0  # which of ModelConfig.ropes turns its queries and keys; None: none does
    linears: Groups | None = None  # where it has others than ModelConfig.linears
    conv_taps: int = 0  # of the short convolution that it has in place of attention; 0: it has attention


@dataclass(frozen=True)
class RopeConfig:
    """One rotary embedding: its base and Hugging Face's `rope_scaling`; None means plain RoPE."""

    theta: float
    scaling: dict[str, Any] | None = None


@dataclass(frozen=True)
class ModelConfig:
    """Dimensions and constants of a model, as its family (model/families) reads them from its files."""

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
    # Every linear layer of a block, in the order in which data passes them; those that share their input stand together
    # and can be one product. Layers may have others of their own.
    linears: Groups
    # Which of them PEFT adapts where an adapter's file says none.
    peft_targets: tuple[str, ...]
    # Hugging Face's `rope_scaling` (or the scaling half of `rope_parameters`); None means plain RoPE.
    rope_scaling: dict[str, Any] | None = None
    # What a Llama does not have; the values here are Llama's.
    other_ropes: tuple[RopeConfig, ...] = ()  # for layers that are not turned by rope_theta and rope_scaling
    rotary_dim: int | None = None  # how many of a head's channels are turned; None: all
    layers: tuple[LayerConfig, ...] = ()  # one a layer; none: all are alike
    gelu: bool = False  # GELU's tanh form in the MLP, not SiLU
    embedding_scale: float = 1.0
    residual_scale: float = 1.0  # of what each branch adds
    attention_scale: float | None = None  # of q . k; None: head_dim^-0.5
    logit_scale: float = 1.0  # the last norm's gain is multiplied by it when it is loaded
    attention_softcap: float = 0.0  # 0: none
    logit_softcap: float = 0.0
    architecture: str = "llama"  # the name of its family
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

    @property
    def ropes(self) -> tuple[RopeConfig, ...]:
        """Every rotary embedding that layers name by its place."""
        return (RopeConfig(self.rope_theta, self.rope_scaling), *self.other_ropes)

    def layer(self, index: int) -> LayerConfig:
        """Return what is particular to a layer."""
        return self.layers[index] if self.layers else LayerConfig()

    def layer_linears(self, index: int) -> Groups:
        """Return a layer's linear layers, as `linears` has them."""
        own = self.layer(index).linears
        return self.linears if own is None else own

    def joined_names(self, index: int) -> tuple[tuple[str, ...], ...]:
        """Return the names of a layer's linear layers, those that share their input together."""
        return tuple(tuple(linear.name for linear in group) for group in self.layer_linears(index))

    def names_in(self, index: int) -> tuple[str, ...]:
        """Return the names of a layer's linear layers, in the order in which data passes them."""
        return tuple(linear.name for group in self.layer_linears(index) for linear in group)

    @property
    def linear_names(self) -> tuple[str, ...]:
        """The names of the linear layers of all layers, in the order in which data passes them."""
        found: list[str] = []
        kinds = {layer.linears: index for index, layer in enumerate(self.layers)} or {None: 0}
        for index in kinds.values():
            at = len(found)
            for name in reversed(self.names_in(index)):  # a new one goes before the one that follows it
                if name in found:
                    at = found.index(name)
                else:
                    found.insert(at, name)
        return tuple(found)

    def chosen_linears(self, names: Collection[str]) -> tuple[str, ...]:
        """Return those of `names` that the model has, in the order in which data passes them."""
        return tuple(name for name in self.linear_names if name in names)

    def linear(self, index: int, name: str) -> LinearLayer:
        """Return a layer's linear layer by its name. KeyError when there is none."""
        for group in self.layer_linears(index):
            for linear in group:
                if linear.name == name:
                    return linear
        raise KeyError(f"{name}: layer {index} of {self.name} has {', '.join(self.names_in(index))}")

    def linear_shape(self, index: int, name: str) -> tuple[int, int]:
        """Return (out, in) of one of a layer's linear layers."""
        linear = self.linear(index, name)
        return linear.out_size, linear.in_size

    def module_path(self, layer_index: int, name: str) -> str:
        """Return Hugging Face's module path of a linear layer, e.g. `model.layers.0.self_attn.q_proj`."""
        return f"model.layers.{layer_index}.{self.linear(layer_index, name).module}"


@dataclass(frozen=True)
class LoraConfig:
    """Which linear layers get an adapter and how wide it is. The scale is alpha / rank."""

    rank: int = settings.RANK.default
    alpha: float = settings.ALPHA.default
    targets: tuple[str, ...] = settings.TARGETS.default
    use_rslora: bool = False  # scale = alpha / sqrt(rank)

    @property
    def scale(self) -> float:
        return self.alpha / (self.rank**0.5 if self.use_rslora else self.rank)


@dataclass(frozen=True)
class TrainConfig:
    """One training run. `batch` rows are a micro-batch; `accumulate` micro-batches make one optimizer step."""

    steps: int | None = settings.STEPS.default  # None: `epochs` decides
    epochs: float = settings.EPOCHS.default
    batch: int = settings.ROWS_AT_ONCE.default
    accumulate: int = settings.ACCUMULATE.default
    learning_rate: float = settings.LEARNING_RATE.default
    schedule: Schedule = settings.SCHEDULE.default
    warmup_steps: int | None = settings.WARMUP_STEPS.default  # None: 5 % of the steps
    weight_decay: float = settings.WEIGHT_DECAY.default
    max_grad_norm: float = settings.MAX_GRAD_NORM.default  # 0 turns clipping off
    beta1: float = 0.9
    beta2: float = 0.999
    adam_eps: float = 1e-8
    max_length: int = settings.MAX_LENGTH.default
    # Whether layers compute their activations a second time in the backward pass instead of keeping them: all of them,
    # none, or ("auto") as few as it takes for the activations to stay within the budget.
    recompute: Auto = SWITCH[settings.RECOMPUTE.default]
    activation_budget_bytes: int = settings.ACTIVATION_MEMORY.default << 20
    seed: int = settings.SEED.default
    shuffle: bool = settings.SHUFFLE.default
    validation_fraction: float = settings.VALIDATION_FRACTION.default
    # The rows of a micro-batch in one sequence, which changes no result; "auto": where it saves enough.
    packing: Auto = SWITCH[settings.PACKING.default]


@dataclass(frozen=True)
class SamplingConfig:
    """How the next token is chosen, in Hugging Face's order: penalty, temperature, top-k, top-p, min-p."""

    max_new_tokens: int = settings.MAX_NEW_TOKENS.default
    temperature: float = settings.TEMPERATURE.default  # 0 is greedy
    top_k: int = settings.TOP_K.default  # 0 is off
    top_p: float = settings.TOP_P.default  # 1 is off
    min_p: float = settings.MIN_P.default  # 0 is off
    repetition_penalty: float = settings.REPETITION_PENALTY.default  # 1 is off
    seed: int = settings.REPLY_SEED.default
    stop_token_ids: tuple[int, ...] = field(default=())
