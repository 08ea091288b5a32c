"""What a family's block is written with: the weights of one layer, and the ops with everything filled in that is the
same for the whole pass (the tape, the positions, the adapters, how attention reaches its keys).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..config import ModelConfig
from ..gpu.plan import Tensor
from ..ops.linear import LoraPair, linear, linear_joined
from ..ops.rmsnorm import rmsnorm
from ..ops.rope import rope
from ..ops.swiglu import swiglu
from ..ops.tape import Tape
from ..ops.weight import JoinedWeight, Weight

Adapters = Mapping[tuple[int, tuple[str, ...]], LoraPair]  # by (layer index, names of the layers it is for)
# attend(layer index, q, k, v) -> (rows, H * D): over the sequence in training, over a cache in chat.
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Block:
    """One layer's weights."""

    vectors: Mapping[str, Tensor]  # gains and the like, by Hugging Face's path inside the block: "input_layernorm"
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

    def norm(self, layer: int, name: str, x: Tensor) -> Tensor:
        """Return RMSNorm of x (rows, C) by a gain of the layer."""
        gain = self.blocks[layer].vectors[name]
        return rmsnorm(self.tape, x, gain, self.config.rms_norm_eps, f"{layer}.{name}")

    def linears(self, layer: int, names: tuple[str, ...], x: Tensor, residual: Tensor | None = None) -> list[Tensor]:
        """Return the results of layers that share x: one product, or one a form, unless only some have an adapter.

        `residual` is added to the result of a single layer.
        """
        weight, label = self.blocks[layer].linears[names], f"{layer}.{'+'.join(names)}"
        widths = [self.config.linear_shape(name)[0] for name in names]
        tape, adapters = self.tape, self.adapters
        if len(names) == 1:
            return [linear(tape, x, weight, adapters.get((layer, names)), label, residual=residual)]
        if not any((layer, (name,)) in adapters for name in names):
            return linear_joined(tape, x, weight, widths, adapters.get((layer, names)), label)
        return [
            linear(tape, x, weight, adapters.get((layer, (name,))), f"{layer}.{name}", sum(widths[:i]), widths[i])
            for i, name in enumerate(names)
        ]

    def rope(self, q: Tensor, k: Tensor) -> list[Tensor]:
        """Return q (rows, H * D) and k (rows, Hkv * D) turned by their positions, in place."""
        parts = [(q, self.config.num_heads), (k, self.config.num_kv_heads)]
        return rope(self.tape, parts, self.positions, self.table)

    def swiglu(self, gate: Tensor, up: Tensor) -> Tensor:
        """Return silu(gate) * up."""
        return swiglu(self.tape, gate, up)
