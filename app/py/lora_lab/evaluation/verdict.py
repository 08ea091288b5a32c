"""Whether a run went well. A good one has no verdict; of what is wrong with another, the worst is told.

Every rule asks for more than noise: what a run was like at its end is compared with what it was like at its beginning,
over several steps, or on the rows held back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from ..errors import DivergedError, LoraLabError
from .results import SampleResult, StepResult, ValidationResult, Verdict

WINDOW = 0.25  # of the steps, at each end, that are compared
MOST_STEPS = 50  # of them
CHANCE = 0.85  # of ln V: a loss from there on says that the model knows next to nothing
ROSE = 0.10  # of the lowest validation loss, by which the last is above it where the run got worse
SAME = 0.005  # of the loss: a run that changed it by no more changed nothing
FEW_STEPS = 5  # of so few nothing can be said
KNOWN_BY_HEART = 0.05  # a loss that cannot fall much further
LOOP_CHARACTERS, LOOP_SHARE, LOOP_TIMES = 30, 0.6, 3
LOWER_RATE = "try a tenth of the learning rate"


def judge(
    steps: Sequence[StepResult], validation: Sequence[ValidationResult], samples: Sequence[SampleResult],
    vocab_size: int, error: LoraLabError | None = None,
) -> Verdict | None:  # fmt: skip
    """Return what is wrong with a run, None for nothing. `error` is what it ended with."""
    if isinstance(error, DivergedError):
        rate = steps[-1].learning_rate if steps else math.nan
        return Verdict("diverged", str(error), {"steps": len(steps), "learning_rate": rate})
    if not steps:
        return None
    found = (_collapsed(steps, validation, vocab_size), _worse(validation), _repeats(samples, steps))
    return next((one for one in found if one is not None), None) or _unchanged(steps, validation)


def _ends(steps: Sequence[StepResult]) -> tuple[float, float]:
    """Return the mean loss of the first steps and of the last ones."""
    size = max(1, min(MOST_STEPS, int(len(steps) * WINDOW)))
    return fmean(one.loss for one in steps[:size]), fmean(one.loss for one in steps[-size:])


def _collapsed(
    steps: Sequence[StepResult], validation: Sequence[ValidationResult], vocab_size: int
) -> Verdict | None:  # fmt: skip
    """The loss has risen to about that of a model that draws its tokens by lot, or beyond."""
    chance = math.log(vocab_size)
    first, last = steps[0].loss, _ends(steps)[1]
    held = [one.loss for one in validation]
    if len(held) > 1 and not held[-1] <= max(held[0], CHANCE * chance):
        first, last = held[0], held[-1]
    if last < CHANCE * chance or last < first + ROSE * abs(first):
        return None
    numbers = {"first_loss": first, "last_loss": last, "chance_loss": chance, "steps": len(steps)}
    words = (
        f"The model has fallen apart: its loss went from {first:.3g} to {last:.3g}, and one that draws its tokens by "
        f"lot has {chance:.3g}. Its adapter is of no use; {LOWER_RATE}."
    )
    return Verdict("collapsed", words, numbers)


def _worse(validation: Sequence[ValidationResult]) -> Verdict | None:
    """The rows held back are told clearly worse at the end than at the best step, or than before the first."""
    trained = [one for one in validation if one.step > 0]
    if not trained:
        return None
    last, best = trained[-1], min(trained, key=lambda one: one.loss)
    start = validation[0] if validation[0].step == 0 else None
    numbers = {"last_loss": last.loss, "last_step": last.step, "best_loss": best.loss, "best_step": best.step}
    if start is not None and not last.loss <= start.loss * (1 + SAME):
        words = (
            f"Validation got worse: its loss was {start.loss:.3g} before training and is {last.loss:.3g} after step "
            f"{last.step:,}. On rows that it has not seen the model is worse than it was; {LOWER_RATE}."
        )
        return Verdict("worse", words, {"first_loss": start.loss, **numbers})
    if last.loss >= best.loss * (1 + ROSE) and last.step > best.step:
        words = (
            f"Validation got worse towards the end: its loss was {best.loss:.3g} at step {best.step:,} and is "
            f"{last.loss:.3g} after step {last.step:,}. From there on the model learned the rows by heart; fewer steps "
            "or more rows help."
        )
        return Verdict("worse", words, numbers)
    return None


def _repeats(samples: Sequence[SampleResult], steps: Sequence[StepResult]) -> Verdict | None:
    """Most of the last answers say the same over and over, which the data does not, and the model did not at first."""
    answered = [one for one in samples if one.answers and not (one.expected and loops(one.expected))]
    looping = [one for one in answered if loops(one.answers[-1].text)]
    if 2 * len(looping) <= len(answered):
        return None
    before = [one for one in looping if len(one.answers) > 1 and loops(one.answers[0].text)]
    first, last = _ends(steps)
    if 2 * len(before) > len(looping) and last < first:  # it did so before, and learns all the same
        return None
    step = looping[0].answers[-1].step
    words = (
        f"{len(looping)} of {len(answered)} answers after step {step:,} say the same over and over: the model has "
        f"fallen into a rut; {LOWER_RATE}, or fewer steps."
    )
    return Verdict("repeats", words, {"looping": len(looping), "answers": len(answered), "step": step})


def _unchanged(steps: Sequence[StepResult], validation: Sequence[ValidationResult]) -> Verdict | None:
    """Neither the rows held back nor the rows trained on are told any better."""
    if len(steps) < FEW_STEPS:
        return None
    first, last = _ends(steps)
    if validation and validation[0].step == 0 and len(validation) > 1:
        first, last = validation[0].loss, validation[-1].loss
    if first < KNOWN_BY_HEART or abs(last - first) > SAME * first:
        return None
    words = (
        f"Hardly anything was learned: the loss was {first:.4g} at first and is {last:.4g} after {len(steps):,} steps. "
        "Try a higher learning rate, or more steps."
    )
    return Verdict("unchanged", words, {"first_loss": first, "last_loss": last, "steps": len(steps)})


def loops(text: str) -> bool:
    """Whether a text ends in the same piece said LOOP_TIMES or more times, which make up most of it.

    What is repeated may be as short as a character, but the text has to be long enough to tell.
    """
    text = " ".join(text.split())
    size = len(text)
    if size < LOOP_CHARACTERS:
        return False
    for period in range(1, size // LOOP_TIMES + 1):
        same = 0
        while same < size - period and text[size - 1 - same] == text[size - 1 - same - period]:
            same += 1
        repeated = same + period
        if repeated >= LOOP_TIMES * period and repeated >= LOOP_SHARE * size:
            return True
    return False
