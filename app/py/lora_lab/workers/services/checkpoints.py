"""The run that was stopped: told of, kept while it goes on, given back, forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import lora_lab
from lora_lab.errors import CheckpointError, LoraLabError
from lora_lab.model.fingerprint import model_fingerprint
from lora_lab.train import Checkpoint, RunState, Trainer
from lora_lab.train.checkpoint import Arithmetic, RunIdentity, checkpoint_bytes
from lora_lab.workers.model.opened import OpenedModel
from lora_lab.workers.protocol import DiscardRun, StoppedRun
from lora_lab.workers.run.job import Job
from lora_lab.workers.services.stores import Stores
from lora_lab.workers.storage.checkpoints import KeptRun, StoppedAt, rows_to_bytes
from lora_lab.workers.wire.dispatch import Host, failure, handles

HOST = "browser"


class Checkpoints:
    """Answers DiscardRun; lends what a run needs to keep its checkpoints."""

    def __init__(self, host: Host, stores: Stores) -> None:
        self._host, self._stores = host, stores
        self._runs = False  # this tab's run holds the store
        self.changed = False  # since the page was told

    async def tell_stopped(self) -> None:
        """Tell the page of the run that can be gone on with; of none while one goes on, here or in another tab."""
        stopped, self.changed = None, False
        if not self._runs:
            await self._stores.opened()
            async with self._stores.runs.held() as is_ours:
                stopped = await self._stores.runs.newest() if is_ours else None
        if stopped is None:
            self._host.post(StoppedRun())
            return
        notes, identity = stopped.checkpoint.notes, stopped.checkpoint.identity
        self._host.post(
            StoppedRun(
                stopped.checkpoint.state.step, identity.total_steps, str(notes.get("title", "")),
                str(notes.get("model", identity.model)), str(notes.get("saved_at", "")),
            )
        )  # fmt: skip

    @handles(DiscardRun, "training", exclusive=True)
    async def discard_run(self, _: DiscardRun) -> None:
        """Forget the stopped run."""
        async with self._stores.runs.held() as is_ours:
            if is_ours:
                await self._stores.runs.forget()
        await self.tell_stopped()

    async def stopped(self) -> tuple[StoppedAt, Job]:
        """Return the stopped run and what it works on. CheckpointError if there is none."""
        found = await self._stores.runs.newest()
        if found is None:
            raise CheckpointError("There is no stopped run to go on with any more.")
        return found, Job.from_checkpoint(found.checkpoint, *await self._stores.runs.rows(found))

    @asynccontextmanager
    async def held(self) -> AsyncIterator[bool]:
        """Hold the store for a run of this tab; False where another tab's run has it."""
        await self._stores.opened()
        async with self._stores.runs.held() as is_ours:
            self._runs = is_ours
            try:
                yield is_ours
            finally:
                self._runs = False

    def keeper(self, opened: OpenedModel, job: Job, stopped: StoppedAt | None) -> Keeper:
        """Return what keeps the checkpoints of a run."""
        return Keeper(self._stores, opened, job, stopped, self._note_change, self._tell_trouble)

    def _note_change(self) -> None:
        self.changed = True

    def _tell_trouble(self, error: Exception) -> None:
        why = str(error).rstrip(".")
        told = LoraLabError(f"No checkpoint of the run could be stored ({why}). The run goes on without.")
        self._host.post(failure("storage", told))


class Keeper:
    """Keeps the checkpoints of one run; says what it is made of once it has its trainer (`use`)."""

    def __init__(
        self, stores: Stores, opened: OpenedModel, job: Job, stopped: StoppedAt | None,
        on_change: Callable[[], None], on_trouble: Callable[[Exception], None],
    ) -> None:  # fmt: skip
        self._stores, self._opened, self._job = stores, opened, job
        self._trainer: Trainer | None = None
        self._on_change, self._on_trouble = on_change, on_trouble
        self._run = KeptRun(stores.runs, stopped)
        self._known: tuple[RunIdentity, Arithmetic] | None = None
        self._told = False

    @property
    def kept(self) -> int:
        """The step of the last checkpoint; 0: there is none."""
        return self._run.kept

    async def use(self, trainer: Trainer) -> str:
        """Keep what this trainer does from now on; return what computes it that did not before, "" for nothing."""
        before, self._trainer, self._known = self._known, trainer, None
        return "; ".join(before[1].differences((await self.known())[1])) if before is not None else ""

    async def keep(self, state: RunState) -> None:
        """Store a checkpoint. A storage that refuses is told of once: the run is worth more."""
        try:
            identity, arithmetic = await self.known()
            notes = {
                **self._job.notes(),
                "model": self._opened.title,
                "saved_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            }
            data = checkpoint_bytes(Checkpoint(identity, arithmetic, state, notes))
            rows = b"" if self.kept else rows_to_bytes(self._job.split.trained, self._job.split.held)
            self._on_change()
            await self._run.keep(data, state.step, rows)
        except Exception as error:
            if not self._told:
                self._on_trouble(error)
            self._told = True

    async def forget(self) -> None:
        """The run has come to its end, and what it learned is kept."""
        if self.kept:
            self._on_change()
            await self._stores.runs.forget()

    async def known(self) -> tuple[RunIdentity, Arithmetic]:
        """Return what the run is, and what computes it."""
        if self._known is None:
            trainer, files = self._trainer, self._opened.files
            assert trainer is not None, "it was given to `use`"
            identity = RunIdentity.of(
                files.name, await model_fingerprint(files), trainer.examples, trainer.validation,
                trainer.adapter.config, trainer.config, trainer.total_steps,
            )  # fmt: skip
            info = trainer.model.device.info
            kernels = trainer.plans.fingerprint()
            self._known = identity, Arithmetic(info.name, info.backend, HOST, kernels, lora_lab.__version__)
        return self._known

    async def refuse_other(self, stopped: StoppedAt) -> str:
        """Raise CheckpointError unless this is the stopped run; return what its device differs in, "" for nothing."""
        identity, arithmetic = await self.known()
        kept = stopped.checkpoint
        if kept.identity.weights != identity.weights:
            name = kept.notes.get("model", kept.identity.model)
            raise CheckpointError(f"The stopped run is of the model {name}. Open that one, then go on.")
        kept.refuse_other(identity, "What was kept of the stopped run")
        return "; ".join(kept.arithmetic.differences(arithmetic))
