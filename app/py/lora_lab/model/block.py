"""What a family's block is written with: the weights of one layer, and the ops with everything filled in that is the
same for the whole pass (the tape, the positions, the adapters, how attention reaches its keys).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..config import ModelConfig
from ..gpu.plan import Tensor
from ..ops.attention import Scores
from ..ops.columns import split_columns
from ..ops.elementwise import add, add_bias, reshaped, scale
from ..ops.glu import glu
from ..ops.linear import LoraPair, linear, linear_joined
from ..ops.rmsnorm import rmsnorm
from ..ops.rope import rope
from ..ops.short_conv import short_conv, short_conv_cached
from ..ops.tape import Tape
from ..ops.weight import JoinedWeight, Weight

Adapters = Mapping[tuple[int, tuple[str, ...]], LoraPair]  # by (layer index, names of the layers it is for)
# attend(layer index, q, k, v) -> (rows, H * D): over the sequence in training, over a cache in chat.
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
Kept = Callable[[int], Tensor]  # the last inputs of a layer's convolution, over a cache


def scores_of(config: ModelConfig, layer: int) -> Scores:
    """Return how a layer scores queries and keys."""
    return Scores(config.attention_scale, config.layer(layer).window, config.attention_softcap)


@dataclass(frozen=True, eq=False)
class Block:
    """One layer's weights."""

    # Gains, biases and convolutions by Hugging Face's name inside the block: "input_layernorm.weight".
    vectors: Mapping[str, Tensor]
    # By ModelConfig.joined_names: layers that share their input are stacked, or joined where their forms differ.
    linears: Mapping[tuple[str, ...], Weight | JoinedWeight]


@dataclass(frozen=True, eq=False)
class Pass:
    """One forward pass through a model, for tokens at `positions` (rows)."""

    tape: Tape
    config: ModelConfig
    blocks: Sequence[Block]
    positions: Tensor
    table: Tensor  # angles, as Model.rope_table gives them
    attend: Attend
    adapters: Adapters
    kept: Kept | None = None  # over a cache

    def norm(self, layer: int, name: str, x: Tensor) -> Tensor:
        """Return RMSNorm of x (rows, C) by a gain (C) of the layer."""
        gain = self.blocks[layer].vectors[f"{name}.weight"]
        return rmsnorm(self.tape, x, gain, self.config.rms_norm_eps, f"{layer}.{name}")

    def head_norm(self, layer: int, name: str, x: Tensor) -> Tensor:
        """Return RMSNorm of each head of x (rows, heads * D) by a gain (D) of the layer."""
        gain = self.blocks[layer].vectors[f"{name}.weight"]
        heads = reshaped(self.tape, x, (x.size // gain.size, gain.size))
        normed = rmsnorm(self.tape, heads, gain, self.config.rms_norm_eps, f"{layer}.{name}")
        return reshaped(self.tape, normed, x.shape)

    def linears(self, layer: int, names: tuple[str, ...], x: Tensor, residual: Tensor | None = None) -> list[Tensor]:
        """Return the results of layers that share x: one product, or one a form, unless only some have an adapter.

        `residual` is added to the result of a single layer.
        """
        weight, label = self.blocks[layer].linears[names], f"{layer}.{'+'.join(names)}"
        widths = [self.config.linear_shape(layer, name)[0] for name in names]
        tape, adapters = self.tape, self.adapters
        if len(names) == 1:
            return [linear(tape, x, weight, adapters.get((layer, names)), label, residual=residual)]
        if not any((layer, (name,)) in adapters for name in names):
            return linear_joined(tape, x, weight, widths, adapters.get((layer, names)), label)
        return [
            linear(tape, x, weight, adapters.get((layer, (name,))), f"{layer}.{name}", sum(widths[:i]), widths[i])
            for i, name in enumerate(names)
        ]

    def columns(self, x: Tensor, widths: tuple[int, ...]) -> list[Tensor]:
        """Return x (rows, sum of widths) in parts, each (rows, width)."""
        return split_columns(self.tape, x, widths)

    def bias(self, layer: int, name: str, x: Tensor) -> Tensor:
        """Return x (rows, C) with a bias (C) of the layer added, in place."""
        return add_bias(self.tape, x, self.blocks[layer].vectors[f"{name}.bias"])

    def rope(self, layer: int, q: Tensor, k: Tensor) -> list[Tensor]:
        """Return q (rows, H * D) and k (rows, Hkv * D) turned by their positions, in place, if the layer turns any."""
        which = self.config.layer(layer).rope
        if which is None:
            return [q, k]
        parts = [(q, self.config.num_heads), (k, self.config.num_kv_heads)]
        return rope(self.tape, parts, self.positions, rope_part(self.table, which))

    def short_conv(self, layer: int, name: str, x: Tensor) -> Tensor:
        """Return C * (convolution of B * x), (rows, C), for B, C and x side by side in x (rows, 3 C)."""
        weight = self.blocks[layer].vectors[f"{name}.weight"]
        if self.kept is None:
            return short_conv(self.tape, x, weight, self.positions)
        return short_conv_cached(self.tape, x, weight, self.positions, self.kept(layer))

    def glu(self, gate: Tensor, up: Tensor) -> Tensor:
        """Return act(gate) * up, by the model's activation."""
        return glu(self.tape, gate, up, self.config.gelu)

    def scaled(self, x: Tensor, factor: float) -> Tensor:
        """Return factor * x; x itself for 1."""
        return x if factor == 1.0 else scale(self.tape, x, factor)

    def add(self, x: Tensor, branch: Tensor) -> Tensor:
        """Return x + branch, for a branch that ends in something else than a linear layer."""
        return add(self.tape, x, branch)


def rope_part(table: Tensor, which: int) -> Tensor:
    """Return one rotary embedding's angles (length, half, 2) out of Model.rope_table's (ropes, length, half, 2)."""
    part = table.shape[1:]
    size = 4 * part[0] * part[1] * part[2]
    return Tensor(part, table.storage, table.offset + which * size, table.label)
