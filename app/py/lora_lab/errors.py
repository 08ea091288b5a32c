"""The errors that a person is meant to read. Anything else that escapes is a bug."""

from __future__ import annotations

MAX_CHARACTERS = 20_000


class LoraLabError(Exception):
    """Base of every expected error. The message names the thing, what was found and what was wanted.

    It quotes files that others made: one of megabytes, which would hold up whatever shows it, is cut.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(message if len(message) <= MAX_CHARACTERS else message[: MAX_CHARACTERS - 1] + "…")


class ModelError(LoraLabError):
    """A model's files cannot be used: missing, damaged, or of a kind that is not supported."""


class AdapterError(LoraLabError):
    """An adapter cannot be used with this model. Lists every problem, one a line."""


class DivergedError(LoraLabError):
    """A run has fallen apart: its loss is no number any more, or nothing is learned any more.

    `has_good_step`: the adapter still holds a step from before that; those up to `good_until` were good.
    """

    def __init__(self, message: str, has_good_step: bool, good_until: int = 0) -> None:
        super().__init__(message)
        self.has_good_step, self.good_until = has_good_step, good_until


class CheckpointError(LoraLabError):
    """A checkpoint is damaged, or of another run. Names every difference."""


class DatasetError(LoraLabError):
    """A dataset cannot be used. `problems` holds one entry for each bad row."""

    def __init__(self, message: str, problems: tuple = ()) -> None:
        super().__init__(message)
        self.problems = problems


class DeviceError(LoraLabError):
    """No GPU, a GPU that is too small, or a GPU that was lost."""


class KernelError(DeviceError):
    """A driver does not compile a kernel. The message names it, and says what the driver said."""


class OutOfMemoryError(DeviceError):
    """The plan does not fit. The message says how much is needed, how much there is, and what to change."""


class HubError(ModelError):
    """A repository of the hub, or a file in it, cannot be had. `reason`: why, in one word of formats/hub_words.py."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason
