"""How a matrix product is shared out among workgroups: chosen by a small model of a GPU's time, from the shape alone.

From the shape alone, so that equal seeds give equal bits. The model's numbers were fitted to an H100 under Dawn (360
timed products of 64 to 4,096 rows, see docs/performance.md) and rank the candidates the same way on its kin; any choice
is correct, so another GPU loses speed by it at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from ..gpu.plan import ceil_div

DEPTH = 16  # terms that a slice takes in one trip, as in linear.wgsl
MAX_PARTS = 8, 64  # of usual sums, and of those of VERY_LONG terms and more (a vocabulary)
VERY_LONG = 8192
UNITS = 132  # compute units that workgroups are spread over
RESIDENT_BYTES = 48 << 10  # workgroup memory of a unit's workgroups: more of them wait
TRIP_US = {1: 1.4, 2: 1.4, 4: 1.8}  # least time of a trip by slices: its loads and barriers
PATCH_US = 0.53  # what multiplying a trip's 64 x 64 tile takes of a unit
SMALL_TILE, SLICED = 1.2, {1: 1.0, 2: 1.08, 4: 1.15}  # how much longer that takes with 32 rows; with slices
START_US = 4.0
SUM_PARTS_US = 6.0  # one more dispatch
SUM_BYTES_PER_US = 1e6


@dataclass(frozen=True)
class Tiling:
    """Rows of a tile (by 64 columns), groups of invocations that split its sum, parts of the sum that workgroups of
    their own take."""

    tile_rows: int
    slices: int
    parts: int

    @property
    def workgroup_bytes(self) -> int:
        """The workgroup memory of linear.wgsl: both tiles of DEPTH terms for every slice."""
        return 16 * DEPTH * self.slices * (self.tile_rows // 4 + 1 + 17)

    def part(self, inner: int) -> int:
        """Return how many terms of a sum of `inner` a part takes, whole trips of all slices."""
        return ceil_div(ceil_div(inner, self.parts), DEPTH * self.slices) * DEPTH * self.slices


@cache
def tiling(rows: int, columns: int, inner: int, room_bytes: int = RESIDENT_BYTES) -> Tiling:
    """Return how to make a (rows, columns) result whose sums have `inner` terms, in `room_bytes` of workgroup memory.

    Large tiles read least, but a result of few tiles leaves most of a GPU idle: then tiles get smaller, several groups
    of invocations share each one's sum, and long sums are cut into parts that are added afterwards.
    """
    fitting = (form for form in _candidates(inner) if form.workgroup_bytes <= room_bytes)
    return min(fitting, key=lambda form: estimate_us(form, rows, columns, inner))


def _candidates(inner: int) -> Iterator[Tiling]:
    for tile_rows, slices in ((128, 1), (64, 1), (64, 2), (32, 1), (32, 2), (32, 4)):
        for parts in range(1, MAX_PARTS[inner >= VERY_LONG] + 1):
            form = Tiling(tile_rows, slices, parts)
            if ceil_div(inner, form.part(inner)) == parts:  # else some parts would have nothing to do
                yield form


def estimate_us(form: Tiling, rows: int, columns: int, inner: int) -> float:
    """Return the model's time in microseconds."""
    groups = ceil_div(columns, 64) * ceil_div(rows, form.tile_rows) * form.parts
    work = form.slices * form.tile_rows / 64 * PATCH_US * SLICED[form.slices]
    if form.tile_rows == 32:
        work *= SMALL_TILE
    resident = max(1, RESIDENT_BYTES // form.workgroup_bytes)
    waves, rest = divmod(ceil_div(groups, UNITS), resident)
    trip = waves * max(TRIP_US[form.slices], resident * work)
    if rest:
        trip += max(TRIP_US[form.slices], rest * work)
    time_us = START_US + ceil_div(form.part(inner), DEPTH * form.slices) * trip
    if form.parts > 1:
        time_us += SUM_PARTS_US + 4.0 * form.parts * rows * columns / SUM_BYTES_PER_US
    return time_us
