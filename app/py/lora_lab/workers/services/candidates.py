"""Models that a person thinks of opening: their headers read, and whether a run of one fits this GPU."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from lora_lab.data import Example
from lora_lab.formats.byte_source import BlobSource
from lora_lab.formats.hub import size_words
from lora_lab.model.files import ModelFiles, open_model
from lora_lab.workers.dataset.opened import Choices
from lora_lab.workers.protocol import CheckModel, ModelChecked, TrainSettings
from lora_lab.workers.run.fits import Fit, fit_run
from lora_lab.workers.services.alive import busy
from lora_lab.workers.services.datasets import Datasets
from lora_lab.workers.services.gpu import Gpu
from lora_lab.workers.services.models import READ_WITHIN_S
from lora_lab.workers.services.runs import Runs
from lora_lab.workers.wire.dispatch import Host, failure, handles
from lora_lab.workers.wire.tasks import OneJob


class Candidates:
    """Answers CheckModel. The model that is open, and a run, go on as they are."""

    def __init__(self, host: Host, gpu: Gpu, datasets: Datasets, runs: Runs) -> None:
        self._host, self._gpu, self._datasets, self._runs = host, gpu, datasets, runs
        self._checking = OneJob()

    @handles(CheckModel, "model")
    async def check(self, command: CheckModel) -> None:
        """Read a model's headers and say what a run with these settings takes on this GPU."""
        await self._checking.do("checking", self._check(command))

    async def _check(self, command: CheckModel) -> None:
        try:
            with busy(self._host, "reading the model", READ_WITHIN_S):
                files = await open_model([BlobSource(file.blob, file.name) for file in command.files])
            fit = await self._fit(files, command.settings)
            about = _about(files)
        except Exception as error:  # a file that is gone, no memory: whatever it is, the dialog waits for an answer
            told = failure("model", error)
            self._host.post(ModelChecked(command.request, "refused", told.message))
            return
        self._host.post(ModelChecked(command.request, fit.verdict, fit.words, files.name, about, fit.memory_bytes))

    async def _fit(self, files: ModelFiles, settings: TrainSettings | None) -> Fit:
        if settings is None:
            return Fit("unknown", "Whether a run fits is told once the settings can be used.")
        if not await self._gpu.has_gpu():
            return Fit("unknown", "There is no GPU here to train it on.")
        can_try = not self._runs.training
        return await fit_run(await self._gpu.device(), files, settings, self._rows(settings), can_try=can_try)

    def _rows(self, settings: TrainSettings) -> Sequence[Example] | None:
        """Return the open dataset's rows to train on, if their tokens are counted at these settings."""
        dataset, choices = self._datasets.dataset, Choices.of(settings)
        if dataset is None or not dataset.is_encoded(choices.masking, choices.chat_format):
            return None
        trained = dataset.split(settings).trained
        return trained if len(trained) else None


def _about(files: ModelFiles) -> str:
    """Return a model in a line, before it is open."""
    sizes: dict[str, int] = {}
    for tensor in files.tensors.values():
        sizes[tensor.form] = sizes.get(tensor.form, 0) + tensor.size_bytes
    count = sum(prod(tensor.shape) for tensor in files.tensors.values())
    parameters = f"{count / 1e9:.1f} billion" if count >= 1e9 else f"{count / 1e6:,.1f} million"
    form = max(sizes, key=lambda name: sizes[name]).upper()
    layers = files.config.num_layers
    return f"{size_words(sum(sizes.values()))} in {form}, {parameters} parameters, {layers} layers"
