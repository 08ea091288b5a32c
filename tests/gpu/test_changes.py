"""What an adapter changed about a text, against transformers and PEFT in float64: every probability, every rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from lora_lab.config import LoraConfig
from lora_lab.errors import LoraLabError
from lora_lab.generate import text_pass
from lora_lab.generate.changes import TokenChange, token_changes
from lora_lab.gpu import Device
from lora_lab.model import Adapter, Model
from lora_lab.model.adapter_mix import WeightedAdapter, mix
from tests import torch_reference
from tests.engine_runs import adapter_with, load, random_tensors, run
from tests.gpu.conftest import Tiny, TinyModels
from tests.gpu.test_tiny_llama import tokens_for
from tests.tiny_families import FAMILIES, write_tiny_family

# Of a logarithm: what float32 leaves after some layers; 1e-5 at most was measured, and other GPUs round otherwise.
LOG_TOLERANCE = 5e-5


def changes(model: Model, adapter: Adapter | None, tokens: Sequence[int], **how) -> list[TokenChange]:
    async def collect() -> list[TokenChange]:
        return [one async for one in token_changes(model, adapter, tokens, **how)]

    return run(collect())


@dataclass
class Reference:
    """Log-probabilities (T, V), float64, in which row t is about token t + 1."""

    base: np.ndarray
    tuned: np.ndarray

    @classmethod
    def of(cls, folder: Path, lora: LoraConfig, tensors: dict, tokens: Sequence[int], strength: float) -> Reference:
        model = torch_reference.load_base(folder)
        base = torch_reference.logits(model, tokens)
        strong = {key: value.astype(np.float64) * (strength if ".lora_B." in key else 1) for key, value in
                  tensors.items()}  # fmt: skip
        tuned = torch_reference.logits(torch_reference.add_adapter(model, lora, strong), tokens)
        return cls(*(torch.log_softmax(torch.tensor(one), -1).numpy() for one in (base, tuned)))


def check(found: list[TokenChange], wanted: Reference, tokens: Sequence[int], first: int, top: int) -> None:
    assert [one.position for one in found] == list(range(first, len(tokens)))
    for one in found:
        assert one.token_id == tokens[one.position]
        base, tuned = wanted.base[one.position - 1], wanted.tuned[one.position - 1]
        assert abs(one.base - base[one.token_id]) < LOG_TOLERANCE, "the base's probability is another"
        assert abs(one.tuned - tuned[one.token_id]) < LOG_TOLERANCE, "the adapter's probability is another"
        for told, order in ((one.base_top, base), (one.tuned_top, tuned)):
            best = np.sort(order)[::-1][:top]
            assert np.abs(order[[other.token_id for other in told]] - best).max() < LOG_TOLERANCE
            assert len({other.token_id for other in told}) == top
            for other in told:
                assert abs(other.base - base[other.token_id]) < LOG_TOLERANCE
                assert abs(other.tuned - tuned[other.token_id]) < LOG_TOLERANCE


@pytest.mark.parametrize("family", ["llama", *FAMILIES])
def test_probabilities_are_transformers_and_pefts(device: Device, tmp_path: Path, tiny: Tiny, family: str) -> None:
    if family != "llama":
        folder = write_tiny_family(tmp_path / family, family)
        tiny = Tiny(load(device, folder), folder)
    lora = LoraConfig(rank=5, alpha=10, targets=tiny.model.config.linear_names)
    tensors, tokens = random_tensors(tiny.model, lora, b_std=0.2), tokens_for(tiny, 150)
    wanted = Reference.of(tiny.folder, lora, tensors, tokens, 0.75)
    with adapter_with(tiny.model, lora, tensors) as adapter:
        found = changes(tiny.model, adapter, tokens, strength=0.75, top=4)
        check(found, wanted, tokens, 1, 4)
        assert max(abs(one.log_ratio) for one in found) > 1000 * LOG_TOLERANCE
        check(changes(tiny.model, adapter, tokens, strength=0.75, first=131, top=1), wanted, tokens, 131, 1)
        # The controls: another strength, and the text moved on by a token.
        with pytest.raises(AssertionError, match="the adapter's probability"):
            check(changes(tiny.model, adapter, tokens, strength=0.74, top=4), wanted, tokens, 1, 4)
        moved = Reference(np.roll(wanted.base, 1, 0), np.roll(wanted.tuned, 1, 0))
        with pytest.raises(AssertionError, match="the base's probability"):
            check(found, moved, tokens, 1, 4)
    if family != "llama":
        tiny.model.release()


def test_without_an_adapter_nothing_has_changed(tiny: Tiny) -> None:
    tokens = tokens_for(tiny, 20)
    assert all(one.log_ratio == 0 and one.base_top == one.tuned_top for one in changes(tiny.model, None, tokens))
    assert all(one.base_top == () for one in changes(tiny.model, None, tokens, top=0))


def test_several_adapters_are_the_sum_of_theirs(tiny: Tiny) -> None:
    """One made of two on the GPU, against a base whose weights have both deltas added in float64."""
    config, tokens = tiny.model.config, tokens_for(tiny, 40)
    parts = [
        WeightedAdapter("one", lora, random_tensors(tiny.model, lora, seed, b_std=0.2), strength)
        for seed, (lora, strength) in enumerate([
            (LoraConfig(3, 6, ("q_proj", "v_proj", "down_proj")), 0.5),
            (LoraConfig(8, 4, ("v_proj", "gate_proj", "up_proj"), use_rslora=True), 1.5),
        ])
    ]  # fmt: skip
    model = torch_reference.load_base(tiny.folder)
    base = torch_reference.logits(model, tokens)
    with torch.no_grad():
        for part in parts:
            for key in part.tensors:
                if ".lora_A." in key:
                    a, b = (part.tensors[key.replace("lora_A", half)].astype(np.float64)
                            for half in ("lora_A", "lora_B"))  # fmt: skip
                    path = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
                    delta = torch.tensor(part.strength * part.lora.scale * b @ a)
                    model.get_submodule(path).weight += delta
    tuned = torch_reference.logits(model, tokens)
    wanted = Reference(*(torch.log_softmax(torch.tensor(one), -1).numpy() for one in (base, tuned)))
    with adapter_with(tiny.model, *mix(parts, config)) as adapter:
        check(changes(tiny.model, adapter, tokens, top=3), wanted, tokens, 1, 3)
    with (
        adapter_with(tiny.model, *mix(parts[:1], config)) as one_alone,
        pytest.raises(AssertionError, match="the adapter's probability"),
    ):
        check(changes(tiny.model, one_alone, tokens, top=3), wanted, tokens, 1, 3)


def test_logits_exist_a_few_rows_at_a_time(tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the chunks, the numbers are the same; and a longer text takes no more memory for logits."""
    model = tiny_models["odd"].model
    tokens = [5 * i % model.config.vocab_size for i in range(500)]
    whole = changes(model, None, tokens)
    monkeypatch.setattr(text_pass, "CHUNK_BYTES", 40 * 4 * model.config.vocab_size)
    create, sizes = model.device.create_buffer, []

    def counted(size_bytes: int, label: str, **how):
        if label == "logits":
            sizes.append(size_bytes)
        return create(size_bytes, label, **how)

    monkeypatch.setattr(model.device, "create_buffer", counted)
    assert changes(model, None, tokens) == whole
    assert sizes == [32 * 4 * model.config.vocab_size] * 2  # 32: whole sixteens of 40


@pytest.mark.parametrize(
    ("length", "how", "words"),
    [(1, {}, "1 tokens and is looked at from number 1"), (5, {"first": 5}, "5 tokens and is looked at from number 5"),
     (5, {"first": 0}, "from number 0 on"), (5, {"top": 10**6}, "1000000 alternatives"),
     (3000, {}, "3000 tokens; .* takes 1 to 2048")],
)  # fmt: skip
def test_what_cannot_be_looked_at_is_said(tiny: Tiny, length: int, how: dict, words: str) -> None:
    before = tiny.model.device.num_buffers
    with pytest.raises(LoraLabError, match=words):
        changes(tiny.model, None, [5] * length, **how)
    assert tiny.model.device.num_buffers == before


def test_giving_up_in_the_middle_leaves_nothing_behind(tiny: Tiny) -> None:
    device = tiny.model.device
    before = device.num_buffers, device.memory_in_use_bytes

    async def look() -> None:
        looking = token_changes(tiny.model, None, tokens_for(tiny, 30))
        await anext(looking)
        await looking.aclose()

    run(look())
    assert (device.num_buffers, device.memory_in_use_bytes) == before
