"""How a reply is drawn: what cannot be used is refused by name, with what is wanted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lora_lab.config import SamplingConfig
from lora_lab.errors import LoraLabError
from lora_lab.settings import SAMPLING
from lora_lab.workers.protocol import FieldProblem, Sampling
from lora_lab.workers.run.sampling import check_sampling, sampling_config

NAN = float("nan")


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"temperature": -3.0}, "temperature", "Temperature is -3; wanted 0 to 5."),
        ({"temperature": NAN}, "temperature", "Temperature is nan; wanted 0 to 5."),
        ({"temperature": 5.1}, "temperature", "Temperature is 5.1; wanted 0 to 5."),
        ({"top_p": 7.0}, "top_p", "Top-p is 7; wanted 0.01 to 1."),
        ({"top_p": 0.0}, "top_p", "Top-p is 0; wanted 0.01 to 1."),
        ({"top_k": -1}, "top_k", "Top-k is -1; wanted 0 to 2,147,483,648."),
        ({"min_p": 1.5}, "min_p", "Min-p is 1.5; wanted 0 to 1."),
        ({"repetition_penalty": 0.0}, "repetition_penalty", "Repetition penalty is 0; wanted 0.5 to 3."),
        ({"max_new_tokens": 0}, "max_new_tokens", "Longest reply is 0; wanted 1 to 4,096."),
        ({"max_new_tokens": 10**9}, "max_new_tokens", "Longest reply is 1,000,000,000; wanted 1 to 4,096."),
        ({"seed": -1}, "seed", "Seed is -1; wanted 0 to 4,294,967,295."),
        ({"seed": 2**32}, "seed", "Seed is 4,294,967,296; wanted 0 to 4,294,967,295."),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_name(change: dict[str, Any], field: str, said: str) -> None:
    sampling = replace(Sampling(), **change)
    assert [problem.field for problem in check_sampling(sampling)] == [field]
    with pytest.raises(LoraLabError) as caught:
        sampling_config(sampling)
    assert str(caught.value) == said


@pytest.mark.parametrize("strength", [-0.1, 2.1, NAN])
def test_a_strength_too(strength: float) -> None:
    assert check_sampling(Sampling(), strength) == [FieldProblem("strength", "0 to 2.")]
    with pytest.raises(LoraLabError, match=r"^Strength is .*; wanted 0 to 2\.$"):
        sampling_config(Sampling(), strength)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(LoraLabError, match=r"^Temperature is -3; wanted 0 to 5\. Top-p is 7; wanted 0\.01 to 1\.$"):
        sampling_config(replace(Sampling(), temperature=-3.0, top_p=7.0))


@pytest.mark.parametrize("setting", SAMPLING, ids=lambda setting: setting.name)
def test_what_the_bounds_hold_can_be_used(setting: Any) -> None:
    """Each setting's bounds are taken, and are themselves what the engine can do."""
    for value in (setting.form_bounds.least, setting.form_bounds.most, setting.default):
        sampling = replace(Sampling(), **{setting.name: setting.kind(value)})
        assert check_sampling(sampling) == []
        assert sampling_config(sampling) == replace(SamplingConfig(), **{setting.name: value})
