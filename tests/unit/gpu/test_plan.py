"""Traces and plans without a GPU: aliasing, lives, grids, segments, kernels' parameters, the step buffer, the tape."""

from __future__ import annotations

import re
import struct
from dataclasses import astuple, fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_lab.gpu.kernel import kernel
from lora_lab.gpu.plan import MAX_WORKGROUPS, Buffer, Plan, Tensor, Trace, grid_1d, lay_out
from lora_lab.ops.elementwise import copy, fill
from lora_lab.ops.step import StepBuffer, StepValues
from lora_lab.ops.tape import Tape

WGSL = Path(__file__).parents[3] / "app" / "wgsl"


def buffer_tensor(size: int, buffer: Buffer | None = None, offset: int = 0, label: str = "x") -> Tensor:
    return Tensor((size,), buffer or Buffer(None, 4 * size + offset, label, False), offset, label)


# --- aliasing ---


def test_reading_what_is_written_is_refused() -> None:
    x = buffer_tensor(8, label="activations")
    with pytest.raises(ValueError, match=r"`y` \(activations\) is written and shares its buffer with `a`"):
        copy(Trace(), x, x)


def test_disjoint_parts_of_one_buffer_are_refused_too() -> None:
    """WebGPU forbids one buffer read-only and read-write in one dispatch, also at disjoint ranges."""
    whole = Buffer(None, 1024, "whole", False)
    with pytest.raises(ValueError, match="shares its buffer"):
        copy(Trace(), buffer_tensor(8, whole), buffer_tensor(8, whole, 256))


def test_two_written_parts_may_be_disjoint_but_not_overlap() -> None:
    sizes = {"n": 8, "beta1": 0.0, "beta2": 0.0, "one_minus_beta1": 0.0, "one_minus_beta2": 0.0, "eps": 0.0,
             "weight_decay": 0.0, "max_norm": 0.0}  # fmt: skip
    whole = Buffer(None, 4096, "whole", False)

    def record(offset: int) -> None:
        tensors = {name: buffer_tensor(8) for name in ("step", "p", "grad", "norm")}
        tensors |= {"m": buffer_tensor(8, whole), "v": buffer_tensor(8, whole, offset)}
        Trace().dispatch(kernel("adamw", "update"), tensors, sizes, (1,))

    record(256)
    record(32)
    with pytest.raises(ValueError, match="shares its buffer"):
        record(28)


def test_one_tensor_may_be_read_twice() -> None:
    trace = Trace()
    x = buffer_tensor(8)
    trace.dispatch(kernel("elementwise", "add"), {"a": x, "b": x, "y": buffer_tensor(8)}, {"n": 8, "value": 0.0}, (1,))
    assert len(trace.dispatches) == 1


# --- lives ---


def test_values_live_from_their_first_to_their_last_dispatch() -> None:
    trace = Trace()
    values = [trace.tensor((10,), name) for name in ("a", "b", "c", "unused")]
    fill(trace, values[0], 1.0)  # 0
    copy(trace, values[0], values[1])  # 1
    copy(trace, values[1], values[2])  # 2
    copy(trace, values[0], buffer_tensor(10))  # 3
    assert [(v.storage.first, v.storage.last) for v in values] == [(0, 3), (1, 2), (2, 2), (-1, -1)]
    layout = lay_out(trace, [])
    assert layout.sizes == [40, 40, 40]  # all three are alive at dispatch 2; what is never used takes nothing
    assert id(values[3].storage) not in layout.slot_of


def test_a_view_of_a_value_keeps_it_alive() -> None:
    trace = Trace()
    value = trace.tensor((100,), "value")
    fill(trace, value, 0.0)
    fill(trace, trace.tensor((100,), "other"), 0.0)
    copy(trace, Tensor((10,), value.storage, 64 * 4, "view"), buffer_tensor(10))
    assert (value.storage.first, value.storage.last) == (0, 2)


# --- grids ---


@given(st.integers(1, 10**9))
def test_a_grid_has_enough_workgroups_and_few_too_many(workgroups: int) -> None:
    x, y, z = grid_1d(workgroups)
    assert z == 1 and 1 <= x <= MAX_WORKGROUPS and 1 <= y <= MAX_WORKGROUPS
    assert workgroups <= x * y < workgroups + y


@pytest.mark.parametrize("grid", [(0,), (1, MAX_WORKGROUPS + 1), (MAX_WORKGROUPS + 1,)])
def test_a_grid_outside_the_limits_is_refused(grid: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="outside 1"):
        Trace().dispatch(kernel("elementwise", "fill"), {"y": buffer_tensor(1)}, {"n": 1, "value": 0.0}, grid)


# --- segments ---


def plan_of(costs: list[float]) -> Plan:
    return Plan(device=None, handle=None, costs=costs, names=["kernel"] * len(costs), label="plan")


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=60), st.floats(1, 5e6))
def test_segments_cover_a_plan_in_order_and_keep_to_their_size(costs: list[float], limit: float) -> None:
    segments = plan_of(costs).segments(limit)
    assert [first for first, _ in segments] == [0, *(last for _, last in segments[:-1])]
    assert segments[-1][1] == len(costs)
    for first, last in segments:
        assert last == first + 1 or sum(costs[first:last]) <= limit  # one dispatch cannot be cut
        if last < len(costs):
            assert sum(costs[first : last + 1]) > limit  # and none could have been longer


