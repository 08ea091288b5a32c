"""A checkpoint: a run after one of its steps, whole, in one safetensors file. Knows nothing of where such files lie.

A run that goes on from one gives the bits of a run that was never interrupted, on the same device. For that a file
holds the adapter and both of AdamW's moments, by PEFT's key, and the losses so far; and in its metadata, as JSON, what
the run is (`RunIdentity`: model, rows in their order, settings) and what does its arithmetic (`Arithmetic`). Nothing
else varies: every random choice of a run follows from its seed and the number of the step.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from ..config import LoraConfig, TrainConfig
from ..data.tokens.examples import Example
from ..errors import CheckpointError
from ..formats import safetensors
from ..formats.byte_source import FileFormatError
from ..formats.json_reader import read_json
from .history import Best, Matrices, ValidationPoint

FORMAT = 2
FORMATS = (1, 2)  # that are read; the first has no accuracies, no best adapter and nothing watched
PARTS = ("adapter", "adamw.m", "adamw.v")
BEST = "best"
LOSSES = "losses"
METADATA, DIGEST = "lora_lab.checkpoint", "lora_lab.digest"
# Settings that change how a step is computed, not what comes out of it (tests/gpu/test_recompute.py).
WITHOUT_EFFECT = ("recompute", "activation_budget_bytes")

SHARE = 0.01  # of a run's time that checkpoints may cost
EVERY_S = 30.0  # by time, no oftener than this
FIRST_COST_S, BYTES_PER_S = 0.02, 100e6  # what the first one is taken to cost, until it was measured


@dataclass(frozen=True)
class RunState:
    """A run after `step` steps: A, B and AdamW's moments of each by PEFT's key, and what it has told so far.

    `losses` (step, 2) float32: loss and gradient norm of every step. `watched`: a listener's own, as JSON takes it.
    """

    step: int
    adapter: Matrices
    m: Matrices
    v: Matrices
    losses: np.ndarray
    validation: tuple[ValidationPoint, ...] = ()
    best: Best | None = None
    watched: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunIdentity:
    """What a run is. Two runs with the same are the same run, whatever step they have come to."""

    model: str  # its name
    weights: str  # `model_fingerprint`
    data: str  # `examples_digest` of what is trained on
    rows: int
    held: str
    held_rows: int
    lora: dict[str, Any]
    settings: dict[str, Any]
    total_steps: int
    start: str = ""  # digest of the adapter it went on from; "": it began with a new one

    @classmethod
    def of(
        cls, model: str, weights: str, examples: Sequence[Example], held: Sequence[Example], lora: LoraConfig,
        config: TrainConfig, total_steps: int, start: Mapping[str, np.ndarray] | None = None,
    ) -> RunIdentity:  # fmt: skip
        """Return what a run with these is."""
        settings = {name: value for name, value in asdict(config).items() if name not in WITHOUT_EFFECT}
        return cls(
            model, weights, examples_digest(examples), len(examples), examples_digest(held), len(held),
            {**asdict(lora), "targets": list(lora.targets)}, settings, total_steps,
            "" if start is None else _matrices_digest(start),
        )  # fmt: skip

    def differences(self, wanted: RunIdentity) -> list[str]:
        """Return in words where this, a checkpoint's, is not the run that is wanted."""
        found = []
        if self.weights != wanted.weights:
            names = f"{wanted.model}, the checkpoint's {self.model}"
            found.append(f"the model is {names}" if self.model != wanted.model else f"other weights of {self.model}")
        for what, rows, digest in (("training", "rows", "data"), ("validation", "held_rows", "held")):
            here, there = getattr(wanted, rows), getattr(self, rows)
            if here != there:
                found.append(f"there are {here:,} {what} rows, the checkpoint has {there:,}")
            elif getattr(self, digest) != getattr(wanted, digest):
                found.append(f"the {what} rows are others, or in another order")
        for own, others in ((self.lora, wanted.lora), (self.settings, wanted.settings)):
            for name in sorted(own.keys() | others.keys()):
                if own.get(name) != others.get(name):
                    found.append(f"{name} is {_said(others.get(name))}, in the checkpoint {_said(own.get(name))}")
        if self.start != wanted.start:
            found.append("it began from another adapter")
        if not found and self.total_steps != wanted.total_steps:
            found.append(f"it has {wanted.total_steps:,} steps, the checkpoint's {self.total_steps:,}")
        return found


