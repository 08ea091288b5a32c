"""The train worker on a GPU, as its runs are watched: answers, a person's prompts, verdicts, the best and the last."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lora_lab.formats.peft import WEIGHTS_FILE
from lora_lab.gpu import Device
from lora_lab.train import Evaluated, Trainer
from lora_lab.workers.protocol import (
    Failed,
    MemoryInUse,
    PauseTraining,
    PlanTraining,
    ReadDataset,
    ResumeTraining,
    SampleAnswered,
    SamplePrompts,
    SetSamplePrompts,
    StartTraining,
    TrainingDone,
    TrainingPlanned,
    TrainingResumed,
    TrainingState,
    TrainingStep,
    TrainingVerdict,
    ValidationLoss,
)
from lora_lab.workers.services import runs
from tests.gpu.test_worker_resume import SETTINGS, Visit, outcome, until, visit  # noqa: F401 - a fixture
from tests.unit.workers.helpers import Session, pairs

WATCHED = replace(SETTINGS, sample_every=5)
ALONE = replace(SETTINGS, sample_every=0)


async def read(session: Session, rows: list[dict[str, str]] | None = None) -> None:
    await session.send(ReadDataset(text="\n".join(map(json.dumps, rows or pairs(40)))))


def answers(session: Session) -> list[tuple[int, str, str]]:
    return [(one.step, one.prompt, one.text) for one in session.page.all(SampleAnswered)]


def test_a_watched_run_has_the_bits_of_one_that_is_not(visit: Visit) -> None:  # noqa: F811
    found = []

    async def work(session: Session) -> None:
        await read(session)
        for settings in (WATCHED, ALONE):
            session.page.events.clear()
            await session.send(StartTraining(settings))
            steps = [(event.step, event.loss, event.grad_norm) for event in session.page.all(TrainingStep)]
            found.append((steps, session.page.all(ValidationLoss), (await outcome(session))[1], answers(session)))
        assert session.page.all(SamplePrompts) == []

    visit(work)
    (steps, held, weights, said), (steps_alone, held_alone, weights_alone, nothing) = found
    assert (steps, held, weights, nothing) == (steps_alone, held_alone, weights_alone, [])
    assert len(steps) == 16 and [step for step, _, _ in said] == [s for s in (0, 5, 10, 15, 16) for _ in range(3)]
    assert [one.step for one in held] == [0, *range(1, 17)]
    for one in held:
        assert one.perplexity == pytest.approx(math.exp(one.loss)) and one.accuracy is not None
        assert 0 <= one.accuracy <= 1


def test_what_is_asked_are_rows_held_back_or_what_a_person_says(visit: Visit) -> None:  # noqa: F811
    rows = pairs(40)

    async def work(session: Session) -> None:
        await read(session, rows)
        run = asyncio.ensure_future(session.send(StartTraining(WATCHED)))
        while len(answers(session)) < 4:
            await asyncio.sleep(0)
        chosen = session.page.last(SamplePrompts)
        assert chosen.chosen and len(chosen.prompts) == 3
        expected = {row["prompt"]: row["completion"] for row in rows}
        assert all(one.reference == expected[one.prompt] for one in chosen.prompts)
        await session.worker.answer(SetSamplePrompts(("  Who?  ", "", "Who?", "Why?")))  # in the middle of the run
        own = session.page.last(SamplePrompts)
        assert ([one.prompt for one in own.prompts], own.chosen) == (["Who?", "Why?"], False)
        await run
        asked = {step: [p for at, p, _ in answers(session) if at == step] for step in (0, 16)}
        assert asked == {0: [one.prompt for one in chosen.prompts], 16: ["Who?", "Why?"]}
        # The next run asks the same; without any the rows are chosen again.
        session.page.events.clear()
        await session.send(StartTraining(replace(WATCHED, steps=2)))
        assert {prompt for _, prompt, _ in answers(session)} == {"Who?", "Why?"}
        await session.worker.answer(SetSamplePrompts(()))
        assert session.page.last(SamplePrompts) == chosen

    visit(work)


def test_a_run_that_is_gone_on_with_tells_all_that_it_was_asked(visit: Visit) -> None:  # noqa: F811
    found = []

    async def whole(session: Session) -> None:
        await read(session)
        await session.send(StartTraining(WATCHED))
        found.append((answers(session), await outcome(session)))

    async def paused(session: Session) -> None:
        await read(session)
        run = asyncio.ensure_future(session.send(StartTraining(WATCHED)))
        await until(session, 7, PauseTraining())
        await run
        assert session.page.all(TrainingVerdict) == []

    async def gone_on(session: Session) -> None:
        await session.send(ResumeTraining())
        resumed = session.page.last(TrainingResumed)
        assert [step for step, _ in resumed.accuracy_curve] == [step for step, _ in resumed.validation_curve]
        assert resumed.validation_curve[0][0] == 0
        found.append((answers(session), await outcome(session)))

    for work in (whole, paused, gone_on):
        visit(work)
    assert found[0] == found[1]


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_other_adapter_is_kept_beside(visit: Visit, monkeypatch: pytest.MonkeyPatch, keep: str) -> None:  # noqa: F811
    """What is measured is made worse from step 10 on: real runs that get worse are in test_watch.py."""
    honest = Trainer.validate

    async def worse(self: Trainer, *given: Any) -> Evaluated | None:
        found = await honest(self, *given)
        return None if found is None else replace(found, loss=found.loss + max(0, self.steps_done - 10))

    monkeypatch.setattr(Trainer, "validate", worse)
    settings = replace(ALONE, steps=20, keep=keep)

    async def work(session: Session) -> None:
        await read(session)
        await session.send(StartTraining(settings))
        done = session.page.last(TrainingDone)
        losses = {one.step: one.loss for one in session.page.all(ValidationLoss)}
        best = min((loss, step) for step, loss in losses.items() if step)[1]
        assert best <= 12 and (done.best_step, done.kept) == (best, keep) and done.other is not None
        steps = (best, 20) if keep == "best" else (20, best)
        assert (done.adapter.steps, done.other.steps) == steps and done.kept_step == steps[0]
        names = {best: f"step {best} of 20", 20: "20 steps"}
        assert done.adapter.name.endswith(names[steps[0]]) and done.other.name.endswith(names[steps[1]])
        files = [await session.worker.stores.shelf.files(one.id) for one in (done.adapter, done.other)]
        assert files[0][WEIGHTS_FILE] != files[1][WEIGHTS_FILE]
        assert done.verdict is not None and done.verdict.kind in ("worse", "collapsed")
        assert session.page.last(TrainingVerdict).verdict == done.verdict

    visit(work)


def test_patience_ends_a_run_and_leaves_nothing_to_go_on_with(visit: Visit) -> None:  # noqa: F811
    random = np.random.default_rng(2)
    rows = [{"prompt": f"{n}?", "completion": " ".join(random.choice(["a", "b", "c", "d"], 8))} for n in range(12)]
    settings = replace(ALONE, steps=60, learning_rate=2e-2, patience=1, validation_fraction=0.4)

    async def work(session: Session) -> None:
        await read(session, rows)
        await session.send(StartTraining(settings))
        done = session.page.last(TrainingDone)
        steps = len(session.page.all(TrainingStep))
        assert done.stopped_early and not done.stopped and steps < 60
        assert session.page.last(TrainingState).state == "done"
        assert await session.worker.stores.runs.newest() is None

    visit(work)


def test_the_memory_that_a_run_holds_is_told_while_it_goes_on(visit: Visit) -> None:  # noqa: F811
    held: list[int] = []

    async def work(session: Session) -> None:
        device = await session.worker.gpu.device()
        await read(session)
        for settings in (ALONE, WATCHED):
            session.page.events.clear()
            await session.send(StartTraining(settings))
            told = session.page.all(MemoryInUse)
            assert told and all(one.in_use_bytes <= one.peak_bytes <= device.peak_memory_bytes for one in told)
            assert told == list(dict.fromkeys(told))  # only what is new
            held.append(max(one.in_use_bytes for one in told))
            assert held[-1] > device.memory_in_use_bytes  # the run has given back what it took

    visit(work)
    assert held[1] > held[0]  # answers take something


def test_a_good_run_has_no_verdict_and_a_bad_one_has_before_its_error(
    visit: Visit,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def good(session: Session) -> None:
        await read(session)
        await session.send(StartTraining(ALONE))
        assert session.page.all(TrainingVerdict) == [] and session.page.last(TrainingDone).verdict is None

    async def bad(session: Session) -> None:
        await read(session)
        monkeypatch.setattr(runs, "check_settings", lambda *_: [])  # which refuses such a rate
        await session.send(StartTraining(replace(ALONE, learning_rate=1e20, warmup_steps=0, schedule="constant")))
        kinds = [type(event) for event in session.page.events]
        assert kinds.index(TrainingVerdict) < kinds.index(Failed)
        assert session.page.last(TrainingVerdict).verdict.kind == "diverged"
        assert session.page.all(TrainingDone) == []

    visit(good)
    visit(bad, fails=True)


def test_the_plan_tells_what_answers_take(visit: Visit, device: Device) -> None:  # noqa: F811
    async def work(session: Session) -> None:
        await read(session)
        told = {}
        for settings in (ALONE, WATCHED):
            await session.send(PlanTraining(settings))
            planned = session.page.last(TrainingPlanned)
            told[settings.sample_every] = planned
            assert sum(part.size_bytes for part in planned.memory_parts) == planned.memory_bytes
        more = {part.label: part.size_bytes for part in told[5].memory_parts}
        assert more["Answers while it learns"] == told[5].memory_bytes - told[0].memory_bytes > 0
        before = device.memory_in_use_bytes
        device.peak_memory_bytes = before
        await session.send(StartTraining(replace(WATCHED, steps=3)))
        taken = device.peak_memory_bytes - before
        assert 0.9 * told[5].memory_bytes <= taken <= 1.02 * told[5].memory_bytes

    visit(work)
