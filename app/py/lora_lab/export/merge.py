"""One tensor on its way from a file to another: W' = W + scale * B A where there is an adapter, some rows at a time.

    W (out, in)   A (r, in)   B (out, r), Hugging Face's order of rows

The sum is in float32, as PEFT's is for such weights. What no adapter changes, and what keeps its form, keeps its bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from ..config import LoraConfig, ModelConfig
from ..errors import LoraLabError
from ..formats.peft import tensor_key
from ..formats.quantize import quantize
from ..formats.tensors import StoredTensor, dequantize, permute_rows, row_size_bytes, unpermute_rows

CHUNK_VALUES = 1 << 20  # of a tensor at a time: a handful of arrays of 4 MB while one is quantised
F16_MOST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Adapted:
    """An adapter to be merged: its settings, and its matrices, float32 under PEFT's keys."""

    lora: LoraConfig
    tensors: Mapping[str, np.ndarray]

    def pairs(self, model: ModelConfig) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return scale * B (out, r) and A (r, in) by the name of the weight that they change."""
        found = {}
        for index in range(model.num_layers):
            for name in model.names_in(index):
                a, b = (self.tensors.get(tensor_key(model, index, name, half)) for half in "AB")
                if a is not None and b is not None:
                    found[f"{model.module_path(index, name)}.weight"] = (np.float32(self.lora.scale) * b, a)
        return found


@dataclass(frozen=True)
class Change:
    """What becomes of a tensor: the form it shall have, the adapter's pair, what is added to a gain, and the heads by
    which its rows shall be interleaved (None: not at all).
    """

    form: str
    pair: tuple[np.ndarray, np.ndarray] | None = None
    plus: float = 0.0
    heads: int | None = None


def changed_size(tensor: StoredTensor, form: str) -> int:
    """Return the bytes of a tensor in another form. FileFormatError when the form cannot hold its rows."""
    return prod(tensor.shape[:-1]) * row_size_bytes(form, tensor.shape[-1])


async def changed(tensor: StoredTensor, change: Change) -> AsyncIterator[bytes]:
    """Yield a tensor's bytes as the other file has them. LoraLabError for values that the form does not reach."""
    rows, columns = prod(tensor.shape[:-1]), tensor.shape[-1]
    row_bytes, head = row_size_bytes(tensor.form, columns), rows // (tensor.head_permutation or change.heads or rows)
    step = max(CHUNK_VALUES // columns // head, 1) * head  # whole heads, whose rows may have to move
    as_it_is = change.pair is None and not change.plus and change.form == tensor.form
    for first in range(0, rows, step):
        count = min(step, rows - first)
        raw = np.frombuffer(
            await tensor.source.read(tensor.offset + first * row_bytes, count * row_bytes), np.uint8
        ).reshape(count, row_bytes)
        if as_it_is:
            yield _moved(raw, tensor.head_permutation, change.heads, rows, count).tobytes()
            continue
        values = dequantize(tensor.form, raw, (count, columns))
        values = _moved(values, tensor.head_permutation, None, rows, count)
        if change.pair is not None:
            b, a = change.pair
            values += b[first : first + count] @ a
        values += np.float32(change.plus)
        if change.form == "f16" and not np.abs(values).max(initial=0) <= F16_MOST:
            raise LoraLabError(
                f"{tensor.name} holds {np.abs(values).max():.4g}, which f16 does not reach; choose bf16 or f32"
            )
        yield quantize(change.form, _moved(values, None, change.heads, rows, count)).tobytes()


def _moved(part: np.ndarray, found: int | None, wanted: int | None, rows: int, count: int) -> np.ndarray:
    """Bring whole heads of a tensor of `rows` rows from one order into the other; both are numbers of heads."""
    if found == wanted:
        return part
    if found is not None:
        part = unpermute_rows(part, found * count // rows)
    return part if wanted is None else permute_rows(part, wanted * count // rows)
