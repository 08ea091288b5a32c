"""The sampler against float64: exact choices, exact sets, and the distribution of thousands of draws."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lora_lab.config import SamplingConfig
from lora_lab.errors import LoraLabError
from lora_lab.generate.chat import _check
from lora_lab.gpu import Buffer, Device, Pool, Tensor
from lora_lab.ops.sample import sample
from lora_lab.ops.step import StepBuffer, StepValues
from lora_lab.ops.tape import Tape
from tests import reference

SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "hot": {"temperature": 2.5},
    "cold": {"temperature": 0.3},
    "top-k": {"top_k": 5},
    "top-k beyond the vocabulary": {"top_k": 10_000},
    "top-p": {"top_p": 0.8},
    "narrow top-p": {"top_p": 0.01},
    "min-p": {"min_p": 0.1},
    "penalty": {"repetition_penalty": 1.7},
    "reward": {"repetition_penalty": 0.6},
    "all": {"temperature": 0.8, "top_k": 20, "top_p": 0.9, "min_p": 0.02, "repetition_penalty": 1.2},
}
DRAWN = 8
SEEN = (0, 3, 11, 64, 200)


class Sampler:
    """The kernel over a vocabulary, `count` draws a submit: each has its own logits, marks, token and step values."""

    def __init__(self, device: Device, vocab: int, count: int) -> None:
        self.device, self.vocab, self.count = device, vocab, count
        self.pool = Pool(device, "sampler")
        self.steps = [StepBuffer(device, "sampler") for _ in range(count)]
        self.pitch = -(-vocab // 64) * 64  # every draw's part begins where a binding may
        make = device.create_buffer
        self.logits = make(4 * count * self.pitch, "logits")
        self.seen = make(4 * count * self.pitch, "seen")
        self.tokens = make(4 * count * 64, "tokens")
        self.drawn = make(4 * DRAWN, "drawn")
        drawn = Tensor((DRAWN,), self.drawn, 0, "drawn")
        tape = Tape(device, self.steps[0].tensor)
        for i, step in enumerate(self.steps):
            tape.step = step.tensor
            at = 4 * i * self.pitch
            logits, seen = Tensor((1, vocab), self.logits, at, "logits"), Tensor((vocab,), self.seen, at, "seen")
            sample(tape, logits, seen, Tensor((1,), self.tokens, 4 * i * 64, "token"), drawn)
        self.plan = asyncio.run(device.build(tape, self.pool, "sampler"))

    def draw(self, logits: np.ndarray, values: Sequence[StepValues], seen: Sequence[int] = ()) -> np.ndarray:
        """Return a token for each of `values`; logits (V) or (count, V). The token must have joined the marks."""
        parts = np.full((self.count, self.pitch), np.inf, np.float32)  # behind the vocabulary: more than any logit
        parts[:, : self.vocab] = logits
        marks = np.zeros((self.count, self.pitch), np.uint32)
        marks[:, list(seen)] = 1
        self.device.write(self.logits, 0, parts)
        self.device.write(self.seen, 0, marks)
        for step, value in zip(self.steps, values, strict=True):
            step.write(value)
        asyncio.run(self.device.submit_measured(self.plan))
        tokens = self._read(self.tokens).reshape(self.count, 64)[:, 0]
        marks[np.arange(self.count), tokens] = 1
        assert np.array_equal(self._read(self.seen).reshape(marks.shape), marks)
        drawn = {value.draw % DRAWN: token for value, token in zip(values, tokens, strict=True)}
        assert {place: self._read(self.drawn)[place] for place in drawn} == drawn
        return tokens

    def _read(self, buffer: Buffer) -> np.ndarray:
        return np.frombuffer(asyncio.run(self.device.read(buffer, 0, buffer.size_bytes)), np.uint32)

    def close(self) -> None:
        self.plan.close()
        self.pool.close()
        for owner in (*self.steps, self.logits, self.seen, self.tokens, self.drawn):
            (owner.close if isinstance(owner, StepBuffer) else owner.destroy)()


@contextmanager
def sampler_of(device: Device, vocab: int, count: int = 1) -> Iterator[Sampler]:
    before = device.num_buffers
    sampler = Sampler(device, vocab, count)
    yield sampler
    sampler.close()
    assert device.num_buffers == before


@pytest.mark.parametrize("vocab", [1, 2, 7, 255, 257, 3000])
def test_greedy_takes_the_first_of_the_largest(device: Device, vocab: int) -> None:
    logits = np.random.default_rng(vocab).integers(-3, 3, (20, vocab))  # many ties
    with sampler_of(device, vocab, len(logits)) as sampler:
        tokens = sampler.draw(logits, [StepValues(temperature=0.0)] * len(logits))
    assert np.array_equal(tokens, np.argmax(logits, axis=1))


@pytest.mark.parametrize(
    ("logits", "seen", "wanted"),
    [
        ([5.0, 3.0, 1.0, 0.0], [0], 1),
        ([5.0, 3.0, 1.0, 0.0], [0, 1], 0),  # 2.5 against 1.5
        ([-1.0, -1.5, -9.0, -9.0], [0], 1),  # -2 against -1.5
    ],
)
def test_greedy_heeds_the_repetition_penalty(device: Device, logits: list[float], seen: list[int], wanted: int) -> None:
    with sampler_of(device, 4) as sampler:
        values = [StepValues(temperature=0.0, repetition_penalty=2.0)]
        assert list(sampler.draw(np.array(logits), values, seen)) == [wanted]


@pytest.mark.parametrize("vocab", [7, 300, 2000])
@pytest.mark.parametrize("name", SETTINGS)
def test_each_draw_is_the_references(device: Device, name: str, vocab: int) -> None:
    """Same uniform number, same cumulative sum: only a draw within float32 rounding of a border may differ."""
    draws = 60
    logits = (2 * np.random.default_rng(vocab).normal(size=(draws, vocab))).astype(np.float32)
    seen = [token for token in SEEN if token < vocab]
    settings = {"temperature": 1.0, **SETTINGS[name]}
    with sampler_of(device, vocab, draws) as sampler:
        found = sampler.draw(logits, [StepValues(seed=vocab, draw=i, **settings) for i in range(draws)], seen)
    p = [reference.sampling_probabilities(row, seen, **settings) for row in logits]
    assert all(p[i][found[i]] > 0 for i in range(draws)), "a token was drawn that the reference cuts"
    wanted = [reference.draw(p[i], vocab, i) for i in range(draws)]
    assert np.count_nonzero(found != wanted) <= 1


@pytest.mark.parametrize("tiled", [True, False])
def test_a_vocabulary_of_gemmas_size(device: Device, monkeypatch: pytest.MonkeyPatch, tiled: bool) -> None:
    """llvmpipe leaves loops after 65,535 rounds: all settings at once take 66 passes over 262,144 tokens."""
    monkeypatch.setattr(device, "use_workgroup_memory", tiled)
    vocab, draws = 262_144, 6
    logits = (2 * np.random.default_rng(0).normal(size=(draws, vocab))).astype(np.float32)
    with sampler_of(device, vocab, draws) as sampler:
        values = [StepValues(seed=1, draw=i, **{"temperature": 1.0, **SETTINGS["all"]}) for i in range(draws)]
        found = sampler.draw(logits, values, SEEN)
    p = [reference.sampling_probabilities(row, SEEN, **SETTINGS["all"]) for row in logits]
    assert list(found) == [reference.draw(p[i], 1, i) for i in range(draws)]


@pytest.mark.parametrize("name", SETTINGS)
def test_thousands_of_draws_have_the_right_distribution(device: Device, name: str) -> None:
    """Pearson's chi-squared over 3,000 draws, and no token from outside the kept set."""
    vocab, count, rounds = 260, 250, 12
    logits = (2 * np.random.default_rng(4).normal(size=vocab)).astype(np.float32)
    settings = {"temperature": 1.0, **SETTINGS[name]}
    p = reference.sampling_probabilities(logits, SEEN, **settings)
    with sampler_of(device, vocab, count) as sampler:
        values = [StepValues(seed=99, draw=i, **settings) for i in range(rounds * count)]
        tokens = np.concatenate(
            [sampler.draw(logits, values[i : i + count], SEEN) for i in range(0, len(values), count)]
        )  # fmt: skip
    counts = np.bincount(tokens, minlength=vocab)
    assert not counts[p == 0].any()
    order = np.argsort(-p)
    groups = np.searchsorted([0.2, 0.4, 0.6, 0.8, 0.9, 0.97], np.cumsum(p[order]) - p[order], side="right")
    expected = np.bincount(groups, weights=p[order]) * len(tokens)
    observed = np.bincount(groups, weights=counts[order])
    kept = expected > 0
    chi_squared = np.sum((observed[kept] - expected[kept]) ** 2 / expected[kept])
    # 24.1 is the 99.95 % point of 6 degrees of freedom; the seed is fixed, so it passes always or never.
    assert chi_squared < 24.1, (observed, expected)


