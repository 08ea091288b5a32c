"""Recomputing blocks of a trace instead of keeping what they computed (gradient checkpointing, Chen et al. 2016).

Of a recomputed block only what it read is kept. Where its backward begins, its forward dispatches are recorded once
more, over new values, and the backward reads those: the same kernels in the same order on the same input, so the same
bits. What nobody reads of the second forward (a block's last product, say) is left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from .plan import Dispatch, Tensor, Trace, Value


@dataclass(frozen=True)
class Block:
    """Where a block lies in a trace: its forward pass is dispatches `first` to `last - 1`.

    From dispatch `backward` on, nothing but the backward of this block and of those before it is at work.
    """

    first: int
    last: int
    backward: int


def recompute(trace: Trace, blocks: Sequence[Block], count: int) -> Trace:
    """Return `trace` with the first `count` of `blocks` recomputed; `trace` itself stays as it is.

    The first ones, because their backward comes last, when what the others kept is free again. Raises ValueError for a
    block that cannot be computed twice: it changes memory that outlives it, or what it reads or leaves is changed
    before its backward.
    """
    if not 0 <= count <= len(blocks):
        raise ValueError(f"{count} blocks are to be recomputed; the trace has {len(blocks)}")
    chosen = blocks[:count]
    _refuse_changes(trace, chosen)
    begins: dict[int, list[Block]] = defaultdict(list)
    for block in chosen:
        begins[block.backward].append(block)
    # A value is new in this trace, for its life is another one; one of a recomputed block is newer still in backward.
    stands_for: dict[Value, Value] = {value: Value(value.size_bytes, value.label) for value in trace.values}
    recorded: list[tuple[Dispatch, bool]] = []
    for index, dispatch in enumerate(trace.dispatches):
        for block in begins[index]:
            again = [v for v in trace.values if block.first <= v.first < block.last]
            stands_for |= {value: Value(value.size_bytes, f"{value.label} again") for value in again}
            recorded += [(_moved(d, stands_for), True) for d in trace.dispatches[block.first : block.last]]
        recorded.append((_moved(dispatch, stands_for), False))
    result = Trace(trace.step)
    for dispatch in _without_unread(recorded):
        result.record(dispatch)
    return result


def _moved(dispatch: Dispatch, stands_for: Mapping[Value, Value]) -> Dispatch:
    """Return the dispatch over the values that stand for its own."""

    def moved(tensor: Tensor) -> Tensor:
        if not isinstance(tensor.storage, Value):
            return tensor
        return replace(tensor, storage=stands_for[tensor.storage])

    return replace(dispatch, tensors={name: moved(tensor) for name, tensor in dispatch.tensors.items()})


def _without_unread(recorded: list[tuple[Dispatch, bool]]) -> list[Dispatch]:
    """Leave out of the repeated dispatches (marked True) those that write nothing which is read later."""
    needed: set[int] = set()
    kept = []
    for dispatch, repeated in reversed(recorded):
        if repeated and not any(id(tensor.storage) in needed for tensor in dispatch.written):
            continue
        needed.update(id(tensor.storage) for tensor in dispatch.tensors.values())
        kept.append(dispatch)
    return kept[::-1]


def _refuse_changes(trace: Trace, blocks: Sequence[Block]) -> None:
    """Raise ValueError if a block would not compute the same a second time, or not what was read the first time."""
    writes: dict[Value, list[tuple[int, str]]] = defaultdict(list)
    for index, dispatch in enumerate(trace.dispatches):
        for tensor in dispatch.written:
            if isinstance(tensor.storage, Value):
                writes[tensor.storage].append((index, f"{dispatch.kernel.name}.{dispatch.kernel.entry}"))
    for number, block in enumerate(blocks):
        for dispatch in trace.dispatches[block.first : block.last]:
            for tensor in dispatch.written:
                if not isinstance(tensor.storage, Value):
                    raise ValueError(f"block {number} writes {tensor.label}, so it cannot be computed twice")
            for tensor in dispatch.tensors.values():
                if not isinstance(tensor.storage, Value):
                    continue
                # Its own values may change while it is at work; what it was given may not.
                since = block.last if tensor.storage.first >= block.first else block.first
                for index, kernel in writes[tensor.storage]:
                    if since <= index < block.backward:
                        raise ValueError(f"block {number} cannot be recomputed: {kernel} changes {tensor.label}")
