"""A frozen matrix on the GPU in the form its file has it in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..gpu.plan import Tensor, ceil_div

# Form -> (32-bit words, columns) of what repeats in a row on the GPU: a block, or two where one is no whole number of
# words (see wgsl/weights/). A row is whole words.
BLOCKS = {
    "f32": (4, 4), "f16": (2, 4), "bf16": (2, 4), "q8_0": (17, 64), "q4_0": (9, 64), "q4_1": (5, 32), "q5_0": (11, 64),
    "q5_1": (6, 32), "iq4_nl": (9, 64), "q2_k": (21, 256), "q3_k": (28, 256), "q4_k": (37, 256), "q5_k": (45, 256),
    "q6_k": (53, 256), "iq4_xs": (35, 256),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Weight:
    """`shape` is (out, in). `tensor` holds `packed_words` of it, row by row."""

    tensor: Tensor
    shape: tuple[int, int]
    form: str

    @property
    def loader(self) -> str:
        """The WGSL file that reads this form."""
        return f"weights/{self.form}"

    @property
    def pieces(self) -> tuple[Weight, ...]:
        """Itself alone, as a JoinedWeight has several."""
        return (self,)


PART_ROWS = 64  # parts of a weight begin at multiples of it: then every form's begin where a binding may


def binding_parts(weight: Weight, most_bytes: int, most_rows: int | None = None) -> list[tuple[int, Weight]]:
    """Return the weight as (first row, part), each part small enough for one binding; mostly it is the only one.

    `most_rows` limits the parts' rows too.
    """
    rows, columns = weight.shape
    if weight.tensor.size_bytes <= most_bytes and (most_rows is None or rows <= most_rows):
        return [(0, weight)]
    row_bytes = weight.tensor.size_bytes // rows
    count = max(1, min(most_bytes // row_bytes, most_rows or rows) // PART_ROWS) * PART_ROWS
    parts = []
    for first in range(0, rows, count):
        shape = (min(count, rows - first), columns)
        place, label = weight.tensor.offset + first * row_bytes, f"{weight.tensor.label} from {first}"
        tensor = Tensor((shape[0] * row_bytes // 4,), weight.tensor.storage, place, label)
        parts.append((first, Weight(tensor, shape, weight.form)))
    return parts


@dataclass(frozen=True, eq=False)
class JoinedWeight:
    """The weights of layers that share their input and are stored in different forms.

    A piece is one matrix: the stacked weights of one layer, or of several neighbours of the same form.
    """

    pieces: tuple[Weight, ...]

    @property
    def shape(self) -> tuple[int, int]:
        return sum(piece.shape[0] for piece in self.pieces), self.pieces[0].shape[1]

    @property
    def form(self) -> str:
        """All forms, in order."""
        return "+".join(piece.form for piece in self.pieces)


@dataclass(frozen=True, eq=False)
class Run:
    """Neighbouring layers in one piece of a joined weight: `first` to `last - 1`, of its rows those from `row` on."""

    weight: Weight
    first: int
    last: int
    row: int


def runs(weight: Weight | JoinedWeight, widths: Sequence[int], first_row: int = 0) -> list[Run]:
    """Return where the layers lie that take `widths` rows each, from row `first_row` of the whole on.

    Raises ValueError where one of them lies in two pieces, or in none.
    """
    found, layer, at, begin = [], 0, first_row, 0
    for piece in weight.pieces:
        end, first, row = begin + piece.shape[0], layer, at - begin
        while layer < len(widths) and begin <= at and at + widths[layer] <= end:
            at, layer = at + widths[layer], layer + 1
        if layer > first:
            found.append(Run(piece, first, layer, row))
        begin = end
    if layer < len(widths):
        raise ValueError(f"layers of {tuple(widths)} rows from row {first_row} on are not those of {weight.form}")
    return found


def row_words(form: str, columns: int) -> int:
    """Return how many 32-bit words a row of `columns` takes in `form`."""
    words, block = BLOCKS[form]
    return ceil_div(columns * words, block)


def packed_words(form: str, shape: tuple[int, int]) -> int:
    """Return how many 32-bit words a weight of `shape` takes in `form`."""
    return shape[0] * row_words(form, shape[1])
