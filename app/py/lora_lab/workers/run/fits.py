"""Whether a run with a model that is not open yet fits this GPU: planned in full, and its memory tried for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from lora_lab.data import Example
from lora_lab.data.tokens.examples import Examples
from lora_lab.errors import LoraLabError, OutOfMemoryError
from lora_lab.formats.hub import size_words
from lora_lab.gpu import Device
from lora_lab.model.files import ModelFiles
from lora_lab.workers.protocol import TrainSettings
from lora_lab.workers.run.planner import Planner, check_settings

Verdict = Literal["fits", "too large", "unknown", "refused"]


@dataclass(frozen=True)
class Fit:
    """The answer, in words too; `memory_bytes` 0 where it could not be planned."""

    verdict: Verdict
    words: str
    memory_bytes: int = 0


async def fit_run(
    device: Device, files: ModelFiles, settings: TrainSettings, rows: Sequence[Example] | None, *, can_try: bool
) -> Fit:
    """Plan a run of this model and say whether the GPU has room for it.

    `rows` are those of the dataset, as the open model counts their tokens; None takes rows of the greatest length, so
    that no dataset takes more. `can_try` says whether the memory may be taken for a moment: not while a run has it.
    """
    config = files.config
    targets = tuple(name for name in settings.targets if name in config.linear_names)
    length = min(settings.max_length, config.max_position_embeddings)
    settings = replace(settings, targets=targets or config.linear_names, max_length=length)
    if problems := check_settings(settings, config):
        return Fit("unknown", f"Whether a run fits is told once the settings can be used: {problems[0].message}")
    of = "your data" if rows is not None else f"rows of {length:,} tokens"
    try:
        plan = Planner(device, files).plan(settings, rows or _longest_rows(settings), ())
    except OutOfMemoryError as error:
        return Fit("too large", f"Too large for this GPU with the present settings: {error}")
    except LoraLabError as error:  # dimensions that the kernels cannot do
        return Fit("refused", str(error))
    needed = plan.memory.total_bytes
    takes = f"a run with the present settings and {of} takes {size_words(needed)} of its memory"
    if not can_try:
        return Fit("unknown", f"On this GPU {takes}. Whether that is free is told when nothing is trained.", needed)
    if not await device.has_room(needed):
        return Fit("too large", f"This GPU has no room for it: {takes}, and so much is not free.", needed)
    return Fit("fits", f"Fits this GPU: {takes}.", needed)


def _longest_rows(settings: TrainSettings) -> Examples:
    """Return a step's rows, each as long as the settings let it be and trained to its end."""
    tokens = np.zeros(settings.max_length, np.int32)
    trained = np.ones(settings.max_length, np.bool_)
    trained[0] = False
    zeros = np.zeros(settings.batch, np.int64)
    return Examples([(tokens, trained)], zeros, zeros, zeros + settings.max_length)
