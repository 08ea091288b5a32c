"""A model: its weights on the GPU, and its forward pass, for training and for chat; its blocks are its family's."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from ..config import ModelConfig
from ..errors import ModelError
from ..gpu.device import Device, Progress
from ..gpu.plan import Tensor, ceil_div
from ..ops.embedding import embedding
from ..ops.rmsnorm import rmsnorm
from ..ops.rope import rope_table
from ..ops.tape import Tape
from ..ops.weight import JoinedWeight, Weight
from .block import Adapters, Attend, Block, Kept, Pass
from .checks import EMBEDDING, LM_HEAD
from .families import family_of
from .model_files import ModelFiles
from .weights import plan_weight, upload_weight

ROPE_ROWS = 64  # 8 bytes or more each: a binding may begin at multiples of 256 bytes everywhere


@dataclass(eq=False)
class Model:
    """A model on a device. The base weights never change; adapters are applied beside them."""

    device: Device
    config: ModelConfig
    files: ModelFiles
    embedding: Weight | JoinedWeight
    blocks: list[Block]
    norm: Tensor
    lm_head: Weight | JoinedWeight  # the embedding itself where they are tied

    @property
    def weights_bytes(self) -> int:
        return sum(buffer.size_bytes for buffer in self._buffers())

    def rope_table(self, length: int) -> Tensor:
        """Return a new tensor of angles for positions below `length`."""
        return self.device.upload(self.rope_angles(length), "rope table")

    def rope_angles(self, length: int) -> np.ndarray:
        """Return those angles: (ropes, length, turned channels / 2, 2) float32, `length` being rounded up.

        So far that each embedding's begin where a binding may.
        """
        size = self.config.rotary_dim or self.config.head_dim
        length = ceil_div(length, ROPE_ROWS) * ROPE_ROWS if self.config.other_ropes else length
        return np.stack([rope_table(size, rope.theta, rope.scaling, length) for rope in self.config.ropes])

    def release(self) -> None:
        """Give the weights' memory back."""
        for buffer in self._buffers():
            buffer.destroy()

    def _buffers(self) -> list:
        weights, tensors = [self.embedding, self.lm_head], [self.norm]
        for block in self.blocks:
            weights += block.linears.values()
            tensors += block.vectors.values()
        tensors += [piece.tensor for weight in weights for piece in weight.pieces]
        return list({id(t.buffer): t.buffer for t in tensors}.values())


def plan_model(device: Device, files: ModelFiles) -> Model:
    """Return a model whose weights are known by size only: enough to trace and to count with, not to run.

    Raises ModelError for dimensions that the kernels cannot do.
    """
    config, stored = files.config, files.tensors
    _check_dimensions(config)

    def table(name: str) -> Weight | JoinedWeight:
        return plan_weight(device, [stored[name]])

    def stacked(layer: int, names: tuple[str, ...]) -> Weight | JoinedWeight:
        return plan_weight(device, [stored[name] for name in _weight_names(config, layer, names)])

    def vector(name: str) -> Tensor:
        shape = stored[name].shape
        return Tensor(shape, device.plan_buffer(4 * prod(shape), name), 0, name)

    family, blocks = family_of(config), []
    for i in range(config.num_layers):
        vectors = {name: vector(f"model.layers.{i}.{name}") for name in family.block_vectors(config, i)}
        linears = {names: stacked(i, names) for names in config.joined_names(i)}
        blocks.append(Block(vectors, linears))
    tokens = table(EMBEDDING)
    untied = LM_HEAD in stored and not config.tie_word_embeddings
    lm_head = table(LM_HEAD) if untied else tokens
    return Model(device, config, files, tokens, blocks, vector(family.FINAL_NORM), lm_head)


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

    async def fill(weight: Weight | JoinedWeight, *names: str) -> None:
        await upload_weight(weight, [stored[name] for name in names], count)

    async def fill_vector(vector: Tensor, name: str) -> None:
        device.write(vector.buffer, 0, await stored[name].to_f32())
        count(stored[name].size_bytes)

    try:
        for buffer in model._buffers():
            buffer.allocate()
        await fill(model.embedding, EMBEDDING)
        for i, block in enumerate(model.blocks):
            for name, vector in block.vectors.items():
                await fill_vector(vector, f"model.layers.{i}.{name}")
            for names, weight in block.linears.items():
                await fill(weight, *_weight_names(model.config, i, names))
        await fill_vector(model.norm, family_of(model.config).FINAL_NORM)
        if model.lm_head is not model.embedding:
            await fill(model.lm_head, LM_HEAD)
        await device.check_errors()
    except BaseException:
        model.release()
        raise


def _weight_names(config: ModelConfig, layer: int, names: tuple[str, ...]) -> list[str]:
    return [f"{config.module_path(layer, name)}.weight" for name in names]


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
    tape: Tape, model: Model, tokens: Tensor, positions: Tensor, table: Tensor, attend: Attend, adapters: Adapters,
    kept: Kept | None = None,
) -> Tensor:  # fmt: skip
    """Return the final hidden states (rows, C), after the last norm, for tokens and positions (rows).

    `kept`: where convolutions find what came before the first row; None where nothing did.
    """
    config = model.config
    run = Pass(tape, config, model.blocks, positions, table, attend, adapters, kept)
    x = embedding(tape, tokens, model.embedding, config.embedding_scale)
    block = family_of(config).block
    for i, _ in enumerate(tape.each_block(model.blocks)):
        x = block(run, i, x)
    return rmsnorm(tape, x, model.norm, config.rms_norm_eps, "final_norm")
