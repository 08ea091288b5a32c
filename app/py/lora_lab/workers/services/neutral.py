"""What else a run changed: measured when it has come to its end, on its own weights, told as it goes."""

from __future__ import annotations

from collections.abc import Callable

from lora_lab.errors import LoraLabError
from lora_lab.evaluation.measure import measure_neutral
from lora_lab.evaluation.neutral import Neutral
from lora_lab.train import Trainer
from lora_lab.train.history import Matrices
from lora_lab.workers.protocol import Notice, TrainingState, TrainSettings
from lora_lab.workers.services.models import Models
from lora_lab.workers.wire.dispatch import Host
from lora_lab.workers.wire.seldom import seldom

MEASURING = "Measuring what else changed"


class NeutralCheck:
    """Measures everyday rows with the adapter of a run and without."""

    def __init__(self, host: Host, models: Models) -> None:
        self._host, self._models = host, models

    async def after(
        self, trainer: Trainer, settings: TrainSettings, tensors: Matrices, stopped: Callable[[], bool]
    ) -> Neutral | None:  # fmt: skip
        """Return what else the adapter of `tensors` changed, which is the one that is given out; None where that is not
        wanted, was stopped, or could not be measured.

        The run's own memory is given back before; its adapter holds `tensors` then. A run that measures nothing is
        worth no less.
        """
        device = trainer.model.device
        if settings.neutral == "off" or (settings.neutral == "auto" and device.info.is_software) or stopped():
            return None

        def tell(done: float, total: float) -> None:
            if not stopped():
                self._host.post(TrainingState("training", MEASURING, done, total))

        trainer.close()
        trainer.adapter.write(tensors)
        opened = self._models.need_model("Measuring needs the run's model")
        template = opened.template_for(settings.chat_format)
        try:
            return await measure_neutral(
                trainer.model, trainer.adapter, opened.tokenizer, template, seldom(tell), stopped
            )  # fmt: skip
        except LoraLabError as error:
            self._host.post(Notice(f"What else changed could not be measured: {error}"))
            return None
