"""A run that is watched: its bits are those of one that is not; its answers, its best adapter, its verdict are true."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from lora_lab.config import LoraConfig, SamplingConfig, TrainConfig
from lora_lab.data.tokens.batches import Example
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import load_tokenizer
from lora_lab.errors import DeviceError, DivergedError, KernelError, LoraLabError
from lora_lab.evaluation import sampler as sampler_room
from lora_lab.evaluation.prompts import Prompt
from lora_lab.evaluation.results import RunResults
from lora_lab.evaluation.sampler import Sampler, sampler_bytes
from lora_lab.evaluation.watch import Watch
from lora_lab.generate import ChatEngine
from lora_lab.gpu import Device
from lora_lab.model import Adapter
from lora_lab.train import (
    CheckpointTaken,
    CheckpointTimes,
    RunState,
    SampleAnswered,
    StepDone,
    Trainer,
    ValidationDone,
)
from tests.engine_runs import random_examples, run
from tests.gpu.conftest import Tiny
from tests.gpu.test_resume import as_file

LORA = LoraConfig(rank=4, alpha=8)
STEPS = 12
CONFIG = TrainConfig(steps=STEPS, batch=2, accumulate=1, learning_rate=2e-2, seed=3)
PROMPTS = (
    Prompt.of_text("What is your name?"),
    Prompt("Two?", (("user", "One?"), ("assistant", "1"), ("user", "Two?"))),
)
ANSWER = 10  # tokens
Tensors = dict[str, np.ndarray]


@dataclass
class Seen:
    """What came of a run, or of its parts."""

    steps: list[tuple[int, float, float]] = field(default_factory=list)
    validation: list[tuple[int, float, float | None]] = field(default_factory=list)
    answers: list[SampleAnswered] = field(default_factory=list)
    states: list[RunState] = field(default_factory=list)
    at: dict[int, Tensors] = field(default_factory=dict)  # the adapter when something was said of a step
    last: Tensors = field(default_factory=dict)
    best: tuple[int, float, Tensors] | None = None
    results: RunResults | None = None
    error: LoraLabError | None = None
    trainer: Trainer | None = None

    @property
    def said(self) -> list[tuple[int, int, str]]:
        return [(one.step, one.index, one.text) for one in self.answers]


@pytest.fixture(autouse=True)
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    greedy = SamplingConfig(max_new_tokens=ANSWER, temperature=0.0)
    monkeypatch.setattr(sampler_room, "GREEDY", greedy)


def watch(
    tiny: Tiny, examples: Sequence[Example], held: Sequence[Example] = (), config: TrainConfig = CONFIG, *,
    parts: Sequence[int] = (), prompts: Sequence[Prompt] = PROMPTS, through_file: bool = False, catches: bool = False,
    snapshots: bool = False, start: RunState | None = None, every: int = 10**6, **options: Any,
) -> Seen:  # fmt: skip
    """Do a run, in a fresh trainer after each of `parts`. `options` are Watch's."""
    device, seen = tiny.model.device, Seen()

    async def do(ends: int | None, start: RunState | None) -> RunState | None:
        trainer = seen.trainer = Trainer(
            tiny.model, Adapter.create(device, tiny.model.config, LORA, config.seed), examples, config, held
        )
        adapter = trainer.adapter
        with closing(Released(adapter)), closing(trainer), sampler_for(tiny, trainer) as sampler:
            await trainer.prepare()
            asks = options["sample_every"] != 0
            if asks:
                sampler.allocate()
            if start is not None:
                trainer.restore(start)
            of = Watch(trainer, sampler=sampler if asks else None, prompts=prompts, **options)
            last = None
            try:
                async for event in of.run(CheckpointTimes(every, 0)):
                    if snapshots and not isinstance(event, CheckpointTaken):
                        seen.at[event.step] = await adapter.to_tensors()
                    if isinstance(event, StepDone):
                        seen.steps.append((event.step, event.loss, event.grad_norm))
                        if ends is not None and event.step >= ends:
                            trainer.pause()
                    elif isinstance(event, ValidationDone):
                        seen.validation.append((event.step, event.loss, event.accuracy))
                    elif isinstance(event, SampleAnswered):
                        seen.answers.append(event)
                    else:
                        seen.states.append(event.state)
                        last = as_file(event.state) if through_file else event.state
            except DivergedError as error:
                if not catches:
                    raise
                seen.error = error
            seen.results = of.results(seen.error)
            seen.last = await adapter.to_tensors()
            best = trainer.history.best
            seen.best = (best.step, best.loss, best.adapter) if best else None
        return last

    for ends in parts:
        start = run(do(ends, start))
        assert start is not None
    run(do(None, start))
    return seen


