"""The forward pass of one new token: transformer's results from a third of its dispatches (ops/decode.py)."""

from __future__ import annotations

from collections.abc import Callable

from ..config import JOINED_LAYERS
from ..gpu.device import Device
from ..gpu.plan import Tensor, ceil_div
from ..ops import decode
from ..ops.decode import NO_ADAPTER, AdapterPlaces, Scratch
from ..ops.tape import Tape
from .lora import Adapter
from .transformer import Adapters, Model

Caches = Callable[[int], tuple[Tensor, Tensor]]  # k and v of a layer, (length, Hkv * D)
MAX_PARTS = 1 << 15  # floats that every workgroup of the next dispatch adds up: more would cost more than a dispatch


def can_decode(device: Device, model: Model, adapter: Adapter | None) -> bool:
    """Say whether `decode_logits` is made for this: a GPU, and sizes that its workgroups hold."""
    config = model.config
    if not device.use_workgroup_memory or config.head_dim % 8 or config.head_dim // 4 > decode.LANES:
        return False
    if adapter is None:
        return True
    rank, limits = adapter.config.rank, device.limits
    if adapter.params.size_bytes > limits.max_storage_buffer_binding_size or 3 * rank > decode.MAX_UNITS:
        return False
    return _region(model, rank) <= MAX_PARTS and _workgroup_bytes(rank, config.num_heads) <= (
        limits.max_workgroup_storage_size
    )


def _region(model: Model, rank: int) -> int:
    config = model.config
    whole = ceil_div(rank, 4) * 4
    of_hidden = decode.part_floats(config.hidden_size, 3 * whole)
    of_mlp = decode.part_floats(config.intermediate_size, whole)
    return max(of_hidden, of_mlp, decode.SPLITS * config.num_heads * whole, 64)


def _workgroup_bytes(rank: int, heads: int) -> int:
    helpers = decode.HELPERS if rank else 0
    vectors = 4 * (decode.LANES + helpers) + helpers + 1
    return 16 * vectors + 4 * (decode.LANES + 3 * rank + 4 + decode.COLUMNS + decode.SPLITS * heads)


def decode_logits(
    tape: Tape, model: Model, token: Tensor, table: Tensor, caches: Caches, adapters: Adapters, adapter: Adapter | None
) -> Tensor:
    """Return logits (1, V) after token (1), which stands at step.past; its keys and values join the caches.

    table: angles for every position (Model.rope_table). `adapters` are `adapter`'s pairs, or empty.
    """
    config = model.config
    rank = adapter.config.rank if adapter else 0
    region = _region(model, rank)
    parts = tape.tensor((2 * region,), "parts of u")
    scratch = Scratch(
        tape, adapter.params if adapter else model.norm, parts, region, ceil_div(3 * rank, 4) * 4, config.num_heads,
        config.num_kv_heads, config.head_dim,
    )  # fmt: skip
    attention_in, attention_out, mlp_in, mlp_out = JOINED_LAYERS
    eps = config.rms_norm_eps

    def places(layer: int, names: tuple[str, ...]) -> AdapterPlaces:
        if layer == config.num_layers:
            return NO_ADAPTER
        widths = [config.linear_shape(name)[0] for name in names]
        if (layer, names) in adapters:
            return AdapterPlaces.of(widths, [adapters[layer, names]])
        return AdapterPlaces.of(widths, [adapters.get((layer, (name,))) for name in names])

    x = decode.embed(scratch, token, model.embedding, model.blocks[0].input_norm, places(0, attention_in))
    for i, block in enumerate(model.blocks):
        following = model.blocks[i + 1].input_norm if i + 1 < config.num_layers else model.norm
        weights = block.linears
        widths = [config.linear_shape(name)[0] for name in attention_in]
        here = places(i, attention_in)
        qkv = decode.norm_linear(scratch, x, block.input_norm, eps, weights[attention_in], widths, here)
        attended = decode.attention(scratch, qkv, table, *caches(i), places(i, attention_out))
        x = decode.add_linear(
            scratch, attended, x.x, weights[attention_out], places(i, attention_out), block.post_attention_norm,
            places(i, mlp_in), attention=True,
        )  # fmt: skip
        h = decode.norm_swiglu(
            scratch, x, block.post_attention_norm, eps, weights[mlp_in], places(i, mlp_in), places(i, mlp_out)
        )
        x = decode.add_linear(
            scratch, h, x.x, weights[mlp_out], places(i, mlp_out), following, places(i + 1, attention_in)
        )
    return decode.norm_linear(scratch, x, model.norm, eps, model.lm_head, (model.lm_head.shape[0],), NO_ADAPTER)
