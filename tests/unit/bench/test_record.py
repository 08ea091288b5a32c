"""What the recorder learns of plans without a GPU, and the clocks of the benchmark."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from bench.measure import Inside, drift_percent
from bench.micro import is_rounded, time_parts
from bench.record import Recorder, covered, python_clock
from bench.rows import Work
from lora_lab.gpu.plan import Buffer, Plan, Tensor, Trace
from lora_lab.ops.elementwise import add, copy, fill
from lora_lab.ops.tape import Tape


class FakeDevice:
    """Takes plans and replays nothing; every dispatch `takes_ms`."""

    def __init__(self, takes_ms: float | None = 0.5) -> None:
        self.takes_ms, self.writes = takes_ms, 0

    async def build(self, trace: Trace, label: str) -> Plan:
        names = [f"{dispatch.kernel.name}.{dispatch.kernel.entry}" for dispatch in trace.dispatches]
        return Plan(self, None, [d.flops for d in trace.dispatches], names, label)

    def submit(self, plan: Plan) -> None:
        self._submit(plan.handle, 0, plan.num_dispatches)

    async def submit_measured(self, plan: Plan) -> None:
        self.submit(plan)

    async def finished(self) -> None: ...

    def write(self, buffer: Buffer, offset: int, data: Any) -> None:
        self.writes += 1

    def submit_reading(self, plan: Plan, tensor: Tensor) -> None:
        self._submit_reading(plan.handle, 0, plan.num_dispatches, tensor.buffer, 0, tensor.size_bytes)

    def _submit(self, handle: Any, first: int, last: int) -> None: ...

    def _submit_reading(self, handle: Any, first: int, last: int, *place: Any) -> None:
        self._submit(handle, first, last)

    async def profile(self, plan: Plan, together: int = 1) -> list[float] | None:
        if self.takes_ms is None:
            return None
        firsts = range(0, plan.num_dispatches, together)
        return [self.takes_ms * min(together, plan.num_dispatches - first) for first in firsts]


def tensor(size: int, label: str) -> Tensor:
    return Tensor((size,), Buffer(None, 4 * size, label, False), 0, label)


def recorded() -> tuple[Recorder, Plan, dict[str, Tensor]]:
    """A plan that adds a and b, and copies their sum twice."""
    device = FakeDevice()
    recorder = Recorder(device)  # type: ignore[arg-type]
    tensors = {name: tensor(1000, name) for name in ("a", "b", "y", "z")}
    tape = Tape(device, tensor(16, "step"), False)  # type: ignore[arg-type]
    total = add(tape, tensors["a"], tensors["b"])
    copy(tape, total, tensors["y"])
    copy(tape, total, tensors["z"])
    return recorder, asyncio.run(device.build(tape, "sum")), tensors


def test_work_counts_each_byte_once_a_direction() -> None:
    recorder, plan, _ = recorded()
    window = recorder.start()
    recorder.device.submit(plan)
    recorder.device.submit(plan)
    # a and b read, the sum written and read, y and z written: six times 4,000 bytes, though it is read twice.
    assert recorder.work(window.plans) == Work(2 * 3 * 1000.0, 2 * 6 * 4000.0, 2 * 3)
    assert recorder.start() is not window
    assert recorder.work(recorder.window.plans) == Work()


def test_a_buffer_in_use_in_part_counts_in_part() -> None:
    recorder, plan, tensors = recorded()
    recorder.share_of[id(tensors["a"].storage)] = 0.25
    assert recorder.work({id(plan): 1}).bytes == 6 * 4000 - 3000
    assert recorder.dispatch_bytes(recorder.traces[id(plan)].dispatches[0]) == 3 * 4000 - 3000


def test_the_profile_sums_by_kernel_with_rates() -> None:
    recorder, plan, _ = recorded()
    entries = asyncio.run(recorder.profile({id(plan): 2}))
    assert [(e["kernel"], e["ms"], e["dispatches"]) for e in entries] == [
        ("elementwise.copy", 2.0, 4), ("elementwise.add", 1.0, 2),
    ]  # fmt: skip
    assert entries[1]["gflops_per_s"] == pytest.approx(2 * 1000 / 1.0 / 1e6)
    assert entries[1]["gb_per_s"] == pytest.approx(2 * 12_000 / 1.0 / 1e6)


def test_without_timestamps_there_is_no_profile() -> None:
    recorder, plan, _ = recorded()
    recorder.device.takes_ms = None  # type: ignore[attr-defined]
    assert asyncio.run(recorder.profile({id(plan): 1})) == []


def test_a_profile_runs_with_the_inputs_of_the_last_replay() -> None:
    """The step's values say how many rows are trained: with another plan's, kernels would have nothing to do."""
    recorder, plan, _ = recorded()
    values = Buffer(None, 64, "step", True)
    values.handle = object()
    recorder.device.write(values, 0, b"12345678")
    recorder.device.submit(plan)
    recorder.device.write(values, 0, b"abcdefgh")
    assert recorder.inputs[id(plan)] == {values: b"12345678"}
    before = recorder.device.writes  # type: ignore[attr-defined]
    asyncio.run(recorder.profile({id(plan): 1}))
    assert recorder.device.writes == before + 1  # type: ignore[attr-defined]


def test_a_closed_recorder_hears_nothing() -> None:
    recorder, plan, _ = recorded()
    recorder.close()
    window = recorder.start()
    recorder.device.submit(plan)
    assert not window.plans


def test_a_submit_that_reads_is_one_replay_and_its_time_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, plan, tensors = recorded()
    now = iter(range(100))
    monkeypatch.setattr("bench.record.python_clock", lambda: float(next(now)))
    window = recorder.start()
    recorder.device.submit_reading(plan, tensors["y"])
    assert window.plans == {id(plan): 1}
    assert window.submit_s == 1.0  # the submit inside it did not look at the clock


def test_covered_counts_overlaps_once() -> None:
    assert covered([(0, 10), (5, 20), (30, 40), (32, 35), (40, 41)]) == 31
    assert covered([]) == 0


def test_a_part_is_its_share_of_the_replay_unless_the_timer_is_too_coarse() -> None:
    for ms, how in ((0.123, "timestamps"), (0.1, "the clock, differences")):
        device = FakeDevice(ms)
        trace = Trace()
        for _ in range(6):
            fill(trace, tensor(64, "x"), 0.0)
        plan = asyncio.run(device.build(trace, "fills"))
        found, timed_by = asyncio.run(time_parts(device, plan, 3))  # type: ignore[arg-type]
        assert timed_by == how
        assert (found == pytest.approx(2 * ms)) == (how == "timestamps")
    assert is_rounded([0.1, 0.3, 0.0])
    assert not is_rounded([0.1, 0.25])


def test_time_inside_leaves_out_waiting_and_counts_work() -> None:
    def work(seconds: float) -> None:
        start = python_clock()
        while python_clock() - start < seconds:
            pass

    async def task() -> str:
        work(0.02)
        await asyncio.sleep(0.2)
        work(0.02)
        return "done"

    async def measure() -> tuple[str, float, float]:
        inside, start = Inside(task()), time.perf_counter()
        answer = await inside
        return answer, inside.seconds, time.perf_counter() - start

    answer, inside_s, whole_s = asyncio.run(measure())
    assert answer == "done"
    assert 0.04 <= inside_s < 0.19 < whole_s


def test_drift_compares_the_ends() -> None:
    assert drift_percent([10.0] * 100 + [50.0] * 800 + [11.0] * 100, 100) == pytest.approx(10.0)
    assert drift_percent([10.0] * 200, 100) == 0.0
