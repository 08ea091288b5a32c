"""What the adapter itself gives: the bandwidth of a copy, the cost of an empty dispatch, the rate of our products."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.rows import Row, Work
from bench.synthetic import random_rows
from lora_lab.formats.byte_source import BytesSource
from lora_lab.formats.tensors import BLOCK_SIZES, StoredTensor
from lora_lab.gpu import Device, Plan, Pool, Tensor, Trace
from lora_lab.gpu.kernel import Binding, Kernel
from lora_lab.gpu.plan import ceil_div, grid_1d
from lora_lab.model.weights import plan_weight, upload_weight
from lora_lab.ops.elementwise import fill
from lora_lab.ops.linear import product, product_backward
from lora_lab.ops.step import StepBuffer, StepValues
from lora_lab.ops.tape import Tape
from lora_lab.ops.weight import Weight

MATMUL_ROWS = (128, 512, 1024, 4096)
COPY_BYTES = 256 << 20  # past every cache
EMPTY_DISPATCHES = 2000
REPEATS = 20  # of a product in one plan
TIMED_REPLAYS = 7  # of a plan, by timestamps
TOO_SLOW_S = 2.0  # a product that takes longer is left out: an operating system may end it
TIMER_STEP_MS = 0.1  # browsers round timestamps to this
WARM_S = 0.2


def is_rounded(times_ms: list[float]) -> bool:
    """Say whether these are a browser's timestamps, rounded too coarsely for single dispatches."""
    steps = [ms / TIMER_STEP_MS for ms in times_ms]
    return all(abs(step - round(step)) < 1e-6 for step in steps)


async def time_parts(device: Device, plan: Plan, parts: int) -> tuple[float, str]:
    """Return (ms of one of `parts` equal parts of a plan, how it was timed).

    By timestamps where there are any that are fine enough, before the first part and behind the last: the median of
    some warm replays. Else by the clock: the difference between three replays in a row and one.
    """
    await device.submit_measured(plan)
    # A GPU that has idled while the host prepared takes a while to raise its clocks: without this, a third of the rate.
    begun = time.perf_counter()
    while time.perf_counter() - begun < WARM_S:
        device.submit(plan)
        await device.finished()
    runs = [await device.profile(plan, len(plan.names)) for _ in range(TIMED_REPLAYS)]
    known = [run[0] for run in runs if run]
    if known and not is_rounded(known):
        return statistics.median(known) / parts, "timestamps"
    return await time_replay(device, plan) / parts, "the clock, differences"


async def time_replay(device: Device, plan: Plan, tries: int = 5) -> float:
    """Return the ms of one replay by the clock: what two more take than one alone does, the median of `tries`."""

    async def run(replays: int) -> float:
        start = time.perf_counter()
        for _ in range(replays):
            device.submit(plan)
        await device.finished()
        return (time.perf_counter() - start) * 1e3

    await run(1)
    return max(1e-6, statistics.median([(await run(3) - await run(1)) / 2 for _ in range(tries)]))


async def dispatch_cost_us(device: Device) -> float:
    """Return what an empty dispatch costs inside a plan, in us: a chain of small fills, each after the one before."""
    pool = Pool(device, "empty")
    trace = Trace()
    target = device.create_buffer(256, "empty")
    for _ in range(EMPTY_DISPATCHES):
        fill(trace, Tensor((64,), target, 0, "empty"), 0.0)
    plan = await device.build(trace, pool, "empty dispatches")
    for _ in range(3):  # a submit's size is learned on the way
        await device.submit_measured(plan)
    ms = await time_replay(device, plan)
    plan.close()
    target.destroy()
    return ms * 1e3 / EMPTY_DISPATCHES


def _copy_kernel() -> Kernel:
    bindings = {
        "params": Binding("params", 0, "uniform"), "x": Binding("x", 2, "read"), "y": Binding("y", 3, "read_write"),
    }  # fmt: skip
    source = Path(__file__).with_name("copy.wgsl").read_text(encoding="utf-8")
    return Kernel("copy", "copy", source, bindings, (("n", "u32"),))


