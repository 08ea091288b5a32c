"""What the commands but `train` (training.py) and `data` do. The arguments are checked by then; see main.py."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import numpy as np

from lora_lab.cli.adapter_path import read_adapter_path
from lora_lab.cli.files import replacing
from lora_lab.cli.interrupt import interrupts
from lora_lab.cli.models import FoundModel, find_model, open_found
from lora_lab.cli.templates import choose_template
from lora_lab.cli.terminal import ByteBar, run_interruptible, say
from lora_lab.config import SamplingConfig
from lora_lab.errors import DeviceError, LoraLabError
from lora_lab.generate import ChatEngine, logits
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


# ---------------------------------------------------------------------------------------------------- generate, logits


def generate(options: argparse.Namespace, sampling: SamplingConfig) -> int:
    """Answer one prompt on standard output, piece by piece."""
    run_interruptible(_generate(options, sampling, find_model(options.model)))
    return 0


async def _generate(options: argparse.Namespace, sampling: SamplingConfig, found: FoundModel) -> None:
    opened = await open_found(found)
    messages = [{"role": "system", "content": options.system}] if options.system is not None else []
    messages.append({"role": "user", "content": options.prompt})
    tuned = await read_adapter_path(options.adapter, opened.files.config) if options.adapter else None
    template = choose_template(options.chat_template, opened.files, opened.tokenizer, options.adapter)
    async with on_gpu(opened.files, options.gpu) as model:
        length = len(opened.tokenizer.encode(template.render(messages, add_generation_prompt=True)))
        wanted = min(length + sampling.max_new_tokens, model.config.max_position_embeddings)
        chat = ChatEngine(model, opened.tokenizer, template, context_length=wanted)
        await chat.prepare()
        if tuned is not None:
            await chat.set_adapter(tuned.lora, tuned.tensors)
        async with aclosing(chat.reply(messages, sampling, adapter_strength=options.strength)) as pieces:
            async for piece in pieces:
                print(piece.text, end="", flush=True)
        print(flush=True)
        stats = chat.last_stats
        assert stats is not None, "a reply that has ended leaves its numbers"
        say(
            f"{stats.new_tokens} tokens, {stats.tokens_per_s:,.1f} tokens/s, "
            f"the first after {stats.time_to_first_token_ms:,.0f} ms"
            + (", cut off by --max-new-tokens or the model's length" if stats.finish_reason == "length" else "")
        )


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
    tuned = await read_adapter_path(options.adapter, opened.files.config) if options.adapter else None
    async with on_gpu(opened.files, options.gpu) as model:
        adapter = Adapter.from_tensors(model.device, model.config, tuned.lora, tuned.tensors) if tuned else None
        return await logits(model, adapter, token_ids, strength=options.strength)
