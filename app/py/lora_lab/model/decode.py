"""The forward pass of one new token: transformer's results from a third of its dispatches (ops/decode.py)."""

from __future__ import annotations

from collections.abc import Callable

from ..config import ModelConfig
from ..gpu.device import Device
from ..gpu.plan import Tensor, Trace, ceil_div
from ..gpu.pool import Pool
from ..ops import decode
from ..ops.decode import NO_GROUP, Group, Scratch
from ..ops.tape import Tape
from ..ops.weight import JoinedWeight, Weight, runs
from .families import family_of
from .families.family import DecodeRoles
from .lora import Adapter
from .transformer import Model

Caches = Callable[[int], tuple[Tensor, Tensor]]  # k and v of a layer, (length, Hkv * D)
MAX_PARTS = 1 << 15  # floats that every workgroup of the next dispatch adds up: more would cost more than a dispatch


def can_decode(device: Device, model: Model, adapter: Adapter | None) -> bool:
    """Say whether `decode_logits` is made for this: the family's block, a GPU, and sizes that its workgroups hold.

    Its attention goes back to the first key in every layer.
    """
    config, limits = model.config, device.limits
    if family_of(config).DECODE is None or config.layers:
        return False
    if not device.use_workgroup_memory or config.head_dim % 8 or config.head_dim // 4 > decode.MIN_LANES:
        return False
    if config.hidden_size % decode.COLUMNS or config.intermediate_size % decode.COLUMNS:
        return False
    attention_in, *whole = config.joined_names(0)  # these are one dispatch each, which reads one piece
    if any(isinstance(block.linears[names], JoinedWeight) for block in model.blocks for names in whole):
        return False
    if isinstance(model.embedding, JoinedWeight):
        return False
    found = runs(model.lm_head, model.lm_head.shape[:1])
    for block in model.blocks:
        found += runs(block.linears[attention_in], _widths(config, attention_in))
    if any(run.row or run.begin % decode.COLUMNS for run in found):
        return False
    if decode.workgroup_bytes(adapter is not None) > limits.max_workgroup_storage_size:
        return False
    if adapter is None:
        return True
    ranks = 4 * ceil_div(adapter.config.rank, 4)
    if ranks > decode.MIN_LANES or _region(model, ranks) > MAX_PARTS:
        return False
    return 4 * _places(model, adapter)[1] <= limits.max_storage_buffer_binding_size


def _widths(config: ModelConfig, names: tuple[str, ...]) -> list[int]:
    """Return the outputs of each of these layers, of a model whose layers are all alike."""
    return [config.linear_shape(0, name)[0] for name in names]


def _region(model: Model, ranks: int) -> int:
    config = model.config
    of_hidden = decode.part_floats(config.hidden_size, 3 * ranks)
    of_mlp = decode.part_floats(config.intermediate_size, ranks)
    return max(of_hidden, of_mlp, decode.SPLITS * config.num_heads * ranks, 64)


def _places(model: Model, adapter: Adapter) -> tuple[dict[tuple[int, tuple[str, ...]], Group], int]:
    """Return where every group's matrices lie when packed, and how many floats that takes."""
    config, quads, at = model.config, ceil_div(adapter.config.rank, 4), 0
    groups = {}
    for layer in range(config.num_layers):
        for names in config.joined_names(layer):
            if not any((layer, name) in adapter.places for name in names):
                continue
            size_a = config.linear_shape(layer, names[0])[1] * len(names) * 4 * quads
            groups[layer, names] = Group(len(names), quads, at, at + size_a)
            at += size_a + sum(config.linear_shape(layer, name)[0] for name in names) * 4 * quads
    return groups, at


