"""The whole benchmark on one open device: every row, the curves, the floor; as much as the options ask for."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench.measure import HAS_RECOMPUTE, StepFigures, measure_chat, measure_step
from bench.micro import MATMUL_ROWS, bandwidth_gb_s, dispatch_cost_us, measure_products
from bench.record import Recorder
from bench.rows import Peaks, Row, choose_peak, complete
from bench.synthetic import SMOLLM2_135M, TINY, published_shape, random_model
from lora_lab.config import ModelConfig
from lora_lab.errors import DeviceError, OutOfMemoryError
from lora_lab.gpu import Device
from lora_lab.model import Model, load_model
from lora_lab.model.files import ModelFiles

Say = Callable[[str], None]


@dataclass(frozen=True)
class Sizes:
    """Which shapes are measured. `TINY_SIZES` are for a try on a software device: its numbers mean nothing."""

    # The first one finds no kernel compiled, so it comes first whose first step matters.
    steps: tuple[tuple[int, int], ...] = ((1, 512), (1, 128), (8, 512))
    memory: tuple[int, int] = (1, 512)
    products: tuple[int, ...] = MATMUL_ROWS
    new_tokens: int = 128
    prompt: int = 64
    long_prompt: int = 1024
    seconds: float = 3.0
    drift_steps: int = 1000
    tokens: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)
    batches: tuple[int, ...] = (1, 2, 4, 8, 16)
    ranks: tuple[int, ...] = (4, 8, 16, 32, 64, 128)
    layers: tuple[int, ...] = (2, 5, 10, 20, 30)


TINY_SIZES = Sizes(
    steps=((1, 32), (2, 32)), memory=(1, 32), products=(32,), new_tokens=4, prompt=8, long_prompt=32, seconds=0.0,
    drift_steps=8, tokens=(32, 64), batches=(1, 2), ranks=(4, 8), layers=(1, 2),
)  # fmt: skip


@dataclass
class Options:
    """What was asked for. `files` is a real model; without it one of a shape is made: SmolLM2-135M's, `tiny`'s, or that
    of another of bench/shapes.py, whose products are then left out (they are bench.run --forms). `form` is a name of
    bench/mixtures.py.
    """

    quick: bool = False
    profile: bool = False
    tiny: bool = False
    shape: str | None = None
    form: str = "q4_1"
    baseline: dict[str, Any] = field(default_factory=dict)
    files: ModelFiles | None = None
    host: str = ""
    commit: str = "unknown"

    @property
    def sizes(self) -> Sizes:
        return TINY_SIZES if self.tiny else Sizes()


@dataclass
class Found:
    """What has been measured so far."""

    rows: list[Row] = field(default_factory=list)
    kernels: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    bandwidth: float = 0.0
    dispatch_us: float = 0.0


def product_shapes(config: ModelConfig) -> list[tuple[int, int]]:
    """Return (in, out) of each product of the model's layers, those that share their input joined, and of its head."""
    shapes = []
    for group in dict.fromkeys(group for i in range(config.num_layers) for group in config.layer_linears(i)):
        shapes.append((group[0].in_size, sum(linear.out_size for linear in group)))
    return [*shapes, (config.hidden_size, config.vocab_size)]


def as_result(device: Device, options: Options, found: Found) -> dict[str, Any]:
    """Return the JSON of what was found, with ratios and shares of the floor as far as they are known."""
    tflops, source = choose_peak(found.rows, options.baseline)
    known = found.bandwidth > 0 and tflops == tflops
    peaks = Peaks(tflops, found.bandwidth, found.dispatch_us, source) if known else None
    complete(found.rows, options.baseline, peaks)
    baseline, files = options.baseline, options.files
    what = (
        f"{files.name}, its own weights"
        if files
        else f"{_shape(options).name}'s shape, {options.form.upper()}, seeded random weights"
    )
    return {
        "adapter": baseline.get("gpu", device.info.name),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": options.commit,
        "host": options.host,
        "what": f"{what}; LoRA r=16 on all linear layers, AdamW, clip 1.0",
        "baseline": baseline.get("what"),
        "baseline_bf16": baseline.get("bf16", {}),
        "rows": [row.to_json() for row in found.rows],
        "floor": dataclasses.asdict(peaks) if peaks else None,
        "curves": found.curves,
        "baseline_curves": baseline.get("curves", {}),
        "baseline_compiled": baseline.get("compiled", {}),
        "kernels": found.kernels,
        "left_out": found.left_out,
        "webgpu_adapter": dataclasses.asdict(device.info),
    }


def _shape(options: Options) -> ModelConfig:
    if options.shape:
        return published_shape(options.shape)
    return TINY if options.tiny else SMOLLM2_135M


