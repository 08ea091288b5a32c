"""Messages about a run that is watched: what the model answers while it learns, and whether the run went well."""

from __future__ import annotations

from dataclasses import dataclass, field

from lora_lab.workers.protocol.parts import Command, Event, Probe


@dataclass(frozen=True)
class SetSamplePrompts(Command):
    """Ask these while the model learns, from the next time on, also in the run that goes on; SamplePrompts follows.

    Empty ones are left out; none at all: rows held back are chosen again.
    """

    prompts: tuple[str, ...]


@dataclass(frozen=True)
class SamplePrompts(Event):
    """What the model is asked while it learns. `chosen`: from the rows; else by a person."""

    prompts: tuple[Probe, ...]
    chosen: bool


@dataclass(frozen=True)
class SampleAnswered(Event):
    """What the model says to a prompt after `step` steps, 0 before the first; `expected` is the data's own answer.

    `is_cut`: the time for it was over. `problem` says instead why there is no answer, and will be none.
    """

    step: int
    index: int
    prompt: str
    expected: str | None
    text: str
    is_cut: bool = False
    problem: str = ""


@dataclass(frozen=True)
class RunVerdict:
    """What is wrong with a run, in words; `numbers` are what it was judged by.

    `kind`: diverged, collapsed, repeats, worse or unchanged.
    """

    kind: str
    words: str
    numbers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingVerdict(Event):
    """Something is wrong with the run that has come to its end; before TrainingDone or Failed."""

    verdict: RunVerdict


@dataclass(frozen=True)
class MemoryInUse(Event):
    """What the train worker holds of the GPU's memory while a run goes on, in bytes: now, and at the most so far."""

    in_use_bytes: int
    peak_bytes: int


COMMANDS: tuple[type[Command], ...] = (SetSamplePrompts,)
EVENTS: tuple[type[Event], ...] = (SamplePrompts, SampleAnswered, TrainingVerdict, MemoryInUse)
