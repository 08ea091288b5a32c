"""A Llama-architecture model: its weights on the GPU, and its forward pass written once for training and for chat."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..config import LINEAR_LAYERS, ModelConfig, module_path
from ..errors import ModelError
from ..gpu.device import Device, Progress
from ..gpu.plan import Tensor
from ..ops.elementwise import add
from ..ops.embedding import embedding
from ..ops.linear import LoraPair, linear
from ..ops.rmsnorm import rmsnorm
from ..ops.rope import rope, rope_table
from ..ops.swiglu import swiglu
from ..ops.tape import Tape
from ..ops.weight import Weight
from .files import ModelFiles
from .weights import upload_weight

Adapters = Mapping[tuple[int, str], LoraPair]  # by (layer index, layer name)
# attend(layer index, q, k, v) -> (rows, H * D): over the sequence in training, over a cache in chat.
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Block:
    """One layer's weights."""

    input_norm: Tensor
    post_attention_norm: Tensor
    linears: Mapping[str, Weight]


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
        c = self.config
        return self.device.upload(rope_table(c.head_dim, c.rope_theta, c.rope_scaling, length), "rope table")

    def release(self) -> None:
        """Give the weights' memory back."""
        for buffer in self._buffers():
            buffer.destroy()
        self.blocks.clear()

    def _buffers(self) -> list:
        tensors = [self.embedding.tensor, self.norm, self.lm_head.tensor]
        for block in self.blocks:
            tensors += [block.input_norm, block.post_attention_norm, *(w.tensor for w in block.linears.values())]
        return list({id(t.buffer): t.buffer for t in tensors}.values())


async def load_model(device: Device, files: ModelFiles, on_progress: Progress | None = None) -> Model:
    """Bring a model to the GPU. `on_progress(done_bytes, total_bytes)`. Raises ModelError or OutOfMemoryError."""
    config, stored = files.config, files.tensors
    _check_dimensions(config)
    total, done = sum(tensor.size_bytes for tensor in stored.values()), 0

    def count(size_bytes: int) -> None:
        nonlocal done
        done += size_bytes
        if on_progress:
            on_progress(done, total)

    held = device.memory_in_use_bytes
    made: list[Tensor] = []

    async def matrix(name: str) -> Weight:
        weight = await upload_weight(device, stored[name], count)
        made.append(weight.tensor)
        return weight

    async def gain(name: str) -> Tensor:
        tensor = device.upload(await stored[name].to_f32(), name)
        made.append(tensor)
        count(stored[name].size_bytes)
        return tensor

    try:
        table = await matrix("model.embed_tokens.weight")
        blocks = []
        for i in range(config.num_layers):
            norms = [await gain(f"model.layers.{i}.{n}_layernorm.weight") for n in ("input", "post_attention")]
            linears = {name: await matrix(f"{module_path(i, name)}.weight") for name in LINEAR_LAYERS}
            blocks.append(Block(norms[0], norms[1], linears))
        norm = await gain("model.norm.weight")
        untied = "lm_head.weight" in stored and not config.tie_word_embeddings
        head = await matrix("lm_head.weight") if untied else table
        await device.check_errors()
    except BaseException:
        for tensor in made:
            tensor.buffer.destroy()
        assert device.lost_reason is not None or device.memory_in_use_bytes >= held
        raise
    return Model(device, config, files, table, blocks, norm, head)


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
    for i, block in enumerate(model.blocks):

        def layer(name: str, inputs: Tensor, i: int = i, block: Block = block) -> Tensor:
            return linear(tape, inputs, block.linears[name], adapters.get((i, name)), f"{i}.{name}")

        h = rmsnorm(tape, x, block.input_norm, c.rms_norm_eps, f"{i}.input_norm")
        q = rope(tape, layer("q_proj", h), positions, table, c.num_heads)
        k = rope(tape, layer("k_proj", h), positions, table, c.num_kv_heads)
        v = layer("v_proj", h)
        x = add(tape, x, layer("o_proj", attend(i, q, k, v)), f"{i}.attention_out")
        h = rmsnorm(tape, x, block.post_attention_norm, c.rms_norm_eps, f"{i}.post_attention_norm")
        x = add(tape, x, layer("down_proj", swiglu(tape, layer("gate_proj", h), layer("up_proj", h))), f"{i}.mlp_out")
    return rmsnorm(tape, x, model.norm, c.rms_norm_eps, "final_norm")
