"""Learning what a device was asked to do: every plan that is built, and every replay, with the work in it.

The engine is measured through its public ways in and needs no hooks: the recorder stands between it and the seam.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.rows import Work
from lora_lab.gpu import Buffer, Device, Plan, Tensor, Trace
from lora_lab.gpu.plan import Dispatch

# Time inside Python: the thread's own where the operating system counts it. Pyodide has the wall clock alone, but there
# nothing inside Python waits.
python_clock: Callable[[], float] = time.perf_counter if sys.platform == "emscripten" else time.thread_time
SMALL_BYTES = 256  # of a uniform buffer that may vary from replay to replay


@dataclass
class Window:
    """What was replayed between a start and a stop: how often each plan, and the time that encoding took."""

    plans: Counter[int] = field(default_factory=Counter)
    submit_s: float = 0.0


class Recorder:
    """Wraps `build`, `submit`, `write` of a device. `share_of` says which part of a buffer is really touched."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.traces: dict[int, Trace] = {}
        self.plans: dict[int, Plan] = {}
        self.inputs: dict[int, dict[Buffer, bytes]] = {}  # of a plan's last replay: its small uniform buffers
        self.share_of: dict[int, float] = {}  # id(buffer) -> the part that one replay touches; 1 where not said
        self.window = Window()
        self._small: dict[Buffer, bytes] = {}
        self._build, self._submit, self._write = device.build, device.submit, device.write
        self._measured, self._reading = device.submit_measured, device.submit_reading
        self._encoding = False
        vars(device).update(
            build=self.build, submit=self.submit, submit_measured=self.submit_measured, write=self.write,
            submit_reading=self.submit_reading, _submit=self.timed(device._submit),
            _submit_reading=self.timed(device._submit_reading),
        )  # fmt: skip

    def close(self) -> None:
        """Leave the device as it was."""
        wrapped = "build", "submit", "submit_measured", "write", "submit_reading", "_submit", "_submit_reading"
        for name in wrapped:
            vars(self.device).pop(name, None)

    async def build(self, trace: Trace, *args: Any, **named: Any) -> Plan:
        plan = await self._build(trace, *args, **named)
        self.traces[id(plan)], self.plans[id(plan)] = trace, plan
        return plan

    def submit(self, plan: Plan) -> None:
        self._note(plan)
        self._submit(plan)

    async def submit_measured(self, plan: Plan) -> None:
        self._note(plan)
        await self._measured(plan)

    def submit_reading(self, plan: Plan, tensor: Tensor) -> Awaitable[bytes]:
        self._note(plan)
        return self._reading(plan, tensor)

    def timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return the call, its time counted as that of submitting; one inside another counts once."""

        def timed_call(*args: Any) -> Any:
            if self._encoding:
                return call(*args)
            self._encoding, start = True, python_clock()
            try:
                return call(*args)
            finally:
                self._encoding = False
                self.window.submit_s += python_clock() - start

        return timed_call

    def write(self, buffer: Buffer, offset: int, data: Any) -> None:
        if buffer.uniform and buffer.size_bytes <= SMALL_BYTES and offset == 0:
            self._small[buffer] = bytes(data)
        self._write(buffer, offset, data)

    def _note(self, plan: Plan) -> None:
        self.window.plans[id(plan)] += 1
        self.inputs[id(plan)] = dict(self._small)

    def start(self) -> Window:
        """Begin a new window and return it."""
        self.window = Window()
        return self.window

    def work(self, plans: Mapping[int, int]) -> Work:
        """Return the work of so many replays of each plan (by id)."""
        total = Work()
        for key, count in plans.items():
            total += self.plan_work(self.traces[key]).times(count)
        return total

    def plan_work(self, trace: Trace) -> Work:
        """Return a replay's work. Its bytes: each byte that it reads counts once and each that it writes once, however
        many dispatches do so, for a cache could keep the rest."""
        flops = sum(dispatch.flops for dispatch in trace.dispatches)
        spans: dict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)
        shares: dict[int, float] = {}
        for dispatch in trace.dispatches:
            for name, tensor in dispatch.tensors.items():
                access = dispatch.kernel.bindings[name].access
                if access != "uniform":
                    key = id(tensor.storage)
                    spans[key, access].append((tensor.offset, tensor.offset + tensor.size_bytes))
                    shares[key] = self.share_of.get(key, 1.0)
        moved = sum(shares[key] * covered(parts) for (key, _), parts in spans.items())
        return Work(flops, moved, len(trace.dispatches))

    def dispatch_bytes(self, dispatch: Dispatch) -> float:
        """Return what one dispatch touches at least once: the sizes of its storage bindings."""
        return sum(
            self._touched(tensor)
            for name, tensor in dispatch.tensors.items()
            if dispatch.kernel.bindings[name].access != "uniform"
        )

    def _touched(self, tensor: Tensor) -> float:
        return tensor.size_bytes * self.share_of.get(id(tensor.storage), 1.0)

    async def profile(self, plans: Mapping[int, float], times: int = 3) -> list[dict[str, Any]]:
        """Return the time by kernel of so many replays of each plan, the longest first; empty where the device has no
        timestamps. Every plan is replayed `times` times with its last inputs, and the median taken of each dispatch."""
        found: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0, 0.0])
        for key, count in plans.items():
            plan, trace = self.plans[key], self.traces[key]
            for buffer, data in self.inputs.get(key, {}).items():
                if buffer.handle is not None:
                    self._write(buffer, 0, data)
            runs = [await self.device.profile(plan) for _ in range(times)]
            known = [run for run in runs if run is not None]
            if not known:
                return []
            for index, dispatch in enumerate(trace.dispatches):
                entry = found[plan.names[index]]
                ms = statistics.median(run[index] for run in known)
                for i, value in enumerate((ms, 1, dispatch.flops, self.dispatch_bytes(dispatch))):
                    entry[i] += count * value
        ordered = sorted(found.items(), key=lambda item: -item[1][0])
        entries = []
        for name, (ms, calls, flops, moved) in ordered:
            rates = {"gflops_per_s": flops / ms / 1e6, "gb_per_s": moved / ms / 1e6} if ms else {}
            rates = rates or {"gflops_per_s": 0.0, "gb_per_s": 0.0}
            entries.append({"kernel": name, "ms": ms, "dispatches": calls, **rates})
        return entries


def covered(spans: Iterable[tuple[int, int]]) -> int:
    """Return how many bytes lie in at least one of the (start, end) spans."""
    total, reached = 0, 0
    for start, end in sorted(spans):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total