def test_segments_follow_what_was_measured() -> None:
    plan = plan_of([10.0] * 12)
    assert len(plan.segments(30.0)) == 4
    assert plan.segments(30.0) is plan.segments(30.0)
    assert len(plan.segments(60.0)) == 2


# --- kernels ---


def test_a_parameter_that_is_missing_or_unknown_is_refused() -> None:
    add = kernel("elementwise", "add")
    assert add.pack_params({"value": 0.5, "n": 3}) == struct.pack("<If", 3, 0.5)
    for wrong in ({"n": 3}, {"n": 3, "value": 0.5, "m": 1}, {"N": 3, "value": 0.5}):
        with pytest.raises(ValueError, match=r"elementwise\.add takes the parameters"):
            add.pack_params(wrong)


def test_a_kernel_is_the_same_object_every_time() -> None:
    assert kernel("linear/tiled", "forward", includes=("weights/f16",)) is kernel(
        "linear/tiled", "forward", includes=("weights/f16",)
    )
    assert kernel("linear/tiled", "forward", includes=("weights/f16",)) != kernel(
        "linear/tiled", "forward", includes=("weights/f32",)
    )


def test_bindings_are_read_from_the_source() -> None:
    bindings = kernel("linear/tiled", "forward", includes=("linear/vectors", "weights/q4_1")).bindings
    found = {name: (binding.index, binding.access) for name, binding in bindings.items()}
    assert found["params"] == (0, "uniform")
    assert found["step"] == (1, "uniform")
    assert found["weight"] == (2, "read")
    assert found["y"] == (4, "read_write")


@pytest.mark.parametrize("path", sorted(WGSL.rglob("*.wgsl")), ids=lambda path: path.stem)
def test_every_kernel_has_a_line_that_says_what_it_is(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("// ")


# --- the step buffer ---


def test_step_values_are_the_wgsl_structs_fields() -> None:
    """Same names, same order, same types, in Python's dataclass, in WGSL and in the bytes that are written."""
    source = (WGSL / "step.wgsl").read_text(encoding="utf-8")
    body = re.search(r"struct Step \{(.*?)\n\}", source, re.S).group(1)
    wgsl = re.findall(r"(\w+)\s*:\s*(f32|u32)", re.sub(r"//.*", "", body))
    assert [name for name, _ in wgsl] == [field.name for field in fields(StepValues)]

    written: list[bytes] = []

    class Recorder:
        def create_buffer(self, size_bytes: int, label: str, uniform: bool) -> Buffer:
            assert uniform and size_bytes == 4 * len(wgsl)
            return Buffer(self, size_bytes, label, uniform)

        def write(self, buffer: Buffer, offset: int, data: bytes) -> None:
            written.append(data)

    values = StepValues(*(index + 1 if kind == "u32" else index + 0.5 for index, (_, kind) in enumerate(wgsl)))
    StepBuffer(Recorder(), "test").write(values)
    form = "<" + "".join("I" if kind == "u32" else "f" for _, kind in wgsl)
    assert struct.unpack(form, written[0]) == astuple(values)
    assert len(written[0]) % 16 == 0  # a uniform struct's size


# --- the tape ---


class NoDevice:
    """The tape never touches the device itself."""


def test_a_second_gradient_of_one_tensor_is_refused() -> None:
    tape = Tape(NoDevice(), buffer_tensor(16))
    x = tape.tensor((4,), "x", requires_grad=True)
    tape.give_grad(x, tape.tensor((4,), "dx"))
    with pytest.raises(ValueError, match="x has a gradient already"):
        tape.give_grad(x, tape.tensor((4,), "dx"))


def test_what_is_not_trained_gets_no_gradient() -> None:
    tape = Tape(NoDevice(), buffer_tensor(16))
    frozen = tape.tensor((4,), "frozen")
    tape.give_grad(frozen, tape.tensor((4,), "dx"))
    assert tape.grad(frozen) is None
    assert tape.grad_target(frozen) is None


def test_without_gradients_nothing_is_left_on_the_tape() -> None:
    tape = Tape(NoDevice(), buffer_tensor(16), grad_enabled=False)
    y = tape.tensor((4,), "y", requires_grad=True)
    tape.on_backward(y, lambda dy: pytest.fail("this backward must not run"))
    tape.give_grad(y, tape.tensor((4,), "dy"))
    tape.backward()


def test_the_layout_in_an_empty_pool_is_kept_until_more_is_recorded() -> None:
    trace = Trace()
    one, other = (trace.tensor((size,), "value") for size in (8, 16))
    fill(trace, one, 0.0)
    first = lay_out(trace, [])
    assert lay_out(trace, []) is first
    assert lay_out(trace, [64]) is not first
    assert lay_out(trace, [64]).sizes == [64]
    copy(trace, one, other)
    assert lay_out(trace, []) is not first
    assert set(lay_out(trace, []).slot_of) == {id(one.storage), id(other.storage)}
