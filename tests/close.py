"""The one way in which numbers are compared, and one line to hold an op on a device against its reference.

A relative error is ||found - wanted|| / ||wanted|| over a whole tensor. NaN and Inf are looked for first: they would
make any other comparison say something misleading.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lora_lab.gpu import Buffer, Device, Pool, Tensor
from lora_lab.ops.elementwise import copy
from lora_lab.ops.step import StepBuffer, StepValues
from lora_lab.ops.tape import Tape
from tests.dirty import dirty_workgroup_memory
from tests.reference import directional_derivative

OP_TOLERANCE = 3e-6  # float32 sums of up to a thousand terms; one op adds no more than a few roundings
NAN_WORD = np.uint32(0x7FC0DEAD)  # what memory holds that no kernel has written: a NaN, so that a read of it shows


def relative_error(found: np.ndarray, wanted: np.ndarray, name: str = "tensor") -> float:
    """Return ||found - wanted|| / ||wanted|| (||found|| where nothing but zeros is wanted)."""
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    assert found.shape == wanted.shape, f"{name} is {found.shape}; wanted {wanted.shape}"
    for side, values in (("found", found), ("wanted", wanted)):
        bad = np.argwhere(~np.isfinite(values))
        assert not len(bad), f"{name}: {len(bad)} of {values.size} values {side} are NaN or Inf, first at {bad[0]}"
    return float(np.linalg.norm(found - wanted) / (np.linalg.norm(wanted) or 1.0))


def assert_close(found: np.ndarray, wanted: np.ndarray, tolerance: float, name: str = "tensor") -> float:
    """Assert that the relative error is at most `tolerance`, and return it."""
    error = relative_error(found, wanted, name)
    assert error <= tolerance, f"{name}: the relative error is {error:.3g}; at most {tolerance:g} is allowed"
    return error


def assert_all_close(found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray], tolerance: float) -> float:
    """Assert that both hold the same names and that each tensor is close; return the largest error."""
    assert sorted(found) == sorted(wanted)
    assert wanted, "there is nothing to compare"
    errors = {name: relative_error(found[name], wanted[name], name) for name in wanted}
    wrong = [f"{name} by {error:.3g}" for name, error in errors.items() if error > tolerance]
    assert not wrong, f"{len(wrong)} of {len(errors)} tensors are off by more than {tolerance:g}: {', '.join(wrong)}"
    return max(errors.values())


Build = Callable[[Tape, dict[str, Tensor]], Tensor]


def run_op(
    device: Device, build: Build, inputs: Mapping[str, np.ndarray], *, dy: np.ndarray | None = None,
    grads: tuple[str, ...] = (), outputs: tuple[str, ...] = (), step: StepValues | None = None,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Run an op forward and, where `dy` is given, backward. Return "y", "d" + name for `grads`, and the `outputs`.

    `build` gets a tensor for every input (float32, or uint32 for whole numbers), traces the op and returns its result.
    `outputs` are inputs that the op writes. All memory of the plan, and of its workgroups, holds NaN before the run.
    """
    return asyncio.run(_run_op(device, build, inputs, dy, grads, outputs, step or StepValues()))


async def _run_op(
    device: Device, build: Build, inputs: Mapping[str, np.ndarray], dy: np.ndarray | None, grads: tuple[str, ...],
    outputs: tuple[str, ...], step: StepValues,
) -> dict[str, np.ndarray]:  # fmt: skip
    before = device.num_buffers
    step_buffer, pool = StepBuffer(device, "test"), Pool(device, "test")
    step_buffer.write(step)
    tape = Tape(device, step_buffer.tensor)
    tensors = {name: device.upload(_for_gpu(values), name) for name, values in inputs.items()}
    made = [*tensors.values()]
    for name in grads:
        tensors[name].requires_grad = True
    wanted = {"y": build(tape, tensors)}
    if dy is not None:
        made.append(device.upload(_for_gpu(dy), "dy"))
        tape.give_grad(wanted["y"], made[-1])
        tape.backward()
        for name in grads:
            gradient = tape.grad(tensors[name])
            assert gradient is not None, f"{name} got no gradient"
            wanted[f"d{name}"] = gradient
    wanted |= {name: tensors[name] for name in outputs}
    for name, tensor in wanted.items():
        if not isinstance(tensor.storage, Buffer):  # it lives inside the plan: copy it out before it is reused
            made.append(device.upload(np.full(tensor.shape, NAN_WORD), f"{name} out"))
            copy(tape, tensor, made[-1])
            wanted[name] = made[-1]
    dirty_workgroup_memory(tape)
    plan = await device.build(tape, pool, "test")
    for buffer in pool.buffers:
        device.write(buffer, 0, np.full(buffer.size_bytes // 4, NAN_WORD))
    await device.submit_measured(plan)
    results = {name: await device.download(tensor) for name, tensor in wanted.items()}
    plan.close()
    pool.close()
    step_buffer.close()
    for tensor in made:
        tensor.storage.destroy()  # type: ignore[union-attr]
    assert device.num_buffers == before
    return results


def check_op(
    device: Device, build: Build, inputs: Mapping[str, np.ndarray], forward: Callable[..., np.ndarray],
    backward: Callable[..., Mapping[str, np.ndarray]] | None = None, *, step: StepValues | None = None,
    tolerance: float = OP_TOLERANCE, seed: int = 0,
) -> None:  # fmt: skip
    """Assert that an op's result and gradients are the reference's, and that finite differences agree with them.

    `forward(**inputs)` and `backward(dy, **inputs)` get the inputs as float64; `backward` returns gradients by name.
    """
    rng = np.random.default_rng(seed)
    exact = {name: _exact(_for_gpu(values)) for name, values in inputs.items()}
    wanted = forward(**exact)
    dy = rng.normal(size=wanted.shape).astype(np.float32) if backward else None
    gradients = dict(backward(_exact(dy), **exact)) if backward else {}
    found = run_op(device, build, inputs, dy=dy, grads=tuple(gradients), step=step)
    assert_close(found["y"], wanted, tolerance, "y")
    for name, gradient in gradients.items():
        assert_close(found[f"d{name}"], gradient, tolerance, f"d{name}")
        direction = rng.normal(size=exact[name].shape)
        slope = directional_derivative(
            lambda value, name=name: forward(**(exact | {name: value})), exact[name], _exact(dy), direction
        )
        gap = abs(np.sum(found[f"d{name}"] * direction) - slope)
        size = np.linalg.norm(gradient) * np.linalg.norm(direction)
        assert gap <= tolerance * size, f"d{name} is {gap:.3g} off the finite difference along a direction ({size:.3g})"


def _for_gpu(values: Any) -> np.ndarray:
    values = np.asarray(values)
    return values.astype(np.uint32 if np.issubdtype(values.dtype, np.integer) else np.float32)


def _exact(values: Any) -> np.ndarray:
    return values if np.issubdtype(values.dtype, np.integer) else values.astype(np.float64)
