"""Every kernel that the engine can ask for compiles with Tint (Chromium) and with naga (Firefox, wgpu-native).

Naga is laxer about uniform control flow, so what runs natively need not run in a browser. The kernels come from traces
of whole models, in every weight form and of every family, for GPUs and for software devices, so a variant cannot be
forgotten: each entry point in app/wgsl has to turn up.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from math import prod
from pathlib import Path

import pytest

from build_tools.environment import search_path
from lora_lab.config import LoraConfig, ModelConfig, TrainConfig
from lora_lab.generate.plans import PREFILL_SIZES, GenerationPlans
from lora_lab.gpu import Device, Tensor, Trace
from lora_lab.gpu.kernel import Kernel
from lora_lab.model import Adapter, Model
from lora_lab.model.block import Block
from lora_lab.model.decode import PackedAdapter
from lora_lab.model.families import family_of, llama
from lora_lab.ops.tiling import Tiling
from lora_lab.ops.weight import BLOCKS, Weight, packed_words
from lora_lab.train.plans import TrainPlans
from tests.tiny_families import FAMILIES, tiny_config

ROOT = Path(__file__).parents[2]
WGSL = ROOT / "app" / "wgsl"
EVERYWHERE_BYTES = 16_384  # workgroup memory that every WebGPU device grants
HEAD_DIMS = (4, 20, 64, 80, 128, 256)
# What ops.tiling can choose.
FORMS = ((128, 1), (64, 1), (64, 2), (32, 1), (32, 2), (32, 4))
TILINGS = [Tiling(rows, slices, parts) for rows, slices in FORMS for parts in (1, 3)]
TILINGS = [form for form in TILINGS if form.workgroup_bytes <= EVERYWHERE_BYTES]
# How a tile is shared out does not ask how a quad is decoded: these stand for all.
FORMS_IN_TILES = ("f32", "q4_1", "q5_k")
Wanted = dict[tuple[Kernel, tuple[str, ...]], None]  # in order of first use


def small_llama(head_dim: int) -> ModelConfig:
    """A Llama of one layer."""
    heads, kv_heads = (2, 2) if head_dim > 64 else (4, 2)
    return llama.make_config(
        vocab_size=96, hidden_size=64, intermediate_size=96, num_layers=1, num_heads=heads, num_kv_heads=kv_heads,
        head_dim=head_dim, rms_norm_eps=1e-5, rope_theta=1e4, max_position_embeddings=512, tie_word_embeddings=True,
    )  # fmt: skip


def hollow_model(device: Device, form: str, config: ModelConfig) -> Model:
    """A model whose weights take no memory: enough to trace, not to run."""
    hidden = config.hidden_size

    def weight(shape: tuple[int, int]) -> Weight:
        block = BLOCKS[form][1]
        padded = (shape[0], -(-shape[1] // block) * block)
        words = packed_words(form, padded)
        return Weight(Tensor((words,), device.plan_buffer(4 * words, "weight")), shape, form)

    def vector(shape: tuple[int, ...]) -> Tensor:
        return Tensor(shape, device.plan_buffer(4 * prod(shape), "vector"))

    def stacked(layer: int, names: tuple[str, ...]) -> Weight:
        shapes = [config.linear_shape(layer, name) for name in names]
        return weight((sum(shape[0] for shape in shapes), shapes[0][1]))

    def block(layer: int) -> Block:
        vectors = {name: vector(shape) for name, shape in family_of(config).block_vectors(config, layer).items()}
        return Block(vectors, {names: stacked(layer, names) for names in config.joined_names(layer)})

    table = weight((config.vocab_size, hidden))
    blocks = [block(layer) for layer in range(config.num_layers)]
    return Model(device, config, None, table, blocks, vector((hidden,)), table)  # type: ignore[arg-type]


def trace_everything(device: Device, form: str, config: ModelConfig) -> Iterator[Trace]:
    """Yield the traces of training, validation, the optimizer and generation."""
    model = hollow_model(device, form, config)
    adapter = Adapter(device, config, LoraConfig(rank=3, targets=config.linear_names))
    training = TrainPlans(model, adapter, TrainConfig(), (2, 160))
    yield training.trace_batch((2, 160))
    yield training.trace_batch((2, 160), grad_enabled=False)
    # A rank that four divides, so that rows are read as vectors, and layers of which only some have an adapter.
    targets = config.chosen_linears(("q_proj", "gate_proj", "up_proj", "qkv_proj"))
    partly = Adapter(device, config, LoraConfig(rank=4, targets=targets))
    some = TrainPlans(model, partly, TrainConfig(), (2, 160))
    yield some.trace_batch((2, 160))
    yield training._trace_zero()
    yield training._trace_update()
    packs = family_of(config).DECODE is not None
    chat = GenerationPlans(model, 64)
    for size in (1, *PREFILL_SIZES):
        for applied in (None, adapter):
            packed = PackedAdapter(model, applied) if applied and size == 1 and packs else None
            yield chat._trace(size, applied, packed)
            if packed is not None:
                yield packed.trace()
                packed.release()
    chat.close()
    training.close()
    some.close()
    adapter.release()
    partly.release()


@pytest.fixture(scope="module")
def kernels(device: Device) -> Wanted:
    """Every kernel with the bindings that it is given, as planned for a device that grants no more than it must."""
    found: Wanted = {}
    before = device.num_buffers
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            device,
            "limits",
            replace(device.limits, max_workgroup_storage_size=EVERYWHERE_BYTES, max_invocations_per_workgroup=256),
        )

        def collect(form: str, config: ModelConfig) -> None:
            for trace in trace_everything(device, form, config):
                found.update(dict.fromkeys((d.kernel, tuple(d.tensors)) for d in trace.dispatches))

        for gpu_kernels in (True, False):
            patch.setattr(device, "use_workgroup_memory", gpu_kernels)
            for form in BLOCKS:
                collect(form, small_llama(64))
            for head_dim in HEAD_DIMS:
                collect("f32", small_llama(head_dim))
            for family in FAMILIES:
                collect("f32", tiny_config(family))
            collect("f32", tiny_config("gemma2", head_dim=256))
        patch.setattr(device, "use_workgroup_memory", True)
        for low in (0, 64):  # LoRA's products in their other tiles
            with pytest.MonkeyPatch.context() as split:
                split.setattr("lora_lab.ops.matmul.LOW", low)
                split.setattr("lora_lab.ops.matmul.FEW_WORKGROUPS", 0)
                collect("f32", small_llama(64))
        for tiles in TILINGS:
            patch.setattr("lora_lab.ops.linear.tiling", lambda *_, tiles=tiles: tiles)
            for form in FORMS_IN_TILES:
                collect(form, small_llama(64))
    assert device.num_buffers == before
    return found


def test_every_entry_point_is_among_them(kernels: Wanted) -> None:
    """What no trace asks for is either dead or untested. `copy` belongs to `logits`."""
    written = {
        (path.relative_to(WGSL).with_suffix("").as_posix(), entry)
        for path in WGSL.rglob("*.wgsl")
        for entry in re.findall(r"@compute[^{]*?fn (\w+)", path.read_text(encoding="utf-8"))
    }
    traced = {(kernel.name.split()[0], kernel.entry) for kernel, _ in kernels}
    assert written - traced <= {("elementwise", "copy")}
    assert traced <= written


def test_tint_compiles_all_of_them(kernels: Wanted, node_modules: Path) -> None:
    specs = []
    for kernel, names in kernels:
        bindings = [kernel.bindings[name] for name in ("params", *names)]
        layout = ",".join(f"{binding.index}:{binding.access}" for binding in bindings)
        specs.append({"source": kernel.source, "entry": kernel.entry, "label": kernel.name, "layout": layout})
    assert compile_with_dawn(specs, node_modules) == []


def test_tint_really_looks(node_modules: Path) -> None:
    """A barrier that not all invocations reach, which naga lets through, and a binding that the layout lacks."""
    head = "@group(0) @binding(0) var<uniform> params: u32;"
    head += "@group(0) @binding(2) var<storage, read_write> y: array<u32>;"
    body = "fn main(@builtin(local_invocation_index) i: u32) { if (i > 3u) { workgroupBarrier(); } y[i] = params; }"
    good = body.replace("i > 3u", "params > 3u")
    specs = [
        {"source": f"{head}@compute @workgroup_size(64) {source}", "entry": "main", "label": label, "layout": layout}
        for source, label, layout in (
            (good, "good", "0:uniform,2:read_write"),
            (body, "barrier", "0:uniform,2:read_write"),
            (good, "layout", "0:uniform"),
        )
    ]
    problems = compile_with_dawn(specs, node_modules)
    assert [problem.split(".")[0] for problem in problems[:2]] == ["barrier", "layout"]
    assert "uniform control flow" in problems[0]


def compile_with_dawn(specs: list[dict[str, str]], node_modules: Path) -> list[str]:
    """Return what Tint and Dawn say against each kernel."""
    node = shutil.which("node", path=search_path())
    assert node is not None
    script = Path(__file__).with_name("compile_with_dawn.mjs")
    command = [node, str(script), str(ROOT / "app/web/worker/gpu.js"), str(node_modules)]
    done = subprocess.run(command, input=json.dumps(specs), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_naga_compiles_all_of_them(kernels: Wanted, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules only: a pipeline of each would take a software device minutes, and the other tests run most of them."""
    sources = {kernel.source: kernel.name for kernel, _ in kernels}
    for source, name in sources.items():
        device._device.create_shader_module(code=source, label=name)  # type: ignore[attr-defined]
    assert len(sources) > 50
    asyncio.run(device.check_errors())
