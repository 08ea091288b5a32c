"""Automatic differentiation at trace time: ops record their forward and leave their backward on the tape.

`Tape.backward` then traces the backward pass into the same plan, last op first. A tensor used by several ops gets one
gradient: the first use writes it with `=`, the others with `+=`, in the tape's fixed order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from ..gpu.device import Device
from ..gpu.plan import Tensor, Trace
from ..gpu.recompute import Block

Backward = Callable[[Tensor], None]
T = TypeVar("T")


@dataclass
class _Gradient:
    tensor: Tensor
    owners: list[Tensor]  # whose gradient this memory is; more than one after a residual add


class Tape(Trace):
    """A trace that knows how to go back. `grad_enabled=False` records the forward only."""

    def __init__(self, device: Device, step: Tensor, grad_enabled: bool = True) -> None:
        super().__init__(step)
        self.device = device
        self.grad_enabled = grad_enabled
        self.blocks: list[Block] = []  # that can be recomputed; known after `backward`
        self._block_spans: list[tuple[int, int, int]] = []  # the forward pass's dispatches, and the nodes up to its end
        self._nodes: list[tuple[Tensor, Backward]] = []
        self._grads: dict[Tensor, _Gradient] = {}
        self._done: set[Tensor] = set()
        self._waiting: dict[
            Tensor, list[Callable[[Tensor], object]]
        ] = {}  # made again in backward -> what then reads it
        self._wholes: dict[Tensor, Tensor] = {}  # part of a tensor -> the tensor

    def on_backward(self, output: Tensor, backward: Backward) -> None:
        """Leave `backward(d_output)` on the tape. Ignored when nothing behind `output` is trained."""
        if self.grad_enabled and output.requires_grad:
            self._nodes.append((output, backward))

    def each_block(self, blocks: Iterable[T]) -> Iterator[T]:
        """Yield each of `blocks`; what is traced meanwhile may be recomputed, not kept (see gpu/recompute.py)."""
        for block in blocks:
            first, nodes = len(self.dispatches), len(self._nodes)
            yield block
            if len(self._nodes) > nodes:  # nothing is kept for a block without a backward
                self._block_spans.append((first, len(self.dispatches), len(self._nodes)))

    def backward(self) -> None:
        """Trace the backward pass from the gradients that `give_grad` has set."""
        begins: dict[int, int] = {}  # number of nodes still to come -> dispatch at which their backward begins
        while self._nodes:
            begins[len(self._nodes)] = len(self.dispatches)
            output, backward = self._nodes.pop()
            gradient = self._grads.get(output)
            if gradient is None:
                continue
            backward(gradient.tensor)
            self._done.add(output)
        unmade = [y.label for y, readers in self._waiting.items() if readers]
        if unmade:
            raise ValueError(f"{unmade} are read in the backward pass and were not made again")
        self.blocks = [Block(first, last, begins[nodes]) for first, last, nodes in self._block_spans]

    def will_be_made_again(self, y: Tensor) -> None:
        """Say that y's own backward can write y a second time, so that y need not be kept for others' backward."""
        if self.grad_enabled and y.requires_grad:
            self._waiting[y] = []

    def read_in_backward(self, y: Tensor, read: Callable[[Tensor], object]) -> None:
        """Trace `read(y)`: now, or on y made again where that comes. For what nothing but its own output waits for."""
        if y in self._waiting:
            self._waiting[y].append(read)
        else:
            read(y)

    def to_be_made_again(self, y: Tensor) -> Tensor | None:
        """Return memory in which y's backward has to make y again, for `made_again`; None where nobody reads it."""
        return self.tensor(y.shape, f"{y.label} again") if self._waiting.get(y) else None

    def made_again(self, y: Tensor, again: Tensor) -> None:
        """Trace what waited for y; `again` holds the same values."""
        for read in self._waiting.pop(y):
            read(again)

    def grad_target(self, x: Tensor) -> tuple[Tensor, bool] | None:
        """Return (dx, accumulate) for an op that is about to write x's gradient; None where nobody needs it."""
        if not x.requires_grad:
            return None
        gradient = self._grads.get(x)
        if gradient is None:
            gradient = _Gradient(self.new_grad(x), [x])
            self._grads[x] = gradient
            return gradient.tensor, False
        unfinished = [owner.label for owner in gradient.owners if owner is not x and owner not in self._done]
        if unfinished:
            raise ValueError(f"d.{x.label} is also the gradient of {unfinished}, whose backward has not run yet")
        return gradient.tensor, True

    def split(self, whole: Tensor, parts: list[Tensor]) -> None:
        """Say that `parts` are views into `whole`: their gradients will be the same views into its gradient."""
        self._wholes |= dict.fromkeys(parts, whole)

    def same_place(self, y: Tensor, x: Tensor) -> None:
        """Say that y is x changed in place, so that its gradient belongs in the same place too."""
        if x in self._wholes:
            self._wholes[y] = self._wholes[x]

    def new_grad(self, x: Tensor) -> Tensor:
        """Return memory for x's first gradient, all of which the caller writes with `=` and then gives by give_grad.

        For a part of a larger tensor it is that part of the larger one's gradient.
        """
        whole = self._wholes.get(x)
        if whole is None:
            return self.tensor(x.shape, f"d.{x.label}")
        if whole not in self._grads:
            self._grads[whole] = _Gradient(self.tensor(whole.shape, f"d.{whole.label}"), [whole])
        storage = self._grads[whole].tensor.storage
        return Tensor(x.shape, storage, x.offset - whole.offset, f"d.{x.label}")

    def grad_in_place(self, x: Tensor) -> Tensor:
        """Return x's own memory as that of its first gradient, for an op that turns one into the other."""
        whole = self._wholes.get(x)
        if whole is not None and whole not in self._grads:
            gradient = Tensor(whole.shape, whole.storage, whole.offset, f"d.{whole.label}")
            self._grads[whole] = _Gradient(gradient, [whole])
        return Tensor(x.shape, x.storage, x.offset, f"d.{x.label}")

    def give_grad(self, x: Tensor, dx: Tensor) -> None:
        """Let `dx` be x's gradient without a copy. Raises ValueError if x has one already."""
        if not x.requires_grad:
            return
        if x in self._grads:
            raise ValueError(f"{x.label} has a gradient already")
        shared = next((g for g in self._grads.values() if g.tensor is dx), None)
        if shared is None:
            self._grads[x] = _Gradient(dx, [x])
        else:
            shared.owners.append(x)
            self._grads[x] = shared

    def grad(self, x: Tensor) -> Tensor | None:
        """Return x's gradient as traced so far."""
        gradient = self._grads.get(x)
        return gradient.tensor if gradient else None
