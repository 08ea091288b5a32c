"""When a run is called bad, and why. The runs that really do it are in tests/gpu/test_watch.py."""

from __future__ import annotations

import math

import pytest

from lora_lab.errors import DivergedError
from lora_lab.evaluation.results import Answer, SampleResult, StepResult, ValidationResult
from lora_lab.evaluation.verdict import judge, loops

VOCAB = 49_152
CHANCE = math.log(VOCAB)


def steps(*losses: float, rate: float = 2e-4) -> tuple[StepResult, ...]:
    return tuple(StepResult(n, loss, 1.0, rate, 100.0, 5.0) for n, loss in enumerate(losses, 1))


def falling(first: float, last: float, count: int = 40) -> tuple[StepResult, ...]:
    """A loss that falls with noise, as each step has other rows."""
    return steps(*(first + (last - first) * n / (count - 1) + 0.3 * math.sin(2.4 * n) for n in range(count)))


def held(*losses: float, start: float | None = None) -> tuple[ValidationResult, ...]:
    points = [] if start is None else [ValidationResult(0, start, math.exp(start), 0.3)]
    return (*points, *(ValidationResult(10 * n, loss, math.exp(loss), 0.3) for n, loss in enumerate(losses, 1)))


def sample(*answers: str, expected: str | None = "It is the blue one.") -> SampleResult:
    return SampleResult("Which one?", expected, tuple(Answer(10 * n, text) for n, text in enumerate(answers)))


RUT = "the sea the sea the sea the sea the sea the sea"
FINE = "It stands on the rock to the north, and its light is white."


def kind(*given: object, vocab: int = VOCAB) -> str | None:
    found = judge(*given, vocab)  # type: ignore[arg-type]
    return found.kind if found else None


@pytest.mark.parametrize(
    "good",
    [
        (falling(2.5, 0.6), held(1.5, 0.9, 0.7, start=2.5), (sample(RUT, FINE),)),
        (falling(2.5, 0.6), held(1.5, 0.9, 0.95, start=2.5), ()),  # a little worse at the end
        (falling(2.5, 0.6), (), (sample(FINE, RUT), sample(FINE, FINE), sample(FINE, FINE))),  # one in three
        (falling(2.5, 0.6), (), (sample(RUT, RUT), sample(RUT, RUT))),  # a small model does so, and learns
        (falling(2.5, 0.6), (), (sample(FINE, RUT, expected=RUT),)),  # as the data does
        (falling(2.5, 0.6), (), (sample("Yes.", "yes"),)),
        (falling(11.5, 9.5), held(10.5, start=11.3), ()),  # it knew next to nothing, and is getting better
        (steps(2.5, 2.4), held(2.6, start=2.61), ()),
        (steps(2.5), (), ()),
        ((), (), ()),
        (steps(*[0.01] * 30), (), ()),  # known by heart before
        (falling(2.5, 2.3), (), ()),
    ],
)  # fmt: skip
def test_a_good_run_has_none(good: tuple) -> None:
    assert kind(*good) is None


@pytest.mark.parametrize("start", [2.5, 0.4])
def test_a_loss_of_chance_is_a_collapse(start: float) -> None:
    fell = steps(*[start] * 5, *[CHANCE] * 20)
    found = judge(fell, (), (), VOCAB)
    assert found is not None and found.kind == "collapsed"
    assert found.numbers == {"first_loss": start, "last_loss": CHANCE, "chance_loss": CHANCE, "steps": 25}
    assert f"{CHANCE:.3g}" in found.words and "learning rate" in found.words
    assert kind(steps(*[start] * 5, *[60.0] * 20), (), ()) == "collapsed", "or far beyond"
    assert kind(steps(*[start] * 5, *[0.5 * CHANCE] * 20), held(0.5 * CHANCE, start=1.0), ()) == "worse", "not yet"
    assert kind(falling(2.5, 0.5), held(CHANCE, start=2.5), ()) == "collapsed", "on the rows held back alone"
    assert kind(steps(*[start] * 25), held(math.nan, start=2.5), ()) == "collapsed"


def test_validation_that_rose_is_told_with_its_numbers() -> None:
    found = judge(falling(2.5, 0.1), held(1.5, 1.0, 1.4, start=2.5), (), VOCAB)
    assert found is not None and found.kind == "worse"
    assert found.numbers == {"last_loss": 1.4, "last_step": 30, "best_loss": 1.0, "best_step": 20}
    assert "1 at step 20" in found.words and "1.4 after step 30" in found.words
    found = judge(falling(2.5, 0.1), held(2.4, 2.6, start=2.5), (), VOCAB)
    assert found is not None and found.numbers["first_loss"] == 2.5 and "before training" in found.words
    assert kind(falling(2.5, 0.1), held(2.4, 2.6), ()) is None, "a twelfth more than the best, and no start known"


def test_answers_that_fall_into_a_rut() -> None:
    found = judge(falling(2.5, 0.6), (), (sample(FINE, RUT), sample(FINE, RUT), sample(FINE, FINE)), VOCAB)
    assert found is not None and found.kind == "repeats"
    assert found.numbers == {"looping": 2, "answers": 3, "step": 10}
    assert kind(falling(0.6, 2.5), (), (sample(RUT, RUT),)) == "repeats", "it did before, and learns nothing"


def test_nothing_learned() -> None:
    found = judge(steps(*[2.5, 2.501] * 20), (), (), VOCAB)
    assert found is not None and found.kind == "unchanged"
    assert kind(falling(2.5, 2.5), held(2.501, start=2.5), ()) == "unchanged", "noise of the steps is no change"
    assert kind(steps(*[2.5] * 3), (), ()) is None, "too few to tell"


def test_a_run_that_broke_off_is_told_in_its_errors_words() -> None:
    error = DivergedError("step 3: the loss is nan", has_good_step=True)
    found = judge(steps(2.5, 2.4, rate=1e3), (), (), VOCAB, error)
    assert found is not None and (found.kind, found.words) == ("diverged", "step 3: the loss is nan")
    assert found.numbers == {"steps": 2, "learning_rate": 1e3}


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        (RUT, True),
        ("No. " + "no " * 20, True),
        ("!" * 40, True),
        ("I think that " + "this is so. And " * 6, True),
        (FINE, False),
        ("no no no", False),  # too short to tell
        ("", False),
        ("one, two, three, four, five, six, seven, eight, nine, ten, eleven", False),
        ("He said no no no no no, and then he went to the harbour to look at the ships.", False),
        ("|---|---|\n| a | b |\n| c | d |\n| the first row of it | the second |", False),
    ],
)  # fmt: skip
def test_what_is_a_loop(text: str, is_one: bool) -> None:
    assert loops(text) is is_one


def test_loops_are_found_in_any_text_quickly() -> None:
    import time

    begun = time.perf_counter()
    assert loops("ab" * 2000) and not loops("".join(map(str, range(1500))))
    assert time.perf_counter() - begun < 5