def test_equal_logits_at_the_border_stay_or_go_together(device: Device) -> None:
    with sampler_of(device, 6, 200) as sampler:
        values = [StepValues(temperature=1.0, top_k=2, draw=i) for i in range(200)]
        assert set(sampler.draw(np.array([3.0, 1.0, 2.0, 2.0, 2.0, 0.0]), values)) == {0, 2, 3, 4}


def test_the_seed_and_the_number_of_the_draw_decide(device: Device) -> None:
    with sampler_of(device, 1000, 30) as sampler:

        def tokens(seed: int) -> list[int]:
            values = [StepValues(temperature=1.0, seed=seed, draw=i) for i in range(30)]
            return list(sampler.draw(np.zeros(1000), values))

        first = tokens(1)
        assert tokens(1) == first
        assert tokens(2) != first
        assert len(set(first)) > 20


@pytest.mark.parametrize("name", SETTINGS)
def test_the_reference_is_transformers(name: str) -> None:
    """Hugging Face's processors in Hugging Face's order give the same probabilities."""
    import torch
    from transformers.generation import logits_process as hf

    settings = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0, **SETTINGS[name]}
    logits = 2 * np.random.default_rng(4).normal(size=260)
    scores = torch.tensor(logits)[None]
    ids = torch.tensor([SEEN])
    processors = [hf.RepetitionPenaltyLogitsProcessor(settings["repetition_penalty"])]
    if settings["temperature"] != 1:
        processors.append(hf.TemperatureLogitsWarper(settings["temperature"]))
    if settings["top_k"]:
        processors.append(hf.TopKLogitsWarper(settings["top_k"]))
    if settings["top_p"] < 1:
        processors.append(hf.TopPLogitsWarper(settings["top_p"]))
    if settings["min_p"]:
        processors.append(hf.MinPLogitsWarper(settings["min_p"]))
    for processor in processors:
        scores = processor(ids, scores)
    wanted = torch.softmax(scores[0], -1).numpy()
    assert np.allclose(reference.sampling_probabilities(logits, SEEN, **settings), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": -0.1}, {"temperature": float("nan")}, {"top_p": 0.0}, {"top_p": 1.1}, {"min_p": 2.0},
     {"repetition_penalty": 0.0}, {"top_k": -1}, {"max_new_tokens": 0}, {"seed": -1}, {"seed": 2**32}],
    ids=lambda wrong: "{} {}".format(*next(iter(wrong.items()))),
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(LoraLabError, match=f"{next(iter(wrong))} is "):
        _check(replace(SamplingConfig(), **wrong))