class Released:
    """An adapter, which is given back rather than closed."""

    def __init__(self, adapter: Adapter) -> None:
        self.close = adapter.release


@contextmanager
def sampler_for(tiny: Tiny, trainer: Trainer) -> Iterator[Sampler]:
    files = tiny.model.files.tokenizer
    sampler = Sampler(trainer, load_tokenizer(files), ChatTemplate(files.chat_template, files.special_tokens))
    try:
        yield sampler
    finally:
        sampler.close()


def same(ours: Tensors, theirs: Tensors) -> bool:
    return all(ours[key].tobytes() == theirs[key].tobytes() for key in theirs)


@pytest.fixture(scope="module")
def rows(tiny: Tiny) -> tuple[list[Example], list[Example]]:
    vocab = tiny.model.config.vocab_size
    return random_examples((20, 33, 17, 40, 9, 26), vocab), random_examples((11, 24), vocab, seed=4)


# ---------------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize("ahead_below_ms", [0.0, 1e9], ids=["one by one", "ahead"])
def test_answers_change_no_bit_of_the_run(
    each_device: Device, tiny: Tiny, rows: tuple, ahead_below_ms: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lora_lab.train.trainer.AHEAD_BELOW_MS", ahead_below_ms)
    alone = watch(tiny, *rows, sample_every=0)
    watched = watch(tiny, *rows, sample_every=1)
    assert len(alone.steps) == STEPS and alone.answers == []
    assert (watched.steps, watched.validation) == (alone.steps, alone.validation)
    assert same(watched.last, alone.last)
    assert [(step, index) for step, index, _ in watched.said] == [(s, i) for s in range(STEPS + 1) for i in (0, 1)]
    assert len({text for _, index, text in watched.said if index == 0}) > 2, "it says other things as it learns"


def test_an_answer_is_what_the_chat_says_with_that_steps_adapter(each_device: Device, tiny: Tiny, rows: tuple) -> None:
    seen = watch(tiny, *rows, sample_every=4, snapshots=True)
    assert {step for step, _, _ in seen.said} == {0, 4, 8, 12}
    files = tiny.model.files.tokenizer
    template = ChatTemplate(files.chat_template, files.special_tokens)

    async def answers(tensors: Tensors, strength: float) -> list[str]:
        chat = ChatEngine(tiny.model, load_tokenizer(files), template, 512)
        await chat.set_adapter(LORA, tensors)
        found = []
        for prompt in PROMPTS:
            messages = [{"role": role, "content": text} for role, text in prompt.messages]
            sampling = SamplingConfig(max_new_tokens=ANSWER, temperature=0.0)
            found.append("".join([piece.text async for piece in chat.reply(messages, sampling, strength)]).strip())
        chat.close()
        return found

    for step in (0, 4, 8, 12):
        found = [text for at, _, text in seen.said if at == step]
        assert found == run(answers(seen.at[step], 1.0))
    base = run(answers(seen.at[12], 0.0))
    assert base == [text for at, _, text in seen.said if at == 0] != found, "the control"


def test_what_answers_take_is_told_before(each_device: Device, tiny: Tiny, rows: tuple) -> None:
    device = tiny.model.device
    before = device.num_buffers, device.memory_in_use_bytes
    adapter = Adapter.create(device, tiny.model.config, LORA, 1)
    trainer = Trainer(tiny.model, adapter, rows[0], CONFIG)
    told = sampler_bytes(trainer)
    assert device.memory_in_use_bytes == before[1] + adapter.buffer.size_bytes, "nothing is taken yet"
    with sampler_for(tiny, trainer) as sampler:

        async def answer() -> tuple[int, int]:
            await trainer.prepare()
            alone = device.memory_in_use_bytes
            sampler.allocate()
            await sampler.begin()
            assert await sampler.answer(PROMPTS[0], 1e9, lambda: False)
            await sampler.begin()
            return alone, device.memory_in_use_bytes

        alone, together = run(answer())
        assert alone == before[1] + trainer.memory.total_bytes - tiny.model.weights_bytes
        packing = told - (together - alone)  # the parameters of packing the adapter are there for a moment only
        assert 0 <= packing <= 64 * device.limits.min_uniform_buffer_offset_alignment
    trainer.close()
    adapter.release()
    assert (device.num_buffers, device.memory_in_use_bytes) == before


def test_a_prompt_that_cannot_be_asked_is_told_of_once(device: Device, tiny: Tiny, rows: tuple) -> None:
    long = Prompt.of_text("word " * 1000)
    seen = watch(tiny, *rows, sample_every=6, prompts=(long, PROMPTS[0]))
    problems = [one for one in seen.answers if one.problem]
    assert [(one.step, one.prompt) for one in problems] == [(0, long.prompt)]
    assert "the context holds 384" in problems[0].problem
    assert [one.step for one in seen.answers if not one.problem] == [0, 6, 12]
    assert len(seen.steps) == STEPS


@pytest.mark.parametrize("error", [KernelError("sample.draw does not compile"), DeviceError("a binding is refused")])
def test_what_fails_in_answers_costs_them_and_not_the_run(
    device: Device, tiny: Tiny, rows: tuple, monkeypatch: pytest.MonkeyPatch, error: DeviceError
) -> None:
    async def fails(self: Sampler) -> float:
        raise error

    alone = watch(tiny, *rows, sample_every=0)
    monkeypatch.setattr(Sampler, "begin", fails)
    seen = watch(tiny, *rows, sample_every=3)
    (told,) = seen.answers
    assert told.problem == f"No answers while it learns: {error}"
    assert seen.steps == alone.steps and same(seen.last, alone.last)

    async def loses(self: Sampler) -> float:
        monkeypatch.setattr(device, "lost_reason", "unplugged")
        raise error

    if not isinstance(error, KernelError):  # the control: a GPU that is gone is no matter of the answers
        monkeypatch.setattr(Sampler, "begin", loses)
        with pytest.raises(DeviceError, match="a binding is refused"):
            watch(tiny, *rows, sample_every=3)


def test_a_stop_does_not_wait_for_an_answer(
    device: Device, tiny: Tiny, rows: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler_room, "GREEDY", SamplingConfig(max_new_tokens=200, temperature=0.0))
    pieces = 0
    honest = ChatEngine.reply

    async def counted(self: ChatEngine, *given: Any) -> Any:
        nonlocal pieces
        async for piece in honest(self, *given):
            pieces += 1
            if pieces == 3:
                seen_trainer().stop()
            yield piece

    def seen_trainer() -> Trainer:
        return trainers[-1]

    trainers: list[Trainer] = []
    prepare = Trainer.prepare

    async def noted(self: Trainer, *given: Any) -> None:
        trainers.append(self)
        await prepare(self, *given)

    monkeypatch.setattr(Trainer, "prepare", noted)
    monkeypatch.setattr(ChatEngine, "reply", counted)
    seen = watch(tiny, *rows, sample_every=6)
    assert pieces == 3 and seen.answers == [] and seen.steps == []


def test_by_time_answers_cost_what_they_may(
    device: Device, tiny: Tiny, rows: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a real clock; what is taken for the first one's cost is less than it is, so the share could be missed."""
    monkeypatch.setattr("lora_lab.train.sample_times.FIRST_S", 0.02)
    monkeypatch.setattr("lora_lab.train.sample_times.TOKEN_S", 0.0)
    adapter = Adapter.create(device, tiny.model.config, LORA, 1)
    trainer = Trainer(tiny.model, adapter, rows[0], replace(CONFIG, steps=400))

    async def go() -> tuple[Watch, int]:
        with sampler_for(tiny, trainer) as sampler:
            await trainer.prepare()
            sampler.allocate()
            of = Watch(trainer, sampler=sampler, prompts=PROMPTS, sample_every=None)
            answers = [event async for event in of.run() if isinstance(event, SampleAnswered)]
            return of, len(answers)

    of, answers = run(go())
    trainer.close()
    adapter.release()
    assert answers >= 2
    print(f"{answers} answers took {100 * of.sample_share:.1f} % of the run")
    # Of the first the plans are built, which may cost more than was thought: what follows makes up for it.
    assert of.sample_share <= 0.06


# ---------------------------------------------------------------------------------------------------- the best one


def test_the_best_adapter_is_that_of_the_lowest_validation(device: Device, tiny: Tiny, rows: tuple) -> None:
    config = replace(CONFIG, steps=40)
    seen = watch(tiny, *rows, config, sample_every=0, snapshots=True)
    held = [(loss, step) for step, loss, _ in seen.validation if step > 0]
    assert seen.best is not None and seen.results is not None
    loss, step = min(held)
    assert (seen.best[0], seen.best[1]) == (step, loss) and step < 40, "random rows are learned by heart"
    assert same(seen.best[2], seen.at[step]) and not same(seen.best[2], seen.last)
    assert (seen.results.kept, seen.results.kept_step, seen.results.best_step) == ("best", step, step)
    other = watch(tiny, *rows, config, sample_every=0, keep="last")
    assert other.results is not None and (other.results.kept, other.results.kept_step) == ("last", 40)
    assert same(other.last, seen.last) and other.best is not None and other.best[0] == step


@pytest.mark.parametrize("patience", [1, 3])
def test_a_run_ends_when_nothing_gets_better(device: Device, tiny: Tiny, rows: tuple, patience: int) -> None:
    config = replace(CONFIG, steps=40)
    whole = watch(tiny, *rows, config, sample_every=0)
    seen = watch(tiny, *rows, config, sample_every=0, patience=patience)
    assert seen.results is not None and seen.trainer is not None
    assert seen.results.stopped_early and seen.trainer.is_complete and len(seen.steps) < 40
    assert seen.steps == whole.steps[: len(seen.steps)], "until there it is the same run"
    assert seen.validation == whole.validation[: len(seen.validation)]
    losses = [loss for step, loss, _ in seen.validation if step > 0]
    lowest = losses.index(min(losses))
    assert len(losses) - 1 - lowest == patience
    assert seen.states == [], "an end is no interruption"
    assert whole.results is not None and not whole.results.stopped_early


@pytest.mark.parametrize("through_file", [False, True], ids=["at once", "through a file"])
@pytest.mark.parametrize("patience", [0, 2])
def test_best_end_and_answers_are_those_of_a_run_in_one(
    device: Device, tiny: Tiny, rows: tuple, patience: int, through_file: bool
) -> None:
    """Paused before and after the best step; what was kept then comes along."""
    config = replace(CONFIG, steps=40)
    whole = watch(tiny, *rows, config, sample_every=5, patience=patience)
    assert whole.best is not None and whole.results is not None
    end = len(whole.steps)
    parts = [1, whole.best[0], whole.best[0] + 3]
    assert parts[-1] < end
    seen = watch(tiny, *rows, config, sample_every=5, patience=patience, parts=parts, through_file=through_file)
    assert seen.best is not None and seen.results is not None
    assert (seen.steps, seen.validation, seen.said) == (whole.steps, whole.validation, whole.said)
    assert seen.best[:2] == whole.best[:2] and same(seen.best[2], whole.best[2]) and same(seen.last, whole.last)
    stripped = [
        [(s.step, s.loss, s.grad_norm, s.learning_rate) for s in r.steps] for r in (seen.results, whole.results)
    ]
    assert stripped[0] == stripped[1]
    assert replace(seen.results, steps=()) == replace(whole.results, steps=())


def test_without_its_best_adapter_a_checkpoint_of_before_gives_the_last(
    device: Device, tiny: Tiny, rows: tuple
) -> None:
    """The first form has none: unless a later step is better than all of those, there is no best one to give."""
    config = replace(CONFIG, steps=40)
    whole = watch(tiny, *rows, config, sample_every=0, every=1)
    assert whole.best is not None
    after = whole.states[whole.best[0] + 3]
    assert after.best is not None and after.step > whole.best[0]
    old = watch(tiny, *rows, config, sample_every=0, start=replace(after, best=None))
    assert old.best is None and old.results is not None and old.results.kept == "last"
    assert same(old.last, whole.last)
    new = watch(tiny, *rows, config, sample_every=0, start=after)
    assert new.best is not None and same(new.best[2], whole.best[2])


# ---------------------------------------------------------------------------------------------------- verdicts


def kinds(seen: Seen) -> str | None:
    assert seen.results is not None
    return seen.results.verdict.kind if seen.results.verdict else None


def test_a_good_run_has_no_verdict(device: Device, tiny: Tiny, rows: tuple) -> None:
    """It learns its rows and is measured on the same."""
    seen = watch(tiny, rows[0], rows[0], replace(CONFIG, steps=30), sample_every=10)
    assert kinds(seen) is None and seen.steps[-1][1] < 0.7 * seen.steps[0][1]
    assert kinds(watch(tiny, rows[0], (), replace(CONFIG, steps=30), sample_every=0)) is None


@pytest.mark.parametrize("rate", [1e3, 1e20])
def test_a_rate_far_too_high(device: Device, tiny: Tiny, rows: tuple, rate: float) -> None:
    config = replace(CONFIG, learning_rate=rate, warmup_steps=0, schedule="constant")
    seen = watch(tiny, *rows, config, sample_every=0, catches=True)
    assert seen.error is not None and kinds(seen) == "diverged"
    assert seen.results is not None and seen.results.verdict is not None
    assert f"{rate:g}" in seen.results.verdict.words


def test_a_rate_too_high_makes_the_model_fall_apart(device: Device, tiny: Tiny, rows: tuple) -> None:
    """After a good start, as real models have one: their loss begins far below that of chance."""
    good = watch(tiny, rows[0], rows[0], replace(CONFIG, steps=60), sample_every=0)
    start = RunState(0, good.last, *({key: np.zeros_like(v) for key, v in good.last.items()} for _ in range(2)),
                     np.zeros((0, 2), np.float32))  # fmt: skip
    config = replace(CONFIG, learning_rate=0.5, warmup_steps=0, schedule="constant")
    seen = watch(tiny, rows[0], rows[0], config, sample_every=0, start=start, catches=True)
    assert seen.validation[0][1] < 3
    assert kinds(seen) == "collapsed"
    calm = watch(tiny, rows[0], rows[0], replace(config, learning_rate=1e-3), sample_every=0, start=start)
    assert kinds(calm) is None, "the control"


def test_a_rate_that_changes_nothing(device: Device, tiny: Tiny, rows: tuple) -> None:
    for held in (rows[1], ()):
        examples = rows[0] if held else rows[0][:2]  # each step has the same rows: nothing but learning can change it
        seen = watch(tiny, examples, held, replace(CONFIG, learning_rate=1e-9), sample_every=0)
        assert kinds(seen) == "unchanged"


def test_rows_learned_by_heart_make_others_worse(device: Device, tiny: Tiny, rows: tuple) -> None:
    seen = watch(tiny, *rows, replace(CONFIG, steps=40), sample_every=0)
    assert kinds(seen) == "worse" and seen.results is not None and seen.results.verdict is not None
    numbers = seen.results.verdict.numbers
    assert numbers["first_loss"] == seen.validation[0][1] < numbers["last_loss"] == seen.validation[-1][1]
