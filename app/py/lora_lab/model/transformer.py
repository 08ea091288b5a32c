"""A Llama-architecture model: its weights on the GPU, and its forward pass written once for training and for chat."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ..config import JOINED_LAYERS, ModelConfig, module_path
from ..errors import ModelError
from ..gpu.device import Device, Progress
from ..gpu.plan import Tensor
from ..ops.embedding import embedding
from ..ops.linear import LoraPair, linear, linear_joined
from ..ops.rmsnorm import rmsnorm
from ..ops.rope import rope, rope_table
from ..ops.swiglu import swiglu
from ..ops.tape import Tape
from ..ops.weight import Weight
from .files import ModelFiles
from .weights import plan_weight, upload_weight

EMBEDDING, FINAL_NORM, LM_HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"

Adapters = Mapping[tuple[int, tuple[str, ...]], LoraPair]  # by (layer index, names of the layers it is for)
# attend(layer index, q, k, v) -> (rows, H * D): over the sequence in training, over a cache in chat.
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Block:
    """One layer's weights."""

    input_norm: Tensor
    post_attention_norm: Tensor
    linears: Mapping[tuple[str, ...], Weight]  # by JOINED_LAYERS: layers that share their input are stacked


@dataclass(eq=False)
class Model:
    """A model on a device. The base weights never change; adapters are applied beside them."""

    device: Device
    config: ModelConfig
    files: ModelFiles
    embedding: Weight
    blocks: list[Block]
    norm: Tensor
    lm_head: Weight  # the embedding itself where they are tied

    @property
    def weights_bytes(self) -> int:
        return sum(buffer.size_bytes for buffer in self._buffers())

    def rope_table(self, length: int) -> Tensor:
        """Return a new tensor of angles for positions below `length`."""
        return self.device.upload(self.rope_angles(length), "rope table")

    def rope_angles(self, length: int) -> np.ndarray:
        """Return those angles: (length, head size / 2, 2) float32."""
        c = self.config
        return rope_table(c.head_dim, c.rope_theta, c.rope_scaling, length)

    def release(self) -> None:
        """Give the weights' memory back."""
        for buffer in self._buffers():
            buffer.destroy()

    def _buffers(self) -> list:
        tensors = [self.embedding.tensor, self.norm, self.lm_head.tensor]
        for block in self.blocks:
            tensors += [block.input_norm, block.post_attention_norm, *(w.tensor for w in block.linears.values())]
        return list({id(t.buffer): t.buffer for t in tensors}.values())


def plan_model(device: Device, files: ModelFiles) -> Model:
    """Return a model whose weights are known by size only: enough to trace and to count with, not to run.

    Raises ModelError for dimensions that the kernels cannot do.
    """
    config, stored = files.config, files.tensors
    _check_dimensions(config)

    def matrix(*names: str) -> Weight:
        return plan_weight(device, [stored[name] for name in names])

    def gain(name: str) -> Tensor:
        (size,) = stored[name].shape
        return Tensor((size,), device.plan_buffer(4 * size, name), 0, name)

    blocks = []
    for i in range(config.num_layers):
        norms = [gain(f"model.layers.{i}.{name}_layernorm.weight") for name in ("input", "post_attention")]
        linears = {names: matrix(*_weight_names(i, names)) for names in JOINED_LAYERS}
        blocks.append(Block(norms[0], norms[1], linears))
    table = matrix(EMBEDDING)
    untied = LM_HEAD in stored and not config.tie_word_embeddings
    return Model(device, config, files, table, blocks, gain(FINAL_NORM), matrix(LM_HEAD) if untied else table)


async def load_model(device: Device, files: ModelFiles, on_progress: Progress | None = None) -> Model:
    """Bring a model to the GPU. `on_progress(done_bytes, total_bytes)`. Raises ModelError or OutOfMemoryError."""
    model = plan_model(device, files)
    await fill_model(model, on_progress)
    return model


