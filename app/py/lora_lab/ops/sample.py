"""Drawing the next token on the GPU."""

from __future__ import annotations

from ..gpu.kernel import kernel
from ..gpu.plan import Tensor
from .tape import Tape

PASSES = 70  # over the vocabulary, at most
LOOP_ROUNDS = 1 << 15


def sample(trace: Tape, logits: Tensor, seen: Tensor, token: Tensor, drawn: Tensor) -> None:
    """token (1), u32, is drawn from logits (1, V) by the sampling values of the step buffer; logits are overwritten.

    seen (V), u32: nonzero for the tokens of the text so far, for the repetition penalty; the result joins them.
    drawn (any length), u32: the result stands there too, at step.draw modulo the length.
    """
    assert trace.step is not None
    tensors = {"step": trace.step, "logits": logits, "seen": seen, "token": token, "drawn": drawn}
    # One workgroup goes through the whole vocabulary: as many invocations as the device gives it.
    device = trace.device
    most = min(1024, device.limits.max_invocations_per_workgroup)
    lanes = most if device.use_workgroup_memory else 256
    # A pass for each bit of two thresholds, and a few more: llvmpipe leaves a kernel's loops after 65,535 rounds.
    while lanes < most and PASSES * logits.size > LOOP_ROUNDS * lanes:
        lanes *= 2
    step = kernel("sample", "draw", (("LANES", 1 << (lanes.bit_length() - 1)),))
    trace.dispatch(step, tensors, {"columns": logits.size}, (1,), 100.0 * logits.size)
