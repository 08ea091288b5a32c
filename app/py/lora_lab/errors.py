"""The errors that a person is meant to read. Anything else that escapes is a bug."""

from __future__ import annotations


class LoraLabError(Exception):
    """Base of every expected error. The message names the thing, what was found and what was wanted."""


class ModelError(LoraLabError):
    """A model's files cannot be used: missing, damaged, or of a kind that is not supported."""


class AdapterError(LoraLabError):
    """An adapter cannot be used with this model. Lists every problem, one a line."""


class DatasetError(LoraLabError):
    """A dataset cannot be used. `problems` holds one entry for each bad row."""

    def __init__(self, message: str, problems: tuple = ()) -> None:
        super().__init__(message)
        self.problems = problems


class DeviceError(LoraLabError):
    """No GPU, a GPU that is too small, or a GPU that was lost."""


class OutOfMemoryError(DeviceError):
    """The plan does not fit. The message says how much is needed, how much there is, and what to change."""
