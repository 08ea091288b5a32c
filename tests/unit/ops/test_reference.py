"""The reference itself: each backward function against central differences of its forward function."""

from __future__ import annotations

import numpy as np
import pytest

from tests import reference
from tests.close import assert_close, relative_error

RNG = np.random.default_rng(0)
TOLERANCE = 1e-7  # central differences in float64 lose about half the digits


def check(forward, gradients, inputs, dy) -> None:
    for name, gradient in gradients.items():
        numeric = reference.numerical_gradient(lambda x, name=name: forward(**(inputs | {name: x})), inputs[name], dy)
        assert_close(gradient, numeric, TOLERANCE, f"d{name}")


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape)


def test_rmsnorm() -> None:
    x, gain, dy = normal(3, 5), normal(5), normal(3, 5)
    dx = reference.rmsnorm_backward(dy, x, gain, 0.1)
    check(lambda x: reference.rmsnorm(x, gain, 0.1), {"x": dx}, {"x": x}, dy)


@pytest.mark.parametrize("rank", [0, 2])
def test_linear(rank: int) -> None:
    inputs = {"x": normal(3, 4)} | ({"a": normal(rank, 4), "b": normal(5, rank)} if rank else {})
    weight, dy = normal(5, 4), normal(3, 5)

    def forward(x, a=None, b=None):
        return reference.linear(x, weight, a, b, 0.7)

    gradients = reference.linear_backward(dy, inputs["x"], weight, inputs.get("a"), inputs.get("b"), 0.7)
    check(forward, gradients, inputs, dy)


def test_rope() -> None:
    positions, frequencies = np.array([0, 3, 11]), reference.rope_frequencies(4, 100.0)
    x, dy = normal(3, 8), normal(3, 8)
    dx = reference.rope_backward(dy, positions, 2, frequencies)
    check(lambda x: reference.rope(x, positions, 2, frequencies), {"x": dx}, {"x": x}, dy)


def test_attention_with_shared_heads_and_segments() -> None:
    positions = np.array([0, 1, 2, 0, 1, 0, 0, 1, 2, 3])  # two sequences, the first of three segments
    inputs = {"q": normal(10, 4 * 2), "k": normal(10, 2 * 2), "v": normal(10, 2 * 2)}
    dout = normal(10, 4 * 2)
    gradients = reference.attention_backward(dout, **inputs, positions=positions, length=5, heads=4, kv_heads=2)
    check(lambda q, k, v: reference.attention(q, k, v, positions, 5, 4, 2), gradients, inputs, dout)


def test_attention_of_a_segment_is_attention_of_its_own() -> None:
    q, k, v = normal(5, 8), normal(5, 4), normal(5, 4)
    packed = reference.attention(q, k, v, np.array([0, 1, 0, 1, 2]), 5, 4, 2)
    second = reference.attention(q[2:], k[2:], v[2:], np.arange(3), 3, 4, 2)
    assert_close(packed[2:], second, 1e-15)


def test_short_conv_of_several_texts() -> None:
    positions = np.array([0, 1, 2, 3, 0, 0, 1])
    weight, bcx, dy = normal(2, 3), normal(7, 6), normal(7, 2)
    dbcx = reference.short_conv_backward(dy, bcx, weight, positions)
    check(lambda bcx: reference.short_conv(bcx, weight, positions), {"bcx": dbcx}, {"bcx": bcx}, dy)


def test_short_conv_is_torchs() -> None:
    """The causal part of a padded convolution, each channel for itself; a text of its own where one begins."""
    import torch

    weight, bcx = normal(4, 3), normal(9, 12)
    b, c, x = np.split(bcx, 3, axis=1)
    for first, last in ((0, 5), (5, 9)):
        u = torch.tensor((b * x)[first:last].T[None])
        convolved = torch.nn.functional.conv1d(u, torch.tensor(weight[:, None]), padding=2, groups=4)
        wanted = c[first:last] * convolved[0, :, : last - first].numpy().T
        found = reference.short_conv(bcx, weight, np.array([0, 1, 2, 3, 4, 0, 1, 2, 3]))
        assert_close(found[first:last], wanted, 1e-14)


def test_swiglu() -> None:
    inputs, dy = {"gate": normal(3, 4), "up": normal(3, 4)}, normal(3, 4)
    check(reference.swiglu, reference.swiglu_backward(dy, **inputs), inputs, dy)


def test_geglu() -> None:
    inputs, dy = {"gate": normal(3, 4), "up": normal(3, 4)}, normal(3, 4)
    check(reference.geglu, reference.geglu_backward(dy, **inputs), inputs, dy)


def test_cross_entropy() -> None:
    x, weight, rows, targets = normal(6, 4), normal(7, 4), np.array([0, 2, 5]), np.array([6, 0, 3])
    dx = reference.cross_entropy_backward(x, weight, rows, targets, 0.25)

    def forward(x):
        return np.array(reference.cross_entropy(x, weight, rows, targets, 0.25))

    check(forward, {"x": dx}, {"x": x}, np.array(1.0))


@pytest.mark.parametrize("max_norm", [0.0, 0.5])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adamw_is_torchs(max_norm: float, weight_decay: float) -> None:
    import torch

    start = normal(20)
    parameter = torch.nn.Parameter(torch.tensor(start))
    optimizer = torch.optim.AdamW([parameter], lr=0.01, weight_decay=weight_decay)
    p, m, v = start, np.zeros(20), np.zeros(20)
    for t in range(1, 6):
        grad = normal(20)
        parameter.grad = torch.tensor(grad)
        if max_norm:
            torch.nn.utils.clip_grad_norm_([parameter], max_norm)
        optimizer.step()
        p, m, v = reference.adamw(
            p, grad, m, v, t, lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=weight_decay, max_norm=max_norm
        )
        assert_close(p, parameter.detach().numpy(), 1e-12)


def test_pcg_is_the_published_hash() -> None:
    # RXS-M-XS-32 by hand for 0: state 2891336453, shift 14 (its top 4 bits, 10, and 4).
    state = 2891336453
    word = ((state >> 14) ^ state) * 277803737 % 2**32
    assert reference.pcg(0) == (word >> 22) ^ word
    assert len({reference.pcg(i) for i in range(10_000)}) == 10_000  # a permutation


def test_a_relative_error_of_nan_is_refused() -> None:
    with pytest.raises(AssertionError, match="1 of 3 values found are NaN or Inf, first at"):
        relative_error(np.array([1.0, np.nan, 2.0]), np.ones(3))
    with pytest.raises(AssertionError, match="wanted"):
        relative_error(np.ones(3), np.ones((3, 1)))


def test_a_difference_of_one_percent_is_seen() -> None:
    wanted = normal(50)
    assert relative_error(wanted * 1.01, wanted) == pytest.approx(0.01)
    with pytest.raises(AssertionError, match=r"relative error is 0\.01"):
        assert_close(wanted * 1.01, wanted, 1e-3)
