"""A tiny model from a GGUF file in each form, and in mixtures of them, against its dequantised twin in float32."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lora_lab.config import LoraConfig, TrainConfig
from lora_lab.formats.byte_source import BytesSource, sources_from_path
from lora_lab.formats.tensors import FORMS, StoredTensor
from lora_lab.generate import logits
from lora_lab.gpu import Device
from lora_lab.model import Model, load_model
from lora_lab.model.decode import can_decode
from lora_lab.model.files import ModelFiles, open_model
from lora_lab.ops.weight import JoinedWeight
from tests.close import assert_all_close, assert_close
from tests.engine_runs import adapter_with, gradients, random_examples, random_tensors, run, trainer_for
from tests.gpu.test_decode import run_token
from tests.tiny_gguf import write_tiny_gguf
from tests.tiny_model import write_tiny_model

TOLERANCE = 1e-5
TOKENS = np.random.default_rng(0).integers(0, 384, 20).tolist()
LAYER = "model.layers.{}.{}.weight"


def q4_k_m(layers: int) -> dict[str, str]:
    """What llama.cpp makes of a model: Q4_K, with Q6_K for v and down on some layers, and for the embedding."""
    forms = {"model.embed_tokens.weight": "q6_k"}
    for layer in range(0, layers, 2):
        forms |= {LAYER.format(layer, name): "q6_k" for name in ("self_attn.v_proj", "mlp.down_proj")}
    return forms


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of whole blocks of 256."""
    path = tmp_path_factory.mktemp("forms") / "tiny"
    return write_tiny_model(
        path, seed=5, hidden=256, intermediate=256, layers=1, heads=4, kv_heads=2, head_dim=64, init_std=0.05
    )


@pytest.fixture(scope="module")
def deeper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("forms") / "deeper"
    return write_tiny_model(
        path, seed=6, hidden=256, intermediate=512, layers=2, heads=4, kv_heads=2, head_dim=64, init_std=0.05
    )


def as_f32(files: ModelFiles) -> ModelFiles:
    """Return the same model with every tensor decoded on the CPU."""
    tensors = {}
    for name, tensor in files.tensors.items():
        values = run(tensor.to_f32())
        source = BytesSource(values.tobytes(), name)
        tensors[name] = StoredTensor(name, tensor.shape, "f32", source, 0, values.nbytes)
    return replace(files, tensors=tensors)


class Twins:
    """A model in a file's forms, and in float32."""

    def __init__(self, device: Device, path: Path) -> None:
        self.files = run(open_model(sources_from_path(path)))
        self.model: Model = run(load_model(device, self.files))
        self.plain: Model = run(load_model(device, as_f32(self.files)))

    def __enter__(self) -> Twins:
        return self

    def __exit__(self, *_: object) -> None:
        self.model.release()
        self.plain.release()


@pytest.fixture
def as_a_gpu(device: Device) -> Iterator[Device]:
    before, device.use_workgroup_memory = device.use_workgroup_memory, True
    yield device
    device.use_workgroup_memory = before


@pytest.mark.parametrize("form", FORMS)
def test_logits_of_every_form(device: Device, folder: Path, tmp_path: Path, form: str) -> None:
    path = write_tiny_gguf(folder, tmp_path / "tiny.gguf", form=form)
    with Twins(device, path) as twins:
        assert {weight.form for weight in twins.model.blocks[0].linears.values()} == {form}
        wanted = run(logits(twins.plain, None, TOKENS))
        assert_close(run(logits(twins.model, None, TOKENS)), wanted, TOLERANCE)


@pytest.mark.parametrize("form", FORMS)
def test_decoding_in_every_form(as_a_gpu: Device, folder: Path, tmp_path: Path, form: str) -> None:
    """The four kernels of one token, against the ops one after another in float32."""
    path = write_tiny_gguf(folder, tmp_path / "tiny.gguf", form=form)
    with Twins(as_a_gpu, path) as twins:
        assert can_decode(as_a_gpu, twins.model, None)
        found, wanted = run_token(twins.model, None, 9, 7, True), run_token(twins.plain, None, 9, 7, False)
        for ours, theirs in zip(found, wanted, strict=True):
            assert_close(ours, theirs, 2e-5)


MIXTURES = {
    "like Q4_K_M": ("q4_k", q4_k_m(2)),
    "every layer its own": (
        "q5_0", {LAYER.format(0, "self_attn.q_proj"): "q3_k", LAYER.format(1, "self_attn.k_proj"): "iq4_nl",
                 LAYER.format(1, "self_attn.o_proj"): "f16", "model.embed_tokens.weight": "q8_0"},
    ),
    "gate is not up": ("q4_0", {LAYER.format(1, "mlp.gate_proj"): "q2_k"}),
}  # fmt: skip
ADAPTERS = [LoraConfig(rank=3, alpha=6), LoraConfig(rank=4, alpha=8, targets=("q_proj", "v_proj", "up_proj"))]


@pytest.fixture(params=MIXTURES)
def mixed(request: pytest.FixtureRequest, device: Device, deeper: Path, tmp_path: Path) -> Iterator[Twins]:
    form, forms = MIXTURES[request.param]
    with Twins(device, write_tiny_gguf(deeper, tmp_path / "tiny.gguf", form=form, forms=forms)) as twins:
        yield twins


def test_a_mixture_takes_what_the_file_does(mixed: Twins) -> None:
    weights = [weight for block in mixed.model.blocks for weight in block.linears.values()]
    assert any(isinstance(weight, JoinedWeight) for weight in weights)
    in_file = sum(tensor.size_bytes for tensor in mixed.files.tensors.values())
    assert in_file <= mixed.model.weights_bytes <= 1.05 * in_file


@pytest.mark.parametrize("config", ADAPTERS, ids=["all layers", "some of those that share an input"])
def test_logits_and_gradients_of_mixtures(mixed: Twins, config: LoraConfig) -> None:
    tensors, examples = random_tensors(mixed.model, config), random_examples((20, 33), 384)
    train = TrainConfig(steps=1, batch=2, accumulate=1, shuffle=False)

    def results(model: Model) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        with adapter_with(model, config, tensors) as adapter, trainer_for(model, adapter, examples, train) as trainer:
            return run(logits(model, adapter, TOKENS)), gradients(trainer, [range(2)])[1]

    (found, found_gradients), (wanted, wanted_gradients) = results(mixed.model), results(mixed.plain)
    assert_close(found, wanted, TOLERANCE)
    assert_all_close(found_gradients, wanted_gradients, TOLERANCE)


@pytest.mark.parametrize("config", ADAPTERS, ids=["all layers", "some of those that share an input"])
def test_decoding_mixtures(mixed: Twins, as_a_gpu: Device, config: LoraConfig) -> None:
    tensors = random_tensors(mixed.model, config, b_std=0.2)

    def token(model: Model, fused: bool) -> tuple[np.ndarray, np.ndarray]:
        with adapter_with(model, config, tensors) as adapter:
            return run_token(model, adapter, 9, 7, fused and can_decode(as_a_gpu, model, adapter))

    for ours, theirs in zip(token(mixed.model, True), token(mixed.plain, False), strict=True):
        assert_close(ours, theirs, 2e-5)


def test_decoding_a_mixture_is_left_to_the_ops_only_where_gate_and_up_differ(mixed: Twins, as_a_gpu: Device) -> None:
    mlp = [block.linears["gate_proj", "up_proj"] for block in mixed.model.blocks]
    fits = not any(isinstance(weight, JoinedWeight) for weight in mlp)
    assert can_decode(as_a_gpu, mixed.model, None) == fits