@dataclass(frozen=True)
class Arithmetic:
    """What computes a run: another device, or other kernels and tiles, may round otherwise."""

    device: str
    backend: str
    host: str  # native, or browser
    kernels: str  # TrainPlans.fingerprint
    version: str  # of the engine

    def differences(self, wanted: Arithmetic) -> list[str]:
        """Return in words where this, a checkpoint's, is not what computes now."""
        found = []
        if (self.device, self.backend, self.host) != (wanted.device, wanted.backend, wanted.host):
            here = f"{wanted.device} ({wanted.backend}, {wanted.host})"
            found.append(f"this is {here}, the checkpoint is of {self.device} ({self.backend}, {self.host})")
        if self.kernels != wanted.kernels:
            found.append(f"the kernels or their tiles are others (lora-lab {self.version}, now {wanted.version})")
        return found


@dataclass(frozen=True)
class Checkpoint:
    """A run's state and whose it is. `notes` are the keeper's own, as JSON takes them."""

    identity: RunIdentity
    arithmetic: Arithmetic
    state: RunState
    notes: dict[str, Any] = field(default_factory=dict)

    def refuse_other(self, wanted: RunIdentity, name: str) -> None:
        """Raise CheckpointError, naming every difference, unless this is a checkpoint of that run."""
        if found := self.identity.differences(wanted):
            raise CheckpointError(f"{name} is of another run: {'; '.join(found)}")


# ---------------------------------------------------------------------------------------------------- the file


def checkpoint_bytes(checkpoint: Checkpoint) -> bytes:
    """Return the file."""
    state = checkpoint.state
    about = {
        "format": FORMAT,
        "step": state.step,
        "validation": [[one.step, one.loss, one.accuracy] for one in state.validation],
        "best": None if state.best is None else [state.best.step, state.best.loss],
        "watched": state.watched,
        "identity": asdict(checkpoint.identity),
        "arithmetic": asdict(checkpoint.arithmetic),
        "notes": checkpoint.notes,
    }
    arrays = {f"{part}/{key}": values for part, matrices in zip(PARTS, (state.adapter, state.m, state.v), strict=True)
              for key, values in matrices.items()}  # fmt: skip
    if state.best is not None:
        arrays |= {f"{BEST}/{key}": values for key, values in state.best.adapter.items()}
    arrays[LOSSES] = np.asarray(state.losses, np.float32).reshape(-1, 2)
    text = json.dumps(about)
    return safetensors.write(arrays, {METADATA: text, DIGEST: _digest(text, arrays)})


def check_bytes(data: bytes, name: str) -> tuple[dict[str, Any], Matrices]:
    """Return a file's metadata and arrays, undecoded. CheckpointError unless every byte is as it was written."""
    try:
        arrays, metadata = safetensors.read_arrays(data, name)
    except FileFormatError as error:
        raise CheckpointError(f"{name} is no whole checkpoint: {error}") from error
    text = metadata.get(METADATA)
    if text is None:
        raise CheckpointError(f"{name} is a safetensors file, and no checkpoint of lora-lab")
    if metadata.get(DIGEST) != _digest(text, arrays):
        raise CheckpointError(f"{name} is damaged: its content is not what its digest says")
    try:
        about = read_json(text)
        found = about["format"]
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{name}: the metadata cannot be read: {error}") from error
    if type(found) is not int or found not in FORMATS:
        known = " and ".join(map(str, FORMATS))
        raise CheckpointError(f"{name} is a checkpoint of form {found!r:.40}; this version reads forms {known}")
    return about, arrays


def read_checkpoint(data: bytes, name: str) -> Checkpoint:
    """Return the checkpoint that a file holds. CheckpointError when it is damaged or none; `name` is the file's."""
    about, arrays = check_bytes(data, name)
    parts: dict[str, Matrices] = {part: {} for part in (*PARTS, BEST)}
    try:
        losses = arrays.pop(LOSSES)
        for key, values in arrays.items():
            part, _, matrix = key.partition("/")
            parts[part][matrix] = values
        adapter, m, v, best_adapter = parts.values()
        validation, best, watched = _read_history(about, best_adapter)
        state = RunState(int(about["step"]), adapter, m, v, losses, validation, best, watched)
        if losses.shape != (state.step, 2) or losses.dtype != np.float32:
            raise ValueError(f"losses are {losses.dtype} {losses.shape}; wanted float32 ({state.step}, 2)")
        identity, arithmetic = _made(RunIdentity, about["identity"]), _made(Arithmetic, about["arithmetic"])
        return Checkpoint(identity, arithmetic, state, dict(about["notes"]))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{name} is no checkpoint of this version: {error}") from error


