"""RMSNorm, SwiGLU, addition, and the movers of rows, against float64 and finite differences."""

from __future__ import annotations

import numpy as np
import pytest

from lora_lab.gpu import Device
from lora_lab.gpu import plan as plan_module
from lora_lab.gpu.plan import Tensor
from lora_lab.ops.columns import split_columns
from lora_lab.ops.elementwise import add, add_bias, copy, fill, reshaped, scale
from lora_lab.ops.glu import glu
from lora_lab.ops.rmsnorm import rmsnorm
from lora_lab.ops.rows import gather_rows, last_row, scatter_rows
from lora_lab.ops.step import StepValues
from tests import reference
from tests.close import check_op, run_op

SHAPES = [(1, 4), (5, 36), (33, 576), (123, 65)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_rmsnorm(each_device: Device, shape: tuple[int, int], eps: float) -> None:
    rng = np.random.default_rng(shape[0])
    check_op(
        each_device,
        lambda tape, t: rmsnorm(tape, t["x"], t["gain"], eps),
        {"x": rng.normal(size=shape), "gain": rng.normal(size=shape[1])},
        lambda x, gain: reference.rmsnorm(x, gain, eps),
        lambda dy, x, gain: {"x": reference.rmsnorm_backward(dy, x, gain, eps)},
    )


def test_rmsnorm_adds_to_the_residuals_gradient(each_device: Device) -> None:
    """As in every block: the residual hands x its gradient first, the norm's is added to it."""
    rng = np.random.default_rng(1)

    def forward(x, gain, up):
        return x + reference.swiglu(reference.rmsnorm(x, gain, 1e-5), up)

    def backward(dy, x, gain, up):
        dnorm = reference.swiglu_backward(dy, reference.rmsnorm(x, gain, 1e-5), up)["gate"]
        return {"x": dy + reference.rmsnorm_backward(dnorm, x, gain, 1e-5)}

    check_op(
        each_device,
        lambda tape, t: add(tape, t["x"], glu(tape, rmsnorm(tape, t["x"], t["gain"], 1e-5), t["up"])),
        {"x": rng.normal(size=(33, 36)), "gain": rng.normal(size=36), "up": rng.normal(size=(33, 36))},
        forward,
        backward,
    )


def test_a_shared_gradient_is_not_written_while_it_is_read(device: Device) -> None:
    """x + norm(x): both sides' gradient is one tensor, which the norm's backward would read and add to at once."""
    inputs = {"x": np.ones((2, 4)), "gain": np.ones(4)}

    def build(tape, t):
        return add(tape, t["x"], rmsnorm(tape, t["x"], t["gain"], 1e-5))

    with pytest.raises(ValueError, match=r"d\.x is also the gradient of \['norm'\]"):
        run_op(device, build, inputs, dy=np.ones((2, 4)), grads=("x",))


@pytest.mark.parametrize("shape", SHAPES)
def test_swiglu(device: Device, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(shape[0])
    check_op(
        device,
        lambda tape, t: glu(tape, t["gate"], t["up"]),
        {"gate": 3 * rng.normal(size=shape), "up": rng.normal(size=shape)},
        reference.swiglu,
        lambda dy, gate, up: reference.swiglu_backward(dy, gate, up),
    )


def test_swiglu_far_from_zero(device: Device) -> None:
    """exp(-gate) overflows below -88: the result is 0, not NaN."""
    gate = np.array([[-1000.0, -89.0, -20.0, 0.0, 20.0, 89.0, 1000.0]])
    with np.errstate(over="ignore"):
        check_op(
            device,
            lambda tape, t: glu(tape, t["gate"], t["up"]),
            {"gate": gate, "up": np.ones(gate.shape)},
            reference.swiglu,
            lambda dy, gate, up: reference.swiglu_backward(dy, gate, up),
        )


@pytest.mark.parametrize("shape", SHAPES)
def test_geglu(device: Device, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(shape[0])
    check_op(
        device,
        lambda tape, t: glu(tape, t["gate"], t["up"], gelu=True),
        {"gate": 3 * rng.normal(size=shape), "up": rng.normal(size=shape)},
        reference.geglu,
        lambda dy, gate, up: reference.geglu_backward(dy, gate, up),
    )


def test_geglu_far_from_zero_and_made_again(device: Device) -> None:
    gate = np.array([[-1000.0, -89.0, -6.0, 0.0, 6.0, 89.0, 1000.0]])
    check_op(
        device,
        lambda tape, t: glu(tape, t["gate"], t["up"], gelu=True),
        {"gate": gate, "up": np.ones(gate.shape)},
        reference.geglu,
        lambda dy, gate, up: reference.geglu_backward(dy, gate, up),
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_scale(device: Device, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(shape[0])
    check_op(
        device,
        lambda tape, t: scale(tape, t["x"], 0.22),
        {"x": rng.normal(size=shape)},
        lambda x: 0.22 * x,
        lambda dy, x: {"x": 0.22 * dy},
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_a_bias_is_added_in_place(device: Device, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(shape[0])
    inputs = {"x": rng.normal(size=shape), "gain": np.ones(shape[1]), "bias": rng.normal(size=shape[1])}

    def build(tape, t):  # behind a norm, since an input of the test is not changed
        return add_bias(tape, rmsnorm(tape, t["x"], t["gain"], 1e-5), t["bias"])

    check_op(
        device,
        build,
        inputs,
        lambda x, gain, bias: reference.rmsnorm(x, gain, 1e-5) + bias,
        lambda dy, x, gain, bias: {"x": reference.rmsnorm_backward(dy, x, gain, 1e-5)},
    )


def test_a_norm_over_each_head_of_a_part(device: Device) -> None:
    """q and k of a joined product: each is looked at head by head, and their gradients are parts of one again."""
    rng = np.random.default_rng(0)
    rows, heads, head_dim = 6, 4, 20
    size = rows * heads * head_dim
    gain = rng.normal(size=head_dim)

    def build(tape, t):
        whole = glu(tape, t["x"], t["up"])
        parts = [Tensor((rows, heads * head_dim), whole.storage, 4 * i * size, f"{i}", True) for i in range(2)]
        tape.split(whole, parts)
        normed = [
            reshaped(
                tape,
                rmsnorm(tape, reshaped(tape, part, (rows * heads, head_dim)), t["gain"], 1e-5),
                (rows, heads * head_dim),
            )
            for part in parts
        ]
        return add(tape, normed[0], scale(tape, normed[1], 2.0))

    def forward(x, up, gain):
        y = reference.swiglu(x, up).reshape(2, rows * heads, head_dim)
        return (reference.rmsnorm(y[0], gain, 1e-5) + 2 * reference.rmsnorm(y[1], gain, 1e-5)).reshape(rows, -1)

    def backward(dy, x, up, gain):
        y = reference.swiglu(x, up).reshape(2, rows * heads, head_dim)
        grads = [
            reference.rmsnorm_backward(factor * dy.reshape(-1, head_dim), part, gain, 1e-5)
            for factor, part in zip((1, 2), y, strict=True)
        ]
        return {"x": reference.swiglu_backward(np.stack(grads).reshape(x.shape), x, up)["gate"]}

    inputs = {"x": rng.normal(size=2 * size), "up": rng.normal(size=2 * size), "gain": gain}
    check_op(device, build, inputs, forward, backward)


@pytest.mark.parametrize("width", [1, 4, 20])
def test_columns_are_parted_and_their_gradients_joined(device: Device, width: int) -> None:
    """Three parts of one width, so that they can be added up, each with a factor of its own."""
    rng, rows = np.random.default_rng(0), 7

    def build(tape, t):
        a, b, c = split_columns(tape, t["x"], (width, width, width))
        return add(tape, add(tape, a, scale(tape, b, 2.0)), scale(tape, c, 3.0))

    check_op(
        device,
        build,
        {"x": rng.normal(size=(rows, 3 * width))},
        lambda x: x[:, :width] + 2 * x[:, width : 2 * width] + 3 * x[:, 2 * width :],
        lambda dy, x: {"x": np.concatenate([dy, 2 * dy, 3 * dy], axis=1)},
    )


def test_columns_of_other_widths(device: Device) -> None:
    x = np.arange(60.0).reshape(2, 30)
    for index, part in enumerate(np.split(x, [20, 26], axis=1)):
        found = run_op(device, lambda tape, t, index=index: split_columns(tape, t["x"], (20, 6, 4))[index], {"x": x})
        assert np.array_equal(found["y"], part)


@pytest.mark.parametrize("shape", SHAPES)
def test_add_hands_its_gradient_to_both_sides(device: Device, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(shape[0])
    check_op(
        device,
        lambda tape, t: add(tape, t["a"], t["b"]),
        {"a": rng.normal(size=shape), "b": rng.normal(size=shape)},
        lambda a, b: a + b,
        lambda dy, a, b: {"a": dy, "b": dy},
    )


@pytest.mark.parametrize("size", [1, 63, 64, 65, 8193])
def test_copy_and_fill_reach_every_element_and_no_more(device: Device, size: int) -> None:
    values = np.random.default_rng(size).normal(size=size).astype(np.float32)

    def build(tape, t):
        copied = tape.tensor((size,), "copied")
        copy(tape, t["x"], copied)
        filled = tape.tensor((size,), "filled")
        fill(tape, filled, 2.5)
        return add(tape, copied, filled)

    assert np.array_equal(run_op(device, build, {"x": values})["y"], values + np.float32(2.5))


def test_a_grid_folded_into_two_dimensions(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """What more than 65,535 workgroups become, tried with a smaller limit."""
    monkeypatch.setattr(plan_module, "MAX_WORKGROUPS", 7)
    rng = np.random.default_rng(0)
    shape = (41, 63)
    assert plan_module.grid_1d(41) == (7, 6, 1)
    check_op(
        device,
        lambda tape, t: rmsnorm(tape, add(tape, t["x"], glu(tape, t["x"], t["up"])), t["gain"], 1e-5),
        {"x": rng.normal(size=shape), "up": rng.normal(size=shape), "gain": rng.normal(size=63)},
        lambda x, up, gain: reference.rmsnorm(x + reference.swiglu(x, up), gain, 1e-5),
    )


@pytest.mark.parametrize("trained", [0, 1, 3, 5])
def test_gather_and_scatter_stop_at_the_trained_rows(device: Device, trained: int) -> None:
    """Rows 2 to 5 of a list of which `trained` are valid, out of x and back; the rest of y keeps what it holds."""
    rng = np.random.default_rng(trained)
    x, y = rng.normal(size=(9, 6)).astype(np.float32), np.full((9, 6), 7.0, np.float32)
    rows = np.array([8, 0, 3, 1, 6])

    def build(tape, t):
        part = tape.tensor((3, 6), "part")
        gather_rows(tape, t["x"], t["rows"], part, 2)
        scatter_rows(tape, part, t["rows"], t["y"], 2)
        return t["y"]

    found = run_op(device, build, {"x": x, "rows": rows, "y": y}, step=StepValues(loss_rows=trained))
    y[rows[2:trained]] = x[rows[2:trained]]
    assert np.array_equal(found["y"], y)


@pytest.mark.parametrize("row", [0, 4, 8])
def test_the_last_row_of_a_padded_prompt(device: Device, row: int) -> None:
    x = np.random.default_rng(0).normal(size=(9, 70)).astype(np.float32)

    def build(tape, t):
        y = tape.tensor((1, 70), "last")
        last_row(tape, t["x"], y)
        return y

    assert np.array_equal(run_op(device, build, {"x": x}, step=StepValues(last_row=row))["y"], x[row : row + 1])
