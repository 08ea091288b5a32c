"""What came of one run, in a sentence and a few numbers: for the card that the page shows after it."""

from __future__ import annotations

from dataclasses import dataclass

from lora_lab.workers.protocol.parts import Command, Event, SampleAnswer


@dataclass(frozen=True)
class HeldNumbers:
    """The rows held back at a step: mean loss in nats a token, e to the power of it, and the share of tokens foreseen.

    None where it was not measured, or is beyond all numbers.
    """

    step: int
    loss: float
    perplexity: float | None
    accuracy: float | None


@dataclass(frozen=True)
class ElseChanged:
    """Everyday rows, which no data speaks of: their loss without the adapter and with it, in nats a token.

    `words` say how much that is, `advice` what can be done; none where there is nothing to be done.
    """

    base: float
    tuned: float
    rose: float
    words: str
    advice: tuple[str, ...] = ()
    answers: tuple[SampleAnswer, ...] = ()


@dataclass(frozen=True)
class SumUpRun(Command):
    """Ask what came of a kept adapter's run: RunSummedUp."""

    id: str


@dataclass(frozen=True)
class RunSummedUp(Event):
    """What came of a run. `before`, `after` None: no rows were held back; `else_changed` None: it was not measured."""

    id: str
    headline: str
    verdict: str = ""
    before: HeldNumbers | None = None
    after: HeldNumbers | None = None
    else_changed: ElseChanged | None = None


COMMANDS: tuple[type[Command], ...] = (SumUpRun,)
EVENTS: tuple[type[Event], ...] = (RunSummedUp,)
