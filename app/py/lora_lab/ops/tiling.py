"""How a matrix product is shared out among workgroups: chosen by a small model of a GPU's time, from the shape alone.

From the shape alone, so that equal seeds give equal bits. The model's numbers were fitted to an H100 under Dawn (1,019
timed products of 64 to 4,096 rows; what it chooses takes 2 % longer than the best, see docs/performance.md) and rank
the candidates the same way on its kin; any choice is correct, so another GPU loses speed by it at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from ..gpu.plan import ceil_div

DEPTH = 16  # terms that a slice takes in one trip, as in linear/tiled.wgsl
MAX_PARTS = 8, 64  # of usual sums, and of those of VERY_LONG terms and more (a vocabulary)
VERY_LONG = 8192
UNITS = 132  # compute units that workgroups are spread over
RESIDENT_BYTES = 48 << 10  # workgroup memory of a unit's workgroups: more of them wait
# Of each kind of tile, (rows, slices), in microseconds a trip: what it takes anyhow, its loads and barriers, and what
# every workgroup that a unit holds at the same time adds to it.
TRIP_US = {
    (256, 1): (0.9, 1.52), (128, 1): (0.9, 0.72), (64, 1): (1.2, 0.28), (64, 2): (1.0, 0.66), (32, 1): (0.9, 0.14),
    (32, 2): (0.8, 0.40), (32, 4): (0.4, 1.40),
}  # fmt: skip
START_US = 5.0
SUM_PARTS_US = 6.0  # one more dispatch
SUM_BYTES_PER_US = 1.4e6


@dataclass(frozen=True)
class Tiling:
    """Rows of a tile (by 64 columns), groups of invocations that split its sum, parts of the sum that workgroups of
    their own take."""

    tile_rows: int
    slices: int
    parts: int

    @property
    def workgroup_bytes(self) -> int:
        """The workgroup memory of linear/tiled.wgsl: both tiles of DEPTH terms for every slice."""
        return 16 * DEPTH * self.slices * (self.tile_rows // 4 + 1 + 17)

    def part(self, inner: int) -> int:
        """Return how many terms of a sum of `inner` a part takes, whole trips of all slices."""
        return ceil_div(ceil_div(inner, self.parts), DEPTH * self.slices) * DEPTH * self.slices


@cache
def tiling(rows: int, columns: int, inner: int, room_bytes: int = RESIDENT_BYTES, tallest: bool = True) -> Tiling:
    """Return how to make a (rows, columns) result whose sums have `inner` terms, in `room_bytes` of workgroup memory.

    Large tiles read least, but a result of few tiles leaves most of a GPU idle: then tiles get smaller, several groups
    of invocations share each one's sum, and long sums are cut into parts that are added afterwards. `tallest` allows
    tiles of 256 rows: faster forward, slower backward.
    """
    fitting = [form for form in _candidates(inner, tallest) if form.workgroup_bytes <= room_bytes]
    return min(fitting, key=lambda form: estimate_us(form, rows, columns, inner))


def _candidates(inner: int, tallest: bool) -> Iterator[Tiling]:
    for tile_rows, slices in TRIP_US:
        if tile_rows == 256 and not tallest:
            continue
        for parts in range(1, MAX_PARTS[inner >= VERY_LONG] + 1):
            form = Tiling(tile_rows, slices, parts)
            if ceil_div(inner, form.part(inner)) == parts:  # else some parts would have nothing to do
                yield form


def estimate_us(form: Tiling, rows: int, columns: int, inner: int) -> float:
    """Return the model's time in microseconds.

    The first workgroups spread over all units; when those are full the others wait, and what is left at the end fills
    units one by one, so a last wave takes as long as a full one.
    """
    groups = ceil_div(columns, 64) * ceil_div(rows, form.tile_rows) * form.parts
    least, each = TRIP_US[form.tile_rows, form.slices]
    resident = max(1, RESIDENT_BYTES // form.workgroup_bytes)
    waves, left = divmod(groups, UNITS * resident)
    trip = waves * (least + resident * each)
    if left:
        trip += least + each * (min(resident, left) if waves else ceil_div(left, UNITS))
    time_us = START_US + ceil_div(form.part(inner), DEPTH * form.slices) * trip
    if form.parts > 1:
        time_us += SUM_PARTS_US + 4.0 * form.parts * rows * columns / SUM_BYTES_PER_US
    return time_us
