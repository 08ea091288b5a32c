"""How much numbers change on the way out: the mean loss over some rows, with the adapter on and of what went out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..config import LoraConfig, TrainConfig
from ..data.tokens.batches import Example
from ..model.lora import Adapter
from ..model.transformer import Model
from ..train import Trainer
from .merge import Adapted


async def mean_loss(model: Model, adapted: Adapted | None, rows: Sequence[Example], config: TrainConfig) -> float:
    """Return the mean loss over the rows' trained tokens; None as `adapted` means the model alone.

    The model must be on its device. What is taken of the GPU's memory is given back.
    """
    if adapted is None:
        # A new adapter's B is zero, so it changes nothing.
        lora = LoraConfig(rank=1, alpha=1, targets=model.config.linear_names)
        adapter = Adapter.create(model.device, model.config, lora, 0)
    else:
        adapter = Adapter.from_tensors(model.device, model.config, adapted.lora, dict(adapted.tensors))
    trainer = Trainer(model, adapter, rows, replace(config, steps=1), validation=rows)
    try:
        await trainer.prepare()
        found = await trainer.validate()
    finally:
        trainer.close()
        adapter.release()
    assert found is not None, "nobody has asked it to stop"
    return found.loss