def _read_history(
    about: Mapping[str, Any], best_adapter: Matrices
) -> tuple[tuple[ValidationPoint, ...], Best | None, dict[str, Any]]:
    """Return the validations, the best adapter and what was watched, of either form."""
    if about["format"] == 1:
        if best_adapter:
            raise ValueError("form 1 has no best adapter")
        return tuple(ValidationPoint(int(step), float(loss)) for step, loss in about["validation"]), None, {}
    points = tuple(
        ValidationPoint(int(step), float(loss), None if accuracy is None else float(accuracy))
        for step, loss, accuracy in about["validation"]
    )
    if (about["best"] is None) != (not best_adapter):
        raise ValueError("the best adapter is there, and not of which step it is; or the other way round")
    best = None
    if about["best"] is not None:
        step, loss = about["best"]
        best = Best(int(step), float(loss), best_adapter)
    return points, best, dict(about["watched"])


def _made(kind: type[Any], values: Any) -> Any:
    """Return a dataclass of plain values. TypeError or ValueError unless each is of its field's kind."""
    made = kind(**values)
    for one in fields(kind):
        wanted, value = {"str": str, "int": int}.get(str(one.type), dict), getattr(made, one.name)
        if type(value) is not wanted:
            raise ValueError(f"{one.name} is {value!r:.80}; wanted {wanted.__name__}")
    return made


def _digest(text: str, arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16)
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\0{name}\0{array.dtype.str}{array.shape}".encode("utf-8", "replace"))
        digest.update(memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8)))
    return digest.hexdigest()


# ---------------------------------------------------------------------------------------------------- digests


def examples_digest(examples: Sequence[Example]) -> str:
    """Return a digest of rows: their tokens and which are trained, in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for example in examples:
        digest.update(len(example.tokens).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(example.tokens, "<i4").tobytes())
        digest.update(np.ascontiguousarray(example.trained, np.bool_).tobytes())
    return digest.hexdigest()


def _matrices_digest(matrices: Mapping[str, np.ndarray]) -> str:
    return _digest("", {name: np.asarray(values, np.float32) for name, values in matrices.items()})


def _said(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else "not set" if value is None else str(value)


# ---------------------------------------------------------------------------------------------------- when


class CheckpointTimes:
    """When a checkpoint is due: every so many steps, or by time, as often as SHARE of the run's time allows."""

    def __init__(
        self, every_steps: int | None, size_bytes: int, clock: Callable[[], float] = time.perf_counter
    ) -> None:  # fmt: skip
        """`size_bytes` is a checkpoint's. `every_steps` None: by time; 0: only where the run is paused."""
        self.every_steps, self._clock = every_steps, clock
        self._cost_s = FIRST_COST_S + size_bytes / BYTES_PER_S  # of the next one
        self._spent_s = 0.0
        self._begun = self._last = 0.0
        self.last_step = 0

    def begin(self, step: int) -> None:
        """The run begins, or goes on, after `step` steps."""
        self._begun = self._last = self._clock()
        self.last_step = step

    def is_due(self, step: int) -> bool:
        """Whether one should be taken after `step` steps."""
        if self.every_steps is not None:
            return self.every_steps > 0 and step - self.last_step >= self.every_steps
        now = self._clock()
        allowed_s = SHARE * (now - self._begun) - self._spent_s
        return step > self.last_step and now - self._last >= EVERY_S and allowed_s >= self._cost_s

    def is_missing(self, step: int, total_steps: int, pauses: bool = False) -> bool:
        """Whether one should be taken where a run ends, or `pauses`, after `step` steps of `total_steps`."""
        return (pauses or self.every_steps != 0) and self.last_step < step < total_steps

    def taken(self, step: int, cost_s: float) -> None:
        """One was taken after `step` steps; it held up the run for `cost_s`."""
        self._last, self.last_step = self._clock(), step
        self._cost_s = cost_s
        self._spent_s += cost_s
