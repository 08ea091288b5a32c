"""The adapter on the GPU: every A and B in one flat buffer, so that one AdamW dispatch updates all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from ..config import LoraConfig, ModelConfig
from ..errors import AdapterError
from ..formats.peft import tensor_key
from ..gpu.device import Device
from ..gpu.plan import Buffer, Tensor
from ..ops.linear import LoraPair

# Every matrix begins at a multiple of this many floats: the largest alignment that a device may ask of a binding.
ALIGN = 64


class Adapter:
    """LoRA matrices for the chosen linear layers of every block that has them. Gradients belong to whoever trains."""

    def __init__(self, device: Device, model: ModelConfig, config: LoraConfig, *, planned: bool = False) -> None:
        """`planned`: known by size only, without memory until `initialize` or `write`."""
        unknown = sorted(set(config.targets) - set(model.linear_names))
        if unknown or not config.targets:
            raise AdapterError(f"target layers: found {unknown or 'none'}; wanted some of {list(model.linear_names)}")
        if config.rank < 1:
            raise AdapterError(f"the rank is {config.rank}; it must be at least 1")
        self.device, self.model, self.config = device, model, config
        self.places: dict[tuple[int, str], tuple[int, int]] = {}  # float offsets of A and of B
        at = 0
        for layer in range(model.num_layers):
            for joined in model.joined_names(layer):
                for names in _stacks(joined, config.targets):
                    # The As behind one another, then the Bs: each a matrix of its own, together a stacked one.
                    place_a = at
                    at = _aligned(at + sum(config.rank * model.linear_shape(layer, name)[1] for name in names))
                    place_b = at
                    at = _aligned(at + sum(config.rank * model.linear_shape(layer, name)[0] for name in names))
                    for name in names:
                        out_size, in_size = model.linear_shape(layer, name)
                        self.places[layer, name] = (place_a, place_b)
                        place_a, place_b = place_a + config.rank * in_size, place_b + config.rank * out_size
        self.size = at
        self.buffer = device.plan_buffer(4 * at, "adapter")
        if not planned:
            self.buffer.allocate()
        self.params = Tensor((at,), self.buffer, 0, "adapter")

    @classmethod
    def create(cls, device: Device, model: ModelConfig, config: LoraConfig, seed: int) -> Adapter:
        """Return a new adapter as PEFT starts one: A uniform in +-1/sqrt(in) (Kaiming, a = sqrt 5), B zero.

        The same seed gives the same values on every host.
        """
        adapter = cls(device, model, config)
        adapter.initialize(seed)
        return adapter

    def initialize(self, seed: int) -> None:
        """Give the matrices a new adapter's values; takes the memory of a planned one."""
        rank, tensors = self.config.rank, {}
        for index, (layer, name) in enumerate(self.places):
            out_size, in_size = self.model.linear_shape(layer, name)
            random = np.random.Generator(np.random.PCG64([seed, index]))
            bound = in_size**-0.5
            a = random.uniform(-bound, bound, (rank, in_size)).astype(np.float32)
            tensors[tensor_key(self.model, layer, name, "A")] = a
            tensors[tensor_key(self.model, layer, name, "B")] = np.zeros((out_size, rank), np.float32)
        self.write(tensors)

    @classmethod
    def from_tensors(
        cls, device: Device, model: ModelConfig, config: LoraConfig, tensors: Mapping[str, np.ndarray]
    ) -> Adapter:
        """Return an adapter holding `tensors` (PEFT's keys). Raises AdapterError listing every wrong name or shape."""
        adapter = cls(device, model, config)
        try:
            adapter.write(tensors)
        except AdapterError:
            adapter.release()
            raise
        return adapter

    def shapes(self) -> dict[str, tuple[int, int]]:
        """Return the shape of every matrix by PEFT's key."""
        shapes = {}
        for layer, name in self.places:
            out_size, in_size = self.model.linear_shape(layer, name)
            shapes[tensor_key(self.model, layer, name, "A")] = (self.config.rank, in_size)
            shapes[tensor_key(self.model, layer, name, "B")] = (out_size, self.config.rank)
        return shapes

    def write(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Overwrite every matrix. Nothing is written unless all names and shapes are right."""
        self.check(tensors)
        self.buffer.allocate()
        self.device.write(self.buffer, 0, self.join(tensors))

    def check(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Raise AdapterError, listing every wrong name or shape, unless these are this adapter's matrices."""
        shapes = self.shapes()
        problems = [f"{key} is missing" for key in shapes if key not in tensors]
        problems += [f"{key} is not a matrix of this adapter" for key in tensors if key not in shapes]
        problems += [
            f"{key} is {tuple(tensors[key].shape)}; this model needs {shape}"
            for key, shape in shapes.items()
            if key in tensors and tuple(tensors[key].shape) != shape
        ]
        if problems:
            raise AdapterError("The adapter does not fit the model:\n" + "\n".join(problems))

    async def to_tensors(self) -> dict[str, np.ndarray]:
        """Return every matrix as float32, by PEFT's key."""
        return self.split(await self.device.download(self.params))

    def split(self, flat: np.ndarray) -> dict[str, np.ndarray]:
        """Cut a flat copy of the parameters (or of their gradients or moments) into matrices by PEFT's key."""
        shapes, tensors = self.shapes(), {}
        for (layer, name), offsets in self.places.items():
            for matrix, offset in zip("AB", offsets, strict=True):
                key = tensor_key(self.model, layer, name, matrix)
                rows, columns = shapes[key]
                tensors[key] = flat[offset : offset + rows * columns].reshape(rows, columns).copy()
        return tensors

    def join(self, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return matrices by PEFT's key as one flat array, (size,) float32: the inverse of `split`."""
        flat = np.zeros(self.size, np.float32)
        for (layer, name), offsets in self.places.items():
            for matrix, offset in zip("AB", offsets, strict=True):
                values = np.asarray(tensors[tensor_key(self.model, layer, name, matrix)], np.float32).reshape(-1)
                flat[offset : offset + values.size] = values
        return flat

    def pairs(self, grads: Buffer | None = None) -> dict[tuple[int, tuple[str, ...]], LoraPair]:
        """Return A and B by (layer index, layer names), with gradients inside `grads` (laid out like the parameters).

        Layers that share their input come stacked under all their names; where only some of them have an adapter,
        each comes under its own.
        """
        pairs = {}
        rank = self.config.rank
        for layer in range(self.model.num_layers):
            stacks = (_stacks(joined, self.config.targets) for joined in self.model.joined_names(layer))
            for names in chain.from_iterable(stacks):
                shapes = [self.model.linear_shape(layer, name) for name in names]
                offset_a, offset_b = self.places[layer, names[0]]
                a_shape, b_shape = (rank * len(names), shapes[0][1]), (sum(shape[0] for shape in shapes), rank)
                label = " + ".join(self.model.module_path(layer, name) for name in names)
                pairs[layer, names] = LoraPair(
                    Tensor(a_shape, self.buffer, 4 * offset_a, f"{label}.lora_A"),
                    Tensor(b_shape, self.buffer, 4 * offset_b, f"{label}.lora_B"),
                    self.config.scale,
                    Tensor(a_shape, grads, 4 * offset_a, f"d.{label}.lora_A") if grads else None,
                    Tensor(b_shape, grads, 4 * offset_b, f"d.{label}.lora_B") if grads else None,
                )
        return pairs

    def release(self) -> None:
        """Give the adapter's memory back."""
        self.buffer.destroy()


def _aligned(size: int) -> int:
    return (size + ALIGN - 1) // ALIGN * ALIGN


def _stacks(joined: tuple[str, ...], targets: Sequence[str]) -> list[tuple[str, ...]]:
    """Return which of the layers that share an input are stacked: all of them together, or each target alone."""
    names = tuple(name for name in joined if name in targets)
    return [names] if names == joined else [(name,) for name in names]