async def run_all(device: Device, options: Options, say: Say, save: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Measure everything; `save` gets the result as far as it is known after each part. Return the whole one."""
    found, recorder, sizes = Found(), Recorder(device), options.sizes

    def part_done(*rows: Row) -> None:
        found.rows += rows
        result = as_result(device, options, found)
        save(result)
        for row in rows:
            say(f"{row.name}: {row.value:,.4g} {row.unit}")

    say(f"{device.info.name}: its bandwidth and the cost of a dispatch")
    found.bandwidth = await bandwidth_gb_s(device)
    found.dispatch_us = await dispatch_cost_us(device)
    part_done(Row("copy", found.bandwidth, "GB/s"), Row("empty dispatch", found.dispatch_us, "us"))

    say("Loading the model")
    files = options.files or random_model(_shape(options), options.form)
    # A reply must not end before its tokens are counted.
    files = dataclasses.replace(files, config=dataclasses.replace(files.config, eos_token_ids=()))
    model = await load_model(device, files)
    try:
        await _steps(recorder, model, sizes, options, found, part_done)
        await _chat(recorder, model, sizes, options, found, part_done)
        if not options.quick:
            await _drift(recorder, model, sizes, part_done)
            await _curves(recorder, model, sizes, found, say)
    finally:
        model.release()
    if not options.shape:
        say("Products of the linear layers")
        rows, left_out = await measure_products(device, product_shapes(files.config), sizes.products)
        found.left_out += left_out
        part_done(*rows)
    recorder.close()
    return as_result(device, options, found)


PartDone = Callable[..., None]


async def _steps(
    recorder: Recorder, model: Model, sizes: Sizes, options: Options, found: Found, part_done: PartDone
) -> None:
    for batch, length in sizes.steps:
        shape = f"{batch}x{length}"
        try:
            one = await measure_step(recorder, model, batch, length, seconds=sizes.seconds, profile=options.profile)
        except OutOfMemoryError as error:
            found.left_out.append(f"step {shape}: {error}")
            continue
        if one.kernels:
            found.kernels[f"step {shape}"] = one.kernels
        part_done(
            Row(f"step {shape}", one.median_ms, "ms", work=one.work, more={"steps": len(one.times_ms)}),
            Row(f"first step {shape}", one.first_ms, "ms"),
            Row(f"memory {shape}", one.memory_mib, "MiB", more={"planned_mib": one.planned_mib}),
        )
        planned = await measure_step(recorder, model, batch, length, seconds=0, steps=1, planned=True)
        part_done(Row(f"first step {shape} planned", planned.first_ms, "ms"))
        if options.quick and (batch, length) == sizes.memory:
            part_done(*_host_rows(one))
    if HAS_RECOMPUTE:
        batch, length = sizes.memory
        shape = f"{batch}x{length} recompute"
        one = await measure_step(
            recorder, model, batch, length, seconds=sizes.seconds, recompute=True, profile=options.profile
        )
        if one.kernels:
            found.kernels[f"step {shape}"] = one.kernels
        part_done(
            Row(f"step {shape}", one.median_ms, "ms", work=one.work),
            Row(f"memory {shape}", one.memory_mib, "MiB", more={"planned_mib": one.planned_mib}),
        )


async def _chat(
    recorder: Recorder, model: Model, sizes: Sizes, options: Options, found: Found, part_done: PartDone
) -> None:
    asked = {"new_tokens": sizes.new_tokens, "prompt": sizes.prompt, "long_prompt": sizes.long_prompt}
    off, prefill, kernels = await measure_chat(recorder, model, False, **asked, profile=options.profile)
    found.kernels |= {name: entries for name, entries in kernels.items() if entries}
    part_done(off, prefill)
    on, prefill_on, kernels = await measure_chat(recorder, model, True, **asked, profile=options.profile)
    found.kernels |= {name: entries for name, entries in kernels.items() if entries}
    part_done(on, prefill_on, Row("decode adapter share", on.more["share"], "of decode"))


async def _drift(recorder: Recorder, model: Model, sizes: Sizes, part_done: PartDone) -> None:
    batch, length = sizes.memory
    one = await measure_step(recorder, model, batch, length, seconds=0, steps=sizes.drift_steps)
    heaps = {"heap_before": one.heap_before, "heap_after": one.heap_after}
    part_done(Row(f"step drift {sizes.drift_steps}", one.drift_percent, "%", more={"shape": [batch, length], **heaps}))
    part_done(*_host_rows(one))


def _host_rows(one: StepFigures) -> list[Row]:
    """What a step takes of the host, by the longest run there is: in a new one code is still being compiled."""
    figures = (("python ms per step", one.python_ms), ("submit ms per step", one.submit_ms))
    return [Row(name, value, "ms", more={"steps": len(one.times_ms)}) for name, value in figures]


async def _curves(recorder: Recorder, model: Model, sizes: Sizes, found: Found, say: Say) -> None:
    """Measure a step's time over tokens, batch, rank and layers, everything else as in the row `memory` is of."""
    batch, length = sizes.memory

    async def add(curve: str, x: int, batch: int, length: int, model: Model, rank: int = 16) -> None:
        points = found.curves.setdefault(curve, [])
        try:
            one = await measure_step(recorder, model, batch, length, seconds=min(1.0, sizes.seconds), rank=rank)
        except (OutOfMemoryError, DeviceError) as error:
            recorder.device.raise_if_lost()
            found.left_out.append(f"curve {curve}, {x}: {error}")
            return
        points.append([x, one.median_ms])
        say(f"curve {curve}, {x}: {one.median_ms:,.4g} ms")

    for tokens in sizes.tokens:
        await add("tokens", tokens, 1, tokens, model)
    for rows in sizes.batches:
        await add("batch", rows, rows, length, model)
    for rank in sizes.ranks:
        await add("rank", rank, batch, length, model, rank)
    for count in sizes.layers:
        if count <= model.config.num_layers:
            config = dataclasses.replace(model.config, num_layers=count)
            fewer = dataclasses.replace(model, config=config, blocks=model.blocks[:count])
            await add("layers", count, batch, length, fewer)
