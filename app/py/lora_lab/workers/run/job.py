"""What a run works on, wherever it came from: the open dataset, or the storage, for a run that goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lora_lab.data.tokens.examples import Examples
from lora_lab.errors import CheckpointError
from lora_lab.evaluation.closed import from_plain, to_plain
from lora_lab.evaluation.record import DataFacts
from lora_lab.evaluation.seen import Seen
from lora_lab.train import Checkpoint
from lora_lab.workers.dataset.opened import OpenDataset, Split
from lora_lab.workers.protocol import Probe, TrainSettings
from lora_lab.workers.run.run_record import data_facts
from lora_lab.workers.wire.codec import ProtocolError, from_dict, to_dict


@dataclass(frozen=True)
class Job:
    """A run's rows and settings, and what it will be called."""

    settings: TrainSettings
    split: Split
    dataset: str
    title: str
    probes: tuple[Probe, ...]
    data: DataFacts | None = None  # None: a checkpoint of a version that did not keep it
    seen: Seen = field(default_factory=Seen, compare=False)

    @classmethod
    def of(cls, dataset: OpenDataset, split: Split, settings: TrainSettings) -> Job:
        """Return a run over the dataset that is open."""
        data = data_facts(dataset, split, settings)
        return cls(settings, split, dataset.name, dataset.title, dataset.choose_probes(split), data)

    def notes(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it, beside the rows."""
        return {
            "settings": to_dict(self.settings),
            "dataset": self.dataset,
            "title": self.title,
            "probes": [to_dict(probe) for probe in self.probes],
            "mixed": self.split.mixed,
            "data": to_plain(self.data),
            **self.seen.notes(),
        }

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, trained: Examples, held: Examples) -> Job:
        """Return the run that a checkpoint is of. CheckpointError where its notes are another version's."""
        notes: Mapping[str, Any] = checkpoint.notes
        try:
            settings = from_dict(TrainSettings, notes["settings"])
            probes = tuple(from_dict(Probe, probe) for probe in notes["probes"])
            # As it was split then: how many rows go at once may be reckoned otherwise in another version.
            settings = replace(settings, rows_at_once=int(checkpoint.identity.settings["batch"]))
            mixed = int(notes.get("mixed", 0))  # versions without it mixed none in
            split = Split(trained, held, (), (), mixed=mixed)
            data = from_plain(DataFacts | None, notes.get("data"), "data")
            return cls(settings, split, str(notes["dataset"]), str(notes["title"]), probes, data, Seen(notes))
        except (KeyError, TypeError, ValueError, ProtocolError) as error:
            raise CheckpointError(f"The stopped run was kept by another version of this page: {error}") from error
