"""What several commands share, and `logits`. The arguments are checked by then; see main.py."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np

from lora_lab.cli.adapters import chosen_adapters, read_adapters
from lora_lab.cli.files import replacing
from lora_lab.cli.interrupt import interrupts
from lora_lab.cli.models import FoundModel, find_model, open_found
from lora_lab.cli.terminal import ByteBar, run_interruptible, say
from lora_lab.errors import DeviceError, LoraLabError
from lora_lab.generate import logits
from lora_lab.gpu import Device, list_adapters, open_device
from lora_lab.model import Adapter, Model, load_model
from lora_lab.model.files import ModelFiles


def list_gpus() -> int:
    """Print every GPU, the best first. Raises DeviceError when there is none."""
    interrupts.check()
    adapters = list_adapters()
    interrupts.check()
    if not adapters:
        raise DeviceError("no GPU was found; a Vulkan, Metal or Direct3D 12 driver is needed")
    for adapter in adapters:
        kind = ", software" if adapter.is_software else ""
        print(f"{adapter.name} ({adapter.backend}{kind})")
    return 0


# ---------------------------------------------------------------------------------------------------- what all share


@asynccontextmanager
async def on_gpu(files: ModelFiles, gpu: str | None) -> AsyncIterator[Model]:
    """Open the device that was asked for and bring the model to it."""
    device: Device = await open_device(gpu)
    try:
        slow = ", a software device: slow" if device.info.is_software else ""
        say(f"GPU: {device.info.name} ({device.info.backend}{slow})")
        bar = ByteBar(files.name)
        try:
            model = await load_model(device, files, on_progress=bar)
        finally:
            bar.close()
        yield model
    finally:
        await device.close()


# ---------------------------------------------------------------------------------------------------- logits


def write_logits(options: argparse.Namespace) -> int:
    """Write a text's logits, float32 (tokens, vocabulary), as a .npy file."""
    if not options.out.parent.is_dir():
        raise LoraLabError(f"--out {options.out}: the folder {options.out.parent} does not exist")
    values = run_interruptible(_logits(options, find_model(options.model)))
    with replacing(options.out) as out:
        np.save(out, values)
    say(f"{values.shape[0]} x {values.shape[1]} logits are in {options.out}")
    return 0


async def _logits(options: argparse.Namespace, found: FoundModel) -> np.ndarray:
    opened = await open_found(found)
    token_ids = opened.tokenizer.encode(options.text)
    if not token_ids:
        raise LoraLabError("--text is empty: it gives no token")
    tuned = await read_adapters(chosen_adapters(options), opened.files.config)
    async with on_gpu(opened.files, options.gpu) as model:
        if tuned is None:
            return await logits(model, None, token_ids)
        adapter = Adapter.from_tensors(model.device, model.config, tuned.lora, tuned.tensors)
        try:
            return await logits(model, adapter, token_ids, strength=tuned.strength)
        finally:
            adapter.release()
