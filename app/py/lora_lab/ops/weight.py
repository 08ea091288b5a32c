"""A frozen matrix on the GPU in the form its file has it in."""

from __future__ import annotations

from dataclasses import dataclass

from ..gpu.plan import Tensor

# Form on the GPU -> (32-bit words of a block, columns of a block). Q4_0 is stored as q4_1, see weights/q4_1.wgsl.
BLOCKS = {"f32": (4, 4), "f16": (2, 4), "bf16": (2, 4), "q8_0": (9, 32), "q4_1": (5, 32)}


@dataclass(frozen=True, eq=False)
class Weight:
    """`shape` is (out, in). `tensor` holds out * in / columns-of-a-block blocks, row by row."""

    tensor: Tensor
    shape: tuple[int, int]
    form: str

    @property
    def loader(self) -> str:
        """The WGSL file that reads this form."""
        return f"weights/{self.form}"


def packed_words(form: str, shape: tuple[int, int]) -> int:
    """Return how many 32-bit words a weight of `shape` takes in `form`."""
    words, columns = BLOCKS[form]
    return shape[0] * (shape[1] // columns) * words
