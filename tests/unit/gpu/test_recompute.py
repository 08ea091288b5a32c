"""Recomputing blocks of a trace, and values that their own backward makes again: on traces alone, without a GPU."""

from __future__ import annotations

import pytest

from lora_lab.gpu.plan import Buffer, Tensor, Trace
from lora_lab.gpu.recompute import Block, recompute
from lora_lab.ops.elementwise import add, copy, fill
from lora_lab.ops.tape import Tape


def buffer_tensor(label: str, requires_grad: bool = False) -> Tensor:
    return Tensor((8,), Buffer(None, 32, label, False), 0, label, requires_grad)


class Chain:
    """x -> twice copied -> out, in two blocks; the backward reads what the first copy of each left."""

    def __init__(self) -> None:
        self.trace = Trace()
        self.x, self.out = self.trace.tensor((8,), "x"), buffer_tensor("out")
        self.kept = [self.trace.tensor((8,), f"kept {i}") for i in range(2)]
        self.passed = [self.trace.tensor((8,), f"passed {i}") for i in range(2)]
        fill(self.trace, self.x, 1.0)  # 0
        for i, given in enumerate((self.x, self.passed[0])):
            copy(self.trace, given, self.kept[i])  # 1, 3
            copy(self.trace, self.kept[i], self.passed[i])  # 2, 4
        copy(self.trace, self.passed[1], self.out)  # 5
        copy(self.trace, self.kept[1], self.out)  # 6
        copy(self.trace, self.kept[0], self.out)  # 7
        self.blocks = [Block(1, 3, 7), Block(3, 5, 6)]


def steps(trace: Trace) -> list[tuple[str, str]]:
    """Return what each copy reads and writes."""
    return [(d.tensors["a"].label, d.tensors["y"].label) for d in trace.dispatches if "a" in d.tensors]


def lives(trace: Trace) -> dict[str, tuple[int, int]]:
    return {value.label: (value.first, value.last) for value in trace.values}


def test_a_block_is_recorded_again_where_its_backward_begins() -> None:
    chain = Chain()
    made = recompute(chain.trace, chain.blocks, 2)
    # The second copies are not repeated: nobody would read what they leave.
    assert steps(made)[:5] == steps(chain.trace)[:5]
    assert [d.kernel.entry for d in made.dispatches] == ["fill", *["copy"] * 9]
    assert lives(made) == {
        "x": (0, 8), "kept 0": (1, 2), "passed 0": (2, 6), "kept 1": (3, 4), "passed 1": (4, 5),
        "kept 1 again": (6, 7), "kept 0 again": (8, 9),
    }  # fmt: skip


def test_the_first_blocks_are_the_recomputed_ones_and_the_trace_stays() -> None:
    chain = Chain()
    before = lives(chain.trace)
    made = lives(recompute(chain.trace, chain.blocks, 1))
    assert {"kept 0 again", "kept 1"} <= set(made) and "kept 1 again" not in made
    assert lives(chain.trace) == before == lives(recompute(chain.trace, chain.blocks, 0))


@pytest.mark.parametrize("count", [-1, 3])
def test_a_count_outside_the_blocks_is_refused(count: int) -> None:
    chain = Chain()
    with pytest.raises(ValueError, match=f"{count} blocks are to be recomputed; the trace has 2"):
        recompute(chain.trace, chain.blocks, count)


def test_a_block_whose_input_is_changed_is_refused() -> None:
    chain = Chain()
    fill(chain.trace, chain.x, 2.0)  # 8, before the backward that is made to begin after it
    copy(chain.trace, chain.kept[0], chain.out)
    with pytest.raises(ValueError, match=r"block 0 cannot be recomputed: elementwise.fill changes x"):
        recompute(chain.trace, [Block(1, 3, 9)], 1)
    recompute(chain.trace, [Block(1, 3, 8)], 1)  # what happens from the backward on is too late to matter


def test_a_block_that_changes_its_own_input_is_refused() -> None:
    trace = Trace()
    x, out = trace.tensor((8,), "x"), buffer_tensor("out")
    fill(trace, x, 1.0)
    copy(trace, buffer_tensor("table"), x)  # the block
    copy(trace, x, out)
    with pytest.raises(ValueError, match=r"block 0 cannot be recomputed: elementwise.copy changes x"):
        recompute(trace, [Block(1, 2, 2)], 1)


def test_a_block_whose_result_is_changed_before_its_backward_is_refused() -> None:
    chain = Chain()
    fill(chain.trace, chain.kept[0], 2.0)  # 8
    copy(chain.trace, chain.kept[0], chain.out)
    with pytest.raises(ValueError, match=r"block 0 cannot be recomputed: elementwise.fill changes kept 0"):
        recompute(chain.trace, [Block(1, 3, 9)], 1)


def test_a_block_that_writes_memory_of_its_own_is_refused() -> None:
    trace = Trace()
    copy(trace, buffer_tensor("table"), buffer_tensor("cache"))
    copy(trace, buffer_tensor("table"), buffer_tensor("out"))
    with pytest.raises(ValueError, match="block 0 writes cache, so it cannot be computed twice"):
        recompute(trace, [Block(0, 1, 1)], 1)


# --- the tape: where blocks lie, and what is made again ---


class NoDevice:
    """The tape never touches the device itself."""


def residual(tape: Tape, x: Tensor, made: list[Tensor]) -> Tensor:
    """x + copy(x), whose backward makes the copy again and reads it."""
    copied = tape.tensor(x.shape, "copied", x.requires_grad)
    copy(tape, x, copied)
    tape.will_be_made_again(copied)

    def backward(_: Tensor) -> None:
        again = tape.to_be_made_again(copied)
        if again is not None:
            copy(tape, x, again)
            tape.made_again(copied, again)

    tape.on_backward(copied, backward)
    y = add(tape, x, copied)
    tape.on_backward(y, lambda _: tape.read_in_backward(copied, made.append))
    return y


@pytest.mark.parametrize("requires_grad", [True, False])
def test_the_tape_knows_its_blocks(requires_grad: bool) -> None:
    tape = Tape(NoDevice(), buffer_tensor("step"))
    x = tape.tensor((8,), "x", requires_grad)
    fill(tape, x, 1.0)
    made: list[Tensor] = []
    for _ in tape.each_block(range(3)):
        x = residual(tape, x, made)
    tape.give_grad(x, buffer_tensor("dx"))
    tape.backward()
    # Each block is a copy and an addition; its backward is one copy, the last block's first.
    expected = [Block(1, 3, 9), Block(3, 5, 8), Block(5, 7, 7)]
    assert tape.blocks == (expected if requires_grad else [])
    assert [tensor.label for tensor in made] == ["copied again"] * (3 if requires_grad else 0)


def test_what_is_made_again_is_not_kept_and_the_original_is_read_where_there_is_no_backward() -> None:
    tape = Tape(NoDevice(), buffer_tensor("step"))
    made: list[Tensor] = []
    frozen, y = tape.tensor((8,), "frozen"), tape.tensor((8,), "y", True)
    tape.will_be_made_again(frozen)
    tape.read_in_backward(frozen, made.append)
    assert made == [frozen]
    tape.will_be_made_again(y)
    tape.read_in_backward(y, made.append)
    assert made == [frozen]
    with pytest.raises(ValueError, match=r"\['y'\] are read in the backward pass and were not made again"):
        tape.backward()
