"""From the chat's fields to a reply: what of the sampling cannot be used, and the engine's settings."""

from __future__ import annotations

from lora_lab.config import SamplingConfig
from lora_lab.errors import LoraLabError
from lora_lab.setting_schema import plain, small
from lora_lab.settings import SAMPLING, STRENGTH, problems
from lora_lab.workers.protocol import FieldProblem, Sampling

TABLE = (*SAMPLING, STRENGTH)


def check_sampling(sampling: Sampling, strength: float = STRENGTH.default) -> list[FieldProblem]:
    """Return everything about how a reply shall be drawn that cannot be used, by field."""
    values = {**vars(sampling), STRENGTH.name: strength}
    return [FieldProblem(*found) for found in problems(TABLE, values, {}).items()]


def sampling_config(sampling: Sampling, strength: float = STRENGTH.default) -> SamplingConfig:
    """Return the engine's settings. LoraLabError names every value that cannot be used, and what is wanted."""
    found = {problem.field: problem.message for problem in check_sampling(sampling, strength)}
    values = {**vars(sampling), STRENGTH.name: strength}
    said = [
        f"{setting.label} is {plain(values[setting.name])}; wanted {small(found[setting.form_name])}"
        for setting in TABLE
        if setting.form_name in found
    ]
    if said:
        raise LoraLabError(" ".join(said))
    return SamplingConfig(**vars(sampling))


def refuse_strength(strength: float) -> None:
    """Raise LoraLabError where an adapter cannot be applied so strongly."""
    if (wanted := STRENGTH.problem(strength)) is not None:
        raise LoraLabError(f"{STRENGTH.label} is {plain(strength)}; wanted {small(wanted)}")
