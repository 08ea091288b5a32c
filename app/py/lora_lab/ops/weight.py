"""A frozen matrix on the GPU in the form its file has it in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

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


@dataclass(frozen=True, eq=False)
class JoinedWeight:
    """A matrix in pieces, one below another, each in a buffer of its own.

    So are the weights of layers that share their input and are stored in different forms, where a piece is the stacked
    weights of neighbours of one form; and a matrix that is larger than one buffer or one binding may be, cut by rows.
    """

    pieces: tuple[Weight, ...]

    @property
    def shape(self) -> tuple[int, int]:
        return sum(piece.shape[0] for piece in self.pieces), self.pieces[0].shape[1]

    @property
    def form(self) -> str:
        """All forms, in order."""
        return "+".join(form for form, _ in groupby(piece.form for piece in self.pieces))


@dataclass(frozen=True, eq=False)
class Run:
    """Neighbouring layers in one piece of a weight: `first` to `last - 1`, whose rows there begin at `row`.

    Of a layer that is cut, which stands alone in its run, the piece has the outputs from `begin` on, `count` of them.
    """

    weight: Weight
    first: int
    last: int
    row: int
    begin: int
    count: int
    is_cut: bool


def runs(
    weight: Weight | JoinedWeight, widths: Sequence[int], first_row: int = 0, most_rows: int | None = None
) -> list[Run]:
    """Return where the layers lie that take `widths` rows each, from row `first_row` of the whole on.

    None has more than `most_rows` rows. Raises ValueError where a layer lies in two forms, or in nothing.
    """
    found: list[Run] = []
    layer, done, begin, most = 0, 0, 0, most_rows or weight.shape[0]
    at = first_row  # of the layer's next row, `done` of whose rows are placed
    for piece in weight.pieces:
        end = begin + piece.shape[0]
        while layer < len(widths) and begin <= at < end:
            count = min(widths[layer] - done, end - at, most)
            is_cut = count < widths[layer]
            before = found[-1] if found else None
            if done and before is not None and before.weight.form != piece.form:
                break
            if before is not None and before.weight is piece and not is_cut and not before.is_cut \
                    and before.count + count <= most:  # fmt: skip
                found[-1] = replace(before, last=layer + 1, count=before.count + count)
            else:
                found.append(Run(piece, layer, layer + 1, at - begin, done, count, is_cut))
            at, done = at + count, done + count
            if done == widths[layer]:
                layer, done = layer + 1, 0
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