async def fill_model(model: Model, on_progress: Progress | None = None) -> None:
    """Bring the weights of a planned model to the GPU; released again when that fails.

    Their memory is taken before the first wait, so that plans over them can be built meanwhile.
    """
    device, stored = model.device, model.files.tensors
    total, done = sum(tensor.size_bytes for tensor in stored.values()), 0

    def count(size_bytes: int) -> None:
        nonlocal done
        done += size_bytes
        if on_progress:
            on_progress(done, total)

    async def fill(weight: Weight, *names: str) -> None:
        await upload_weight(weight, [stored[name] for name in names], count)

    async def fill_gain(gain: Tensor, name: str) -> None:
        device.write(gain.buffer, 0, await stored[name].to_f32())
        count(stored[name].size_bytes)

    try:
        for buffer in model._buffers():
            buffer.allocate()
        await fill(model.embedding, EMBEDDING)
        for i, block in enumerate(model.blocks):
            await fill_gain(block.input_norm, f"model.layers.{i}.input_layernorm.weight")
            await fill_gain(block.post_attention_norm, f"model.layers.{i}.post_attention_layernorm.weight")
            for names, weight in block.linears.items():
                await fill(weight, *_weight_names(i, names))
        await fill_gain(model.norm, FINAL_NORM)
        if model.lm_head is not model.embedding:
            await fill(model.lm_head, LM_HEAD)
        await device.check_errors()
    except BaseException:
        model.release()
        raise


def _weight_names(layer: int, names: tuple[str, ...]) -> list[str]:
    return [f"{module_path(layer, name)}.weight" for name in names]


def _check_dimensions(config: ModelConfig) -> None:
    """The kernels read four channels at a time."""
    sizes = {"hidden_size": config.hidden_size, "intermediate_size": config.intermediate_size,
             "head_dim": config.head_dim}  # fmt: skip
    problems = [f"{name} is {size}; it must be a multiple of 4" for name, size in sizes.items() if size % 4]
    if config.head_dim > 256:
        problems.append(f"head_dim is {config.head_dim}; at most 256 is supported")
    if config.num_heads % config.num_kv_heads:
        problems.append(f"{config.num_heads} heads cannot share {config.num_kv_heads} key and value heads evenly")
    if problems:
        raise ModelError(f"{config.name}: " + "; ".join(problems))


def transformer(
    tape: Tape, model: Model, tokens: Tensor, positions: Tensor, table: Tensor, attend: Attend, adapters: Adapters
) -> Tensor:
    """Return the final hidden states (rows, C), after the last norm, for tokens and positions (rows)."""
    c = model.config
    x = embedding(tape, tokens, model.embedding)
    attention_in, attention_out, mlp_in, mlp_out = JOINED_LAYERS
    for i, block in enumerate(tape.each_block(model.blocks)):
        h = rmsnorm(tape, x, block.input_norm, c.rms_norm_eps, f"{i}.input_norm")
        q, k, v = _linears(tape, model, i, attention_in, h, adapters)
        q, k = rope(tape, [(q, c.num_heads), (k, c.num_kv_heads)], positions, table)
        (x,) = _linears(tape, model, i, attention_out, attend(i, q, k, v), adapters, residual=x)
        h = rmsnorm(tape, x, block.post_attention_norm, c.rms_norm_eps, f"{i}.post_attention_norm")
        gate, up = _linears(tape, model, i, mlp_in, h, adapters)
        (x,) = _linears(tape, model, i, mlp_out, swiglu(tape, gate, up), adapters, residual=x)
    return rmsnorm(tape, x, model.norm, c.rms_norm_eps, "final_norm")


def _linears(
    tape: Tape, model: Model, layer: int, names: tuple[str, ...], x: Tensor, adapters: Adapters,
    residual: Tensor | None = None,
) -> list[Tensor]:  # fmt: skip
    """Return the results of layers that share x: one product, unless only some of them have an adapter.

    `residual` is added to the result of a single layer.
    """
    weight, label = model.blocks[layer].linears[names], f"{layer}.{'+'.join(names)}"
    widths = [model.config.linear_shape(name)[0] for name in names]
    if len(names) == 1:
        return [linear(tape, x, weight, adapters.get((layer, names)), label, residual=residual)]
    if not any((layer, (name,)) in adapters for name in names):
        return linear_joined(tape, x, weight, widths, adapters.get((layer, names)), label)
    return [
        linear(tape, x, weight, adapters.get((layer, (name,))), f"{layer}.{name}", sum(widths[:index]), widths[index])
        for index, name in enumerate(names)
    ]
