"""A run's checkpoint on disk, beside --out: written anew, read back, then moved, so there is always a whole one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lora_lab import __version__
from lora_lab.cli.files import naming, sync_folder, write_synced
from lora_lab.cli.interrupt import interrupts
from lora_lab.cli.terminal import say
from lora_lab.errors import CheckpointError
from lora_lab.gpu import AdapterInfo
from lora_lab.train import Checkpoint, RunState
from lora_lab.train.checkpoint import Arithmetic, RunIdentity, check_bytes, checkpoint_bytes, read_checkpoint


def checkpoint_path(out: Path) -> Path:
    """Return where the checkpoint of a run into `out` lies."""
    target = out.resolve()
    return target.with_name(f"{target.name}.checkpoint")


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint. CheckpointError, which says what to do, when there is none or it is no whole one."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(
            f"--resume: {path} does not exist: no run was stopped there, or it came to its end. Leave --resume away "
            "to begin anew"
        ) from None
    except OSError as error:
        raise CheckpointError(f"--resume {path}: {error.strerror or error}") from error
    return read_checkpoint(data, str(path))


def native_arithmetic(device: AdapterInfo, kernels: str) -> Arithmetic:
    """Return what computes a run here."""
    return Arithmetic(device.name, device.backend, "native", kernels, __version__)


class CheckpointFile:
    """The file of one run. `kept` is the step that it holds; 0: none of this run."""

    def __init__(self, path: Path, identity: RunIdentity, arithmetic: Arithmetic, kept: int = 0) -> None:
        self.path, self.kept = path, kept
        self._identity, self._arithmetic = identity, arithmetic
        self.notes: dict[str, Any] = {}  # of the next checkpoint
        self._told = False

    def keep(self, state: RunState) -> None:
        """Write the state down. A disk that does not take it is told of once: the run is worth more."""
        data = checkpoint_bytes(Checkpoint(self._identity, self._arithmetic, state, dict(self.notes)))
        try:
            if not self.kept and self.path.exists():  # another run's
                self.path.replace(self.path.with_name(f"{self.path.name}.before"))
            write_checkpoint(self.path, data)
        except (OSError, CheckpointError) as error:
            if not self._told:
                self._told = True
                why = f"{error.strerror}" if isinstance(error, OSError) else str(error)
                kept = f"; that of step {self.kept} stays" if self.kept else ""
                say(f"Warning: no checkpoint could be written to {self.path} ({why}){kept}. The run goes on.")
            return
        self.kept, self._told = state.step, False

    def forget(self) -> None:
        """The run has come to its end: nothing is to go on from any more."""
        if self.kept:
            self.path.unlink(missing_ok=True)

    def how_to_go_on(self, total_steps: int) -> str:
        """Return what the person may do after an interruption; "" where there is no checkpoint."""
        if not self.kept:
            return ""
        return f"The run stands at step {self.kept:,} of {total_steps:,}: the same command with --resume goes on there."


def write_checkpoint(path: Path, data: bytes) -> None:
    """Write a file that takes the place of `path` only when all of it was read back from the disk's system as it is."""
    part = path.with_name(f"{path.name}.part")
    interrupts.unfinished.add(str(part))
    try:
        with naming(part):
            write_synced(part, data)
            check_bytes(part.read_bytes(), str(part))
            os.replace(part, path)  # noqa: PTH105 - as one step on Windows too
            sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)
        interrupts.unfinished.discard(str(part))