async def bandwidth_gb_s(device: Device) -> float:
    """Return what a large copy reads and writes in a second, in GB (1e9)."""
    limit = min(device.limits.max_storage_buffer_binding_size, device.limits.max_buffer_size)
    size = min(COPY_BYTES if not device.info.is_software else 8 << 20, limit // 1024 * 1024)
    buffers = [device.create_buffer(size, name) for name in ("copy from", "copy to")]
    x, y = (Tensor((size // 4,), buffer, 0, buffer.label) for buffer in buffers)
    trace, step, repeats = Trace(), _copy_kernel(), 5
    for _ in range(repeats):
        trace.dispatch(step, {"x": x, "y": y}, {"n": size // 16}, grid_1d(ceil_div(size, 16 * 256)), size / 4)
    pool = Pool(device, "copy")
    plan = await device.build(trace, pool, "copy")
    ms, _ = await time_parts(device, plan, repeats)
    plan.close()
    for buffer in buffers:
        buffer.destroy()
    return 2 * size / (ms * 1e6)


async def random_weight(device: Device, shape: tuple[int, int], form: str) -> Weight:
    """Return a (out, in) weight of random values: zeros would let a GPU clock higher than it does in earnest."""
    raw = random_rows(np.random.default_rng(0), shape, form)
    stored = [StoredTensor(f"{form} weight", shape, form, BytesSource(raw.data, form), 0, raw.size)]
    (weight,) = plan_weight(device, stored).pieces
    await upload_weight(weight, stored)
    return weight


def random_matrix(device: Device, shape: tuple[int, int]) -> Tensor:
    """Return a matrix of random numbers, the same million over and over: WebAssembly has no room for large ones."""
    tensor = Tensor(shape, device.create_buffer(4 * shape[0] * shape[1], "left"), 0, "left")
    some = np.random.default_rng(1).standard_normal(1 << 20, np.float32)
    for first in range(0, tensor.size, some.size):
        device.write(tensor.buffer, 4 * first, some[: tensor.size - first])
    return tensor


class Products:
    """Times the linear layer's products with a frozen weight."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.step = StepBuffer(device, "products")
        self.step.write(StepValues())
        self.left_out: list[str] = []

    def close(self) -> None:
        self.step.close()

    async def rows(self, m: int, weight: Weight, backward: bool = False) -> Row | None:
        """Return the row of x WT (or of dy W, backward) for m rows; None, and a line in `left_out`, where the adapter
        cannot do it or takes too long."""
        outs, ins = weight.shape
        inner, columns = (outs, ins) if backward else (ins, outs)
        name = f"matmul {m}x{inner}x{columns} {weight.form}{' backward' if backward else ''}"
        flops = 2.0 * m * inner * columns
        device, limits = self.device, self.device.limits
        largest = 4 * m * max(inner, columns)
        if largest > min(limits.max_storage_buffer_binding_size, limits.max_buffer_size):
            self.left_out.append(f"{name}: a matrix of {largest / 2**20:,.0f} MiB is more than the adapter binds")
            return None
        rate = device.segment_flops / 0.15  # what the device was seen to do, see Device.submit_measured
        if flops / rate > TOO_SLOW_S and device.info.is_software:
            self.left_out.append(f"{name}: it would take more than {TOO_SLOW_S:g} s each time")
            return None
        repeats = max(1, min(REPEATS, int(device.segment_flops // flops)))
        left = random_matrix(device, (m, inner))
        result = Tensor((m, columns), device.create_buffer(4 * m * columns, "result"), 0, "result")
        form = product_backward if backward else product

        def record(tape: Tape) -> None:
            form(tape, left, weight, result)

        ms, how = await self._time(record, repeats)
        left.buffer.destroy()
        result.buffer.destroy()
        moved = left.size_bytes + weight.tensor.size_bytes + result.size_bytes
        more: dict[str, Any] = {"ms": ms, "timed_by": how}
        return Row(name, flops / (ms * 1e9), "TFLOP/s", work=Work(flops, moved, 1), more=more)

    async def _time(self, record: Callable[[Tape], None], repeats: int) -> tuple[float, str]:
        tape = Tape(self.device, self.step.tensor, False)
        for _ in range(repeats):
            record(tape)
        pool = Pool(self.device, "products")
        plan = await self.device.build(tape, pool, "products")
        try:
            return await time_parts(self.device, plan, repeats)
        finally:
            plan.close()
            pool.close()


async def measure_products(
    device: Device, shapes: list[tuple[int, int]], rows: Sequence[int] = MATMUL_ROWS,
    forms: Sequence[str] = ("q4_1", "f16"), say: Callable[[Row], None] = lambda _: None,
) -> tuple[list[Row], list[str]]:  # fmt: skip
    """Return the rows of every (in, out) shape, form and direction, and what was left out and why.

    `say` hears of each row at once.
    """
    products, found = Products(device), []
    for ins, outs in shapes:
        for form in forms:
            if ins % BLOCK_SIZES[form][0]:
                products.left_out.append(f"{form}: a row of {ins} is no whole number of blocks")
                continue
            weight = await random_weight(device, (outs, ins), form)
            for m in rows:
                for backward in (False, True):
                    row = await products.rows(m, weight, backward)
                    if row is not None:
                        found.append(row)
                        say(row)
            weight.tensor.buffer.destroy()
    products.close()
    return found, products.left_out