class PackedAdapter:
    """An adapter as `decode_logits` reads it: a copy, as it was at `pack` or at the last `refresh`.

    Its order is that of wgsl/decode_pack.wgsl.
    """

    def __init__(self, model: Model, adapter: Adapter) -> None:
        self.model, self.adapter = model, adapter
        self.groups, size = _places(model, adapter)
        self.buffer = model.device.plan_buffer(4 * size, "packed adapter")
        self.tensor = Tensor((size,), self.buffer, 0, "packed adapter")

    @classmethod
    async def pack(cls, model: Model, adapter: Adapter) -> PackedAdapter:
        """Return the adapter's matrices packed."""
        packed = cls(model, adapter)
        packed.buffer.allocate()
        try:
            await packed.refresh()
        except BaseException:  # who waits for a reply may give up
            packed.release()
            raise
        return packed

    async def refresh(self) -> None:
        """Pack the matrices as they are now."""
        device = self.model.device
        pool = Pool(device, "packing")
        try:
            plan = await device.build(self.trace(), pool, "pack the adapter")
            try:
                device.submit(plan)
                await device.finished()
            finally:
                plan.close()
        finally:
            pool.close()

    def trace(self) -> Trace:
        """Return the dispatches that pack it."""
        tape = Trace()
        config, lora = self.model.config, self.adapter.config
        attention_in, attention_out, mlp_in, _ = config.joined_names(0)
        roles = _roles(self.model)
        for (layer, names), group in self.groups.items():
            block = self.model.blocks[layer]
            norm = {attention_in: roles.attention_norm, mlp_in: roles.mlp_norm}.get(names)
            gain = None if norm is None else block.vectors[f"{norm}.weight"]
            places = [self.adapter.places.get((layer, name)) for name in names]
            columns = config.linear_shape(layer, names[0])[1]
            width = config.head_dim if names == attention_out else decode.COLUMNS
            source, rank = self.adapter.params, lora.rank
            of_a, of_b = ([None if place is None else place[which] for place in places] for which in (0, 1))
            decode.pack_a(tape, source, self.tensor, group, rank, lora.scale, of_a, columns, width, gain)
            widths = [config.linear_shape(layer, name)[0] for name in names]
            decode.pack_b(tape, source, self.tensor, group, rank, of_b, widths)
        return tape

    def release(self) -> None:
        """Give the memory back."""
        self.buffer.destroy()


def _one(weight: Weight | JoinedWeight) -> Weight:
    assert isinstance(weight, Weight), "can_decode was asked first"
    return weight


def _roles(model: Model) -> DecodeRoles:
    roles = family_of(model.config).DECODE
    assert roles is not None, "can_decode was asked first"
    return roles


def decode_logits(
    tape: Tape, model: Model, token: Tensor, table: Tensor, caches: Caches, adapter: PackedAdapter | None
) -> Tensor:
    """Return logits (1, V) after token (1), which stands at step.past; its keys and values join the caches.

    table: angles for every position (Model.rope_table).
    """
    config = model.config
    source = adapter.tensor if adapter else model.norm
    scratch = Scratch(tape, source, config.num_heads, config.num_kv_heads, config.head_dim)
    attention_in, attention_out, mlp_in, mlp_out = config.joined_names(0)
    roles = _roles(model)
    eps = config.rms_norm_eps

    def group(layer: int, names: tuple[str, ...]) -> Group:
        return adapter.groups.get((layer, names), NO_GROUP) if adapter else NO_GROUP

    x = decode.embed(scratch, token, _one(model.embedding), group(0, attention_in))
    for i, block in enumerate(model.blocks):
        weights = block.linears
        widths = _widths(config, attention_in)
        here = group(i, attention_in)
        gain = block.vectors[f"{roles.attention_norm}.weight"]
        qkv = decode.norm_linear(scratch, x, gain, eps, weights[attention_in], widths, here)
        of_o, of_mlp, of_down = (group(i, names) for names in (attention_out, mlp_in, mlp_out))
        attended = decode.attention(scratch, qkv, table, *caches(i), of_o)
        x = decode.add_linear(scratch, attended, x.x, _one(weights[attention_out]), of_o, of_mlp, attended=True)
        gain = block.vectors[f"{roles.mlp_norm}.weight"]
        h = decode.norm_swiglu(scratch, x, gain, eps, _one(weights[mlp_in]), of_mlp, of_down)
        x = decode.add_linear(scratch, h, x.x, _one(weights[mlp_out]), of_down, group(i + 1, attention_in))
    return decode.norm_linear(scratch, x, model.norm, eps, model.lm_head, (model.lm_head.shape[0],), NO_GROUP)
