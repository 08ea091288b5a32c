"""Negative controls: wrong gradients, planted one at a time, that the comparison with PEFT must catch.

A comparison that never fails proves nothing. Each fault changes one number of the backward pass, most by one percent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lora_lab.config import LoraConfig
from lora_lab.gpu import Device, Trace
from lora_lab.gpu.kernel import Kernel
from lora_lab.ops.step import StepValues
from lora_lab.ops.tape import Tape
from lora_lab.train.plans import TrainPlans
from tests.gpu.conftest import Tiny
from tests.gpu.test_tiny_llama import compare_gradients

LORA = LoraConfig(rank=3, alpha=6)
Fault = Callable[[Kernel, dict[str, Any], dict[str, Any]], bool]  # changes tensors or params; says whether it did


def scaled(parameter: str, factor: float, kernels: str, entry: str = "", output: str = "") -> Fault:
    """A parameter of some dispatches is multiplied: those of kernels named so, which write a tensor labelled so."""

    def plant(kernel: Kernel, tensors: dict[str, Any], params: dict[str, Any]) -> bool:
        hit = kernel.name.startswith(kernels) and entry in kernel.entry and parameter in params
        if hit and any(t.label.endswith(output) for t in tensors.values()):
            params[parameter] *= factor
            return True
        return False

    return plant


def swapped(first: str, second: str, kernels: str, entry: str) -> Fault:
    """Two bindings of a kernel change places."""

    def plant(kernel: Kernel, tensors: dict[str, Any], params: dict[str, Any]) -> bool:
        if kernel.name.startswith(kernels) and kernel.entry.startswith(entry):
            tensors[first], tensors[second] = tensors[second], tensors[first]
            return True
        return False

    return plant


FAULTS = {
    "dA off by one percent": scaled("alpha", 1.01, "matmul", output="0.self_attn.v_proj.lora_A"),
    "dB off by one percent": scaled("alpha", 1.01, "matmul", output="1.mlp.down_proj.lora_B"),
    "attention's backward off by one percent": scaled("scale", 1.01, "attention", "backward"),
    "RoPE is not turned back": scaled("sign", -1.0, "rope"),
    "the residual's gradient is lost in the norm": scaled("accumulate", 0, "rmsnorm", "backward"),
    "gate and up change places": swapped("gate_grad", "up_grad", "glu", "backward"),
    "the norm's epsilon is another one": scaled("eps", 100.0, "rmsnorm", "forward"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught(each_device: Device, tiny: Tiny, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    planted = []
    honest = Trace.dispatch

    def dispatch(self: Trace, kernel: Kernel, tensors: Any, params: Any, *rest: Any) -> None:
        tensors, params = dict(tensors), dict(params)
        if isinstance(self, Tape):
            planted.append(FAULTS[name](kernel, tensors, params))
        honest(self, kernel, tensors, params, *rest)

    monkeypatch.setattr(Trace, "dispatch", dispatch)
    with pytest.raises(AssertionError, match=r"tensors are off by more than 1e-05|loss: the relative error is"):
        compare_gradients(tiny, LORA, batch=4, accumulate=1)
    assert any(planted), "the fault was never planted"


def test_the_same_comparison_passes_without_a_fault(each_device: Device, tiny: Tiny) -> None:
    assert compare_gradients(tiny, LORA, batch=4, accumulate=1) <= 1e-5


def test_a_mean_of_means_is_caught(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """The classic mistake of gradient accumulation: each micro-batch divided by its own trained tokens."""
    honest = TrainPlans.set_step

    def mean_of_means(plans: TrainPlans, values: StepValues) -> None:
        values.inv_tokens = 1 / (4 * values.loss_rows)
        honest(plans, values)

    monkeypatch.setattr(TrainPlans, "set_step", mean_of_means)
    with pytest.raises(AssertionError, match="loss: the relative error is"):
        compare_gradients(tiny, LORA, batch=1, accumulate=4)


def test_a_mask_moved_by_one_token_is_caught(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    from lora_lab.data.tokens import packing

    honest = packing.make_batch

    def moved(*arguments: Any, **options: Any) -> Any:
        batch = honest(*arguments, **options)
        return replace(batch, weights=np.roll(batch.weights, 1, axis=1))

    monkeypatch.setattr(packing, "make_batch", moved)
    with pytest.raises(AssertionError, match="loss: the relative error is"):
        compare_gradients(tiny, LORA, batch=4, accumulate=1)
