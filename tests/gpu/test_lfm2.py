"""What no other family has: layers of two kinds, and a cache that can go back only so far.

What every family is asked for is in test_families.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from lora_lab.config import LoraConfig, TrainConfig
from lora_lab.errors import AdapterError
from lora_lab.generate import ChatEngine, logits
from lora_lab.generate.kv_cache import GO_BACK
from lora_lab.generate.tokens import MOST_AT_ONCE
from lora_lab.gpu import Device
from lora_lab.gpu.device import pipeline_keys
from lora_lab.model import Adapter
from lora_lab.model.decode import can_decode
from lora_lab.train import Trainer
from tests import torch_reference
from tests.close import assert_close
from tests.engine_runs import (
    adapter_with,
    gradients,
    load,
    random_examples,
    random_tensors,
    run,
    trainer_for,
)
from tests.gpu.conftest import Tiny
from tests.gpu.test_op_short_conv import CACHE_FAULTS, planted
from tests.gpu.test_tiny_chat import (
    GREEDY,
    ahead,  # noqa: F401  (a fixture)
    chat_with,
    complete,
    complete_without_a_cache,
    prompt_of,
)
from tests.gpu.test_tiny_llama import TOLERANCE, compare_gradients, tokens_for
from tests.tiny_families import write_tiny_family


@pytest.fixture(scope="module")
def lfm2(device: Device, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    folder = write_tiny_family(tmp_path_factory.mktemp("lfm2") / "lfm2", "lfm2")
    tiny = Tiny(load(device, folder), folder)
    yield tiny
    tiny.model.release()


# --- layers of two kinds ---


def test_its_layers_differ_and_its_names_are_those_of_all(lfm2: Tiny) -> None:
    config = lfm2.model.config
    assert config.linear_names == ("in_proj", "q_proj", "k_proj", "v_proj", "out_proj", "w1", "w3", "w2")
    assert config.names_in(0) == ("in_proj", "out_proj", "w1", "w3", "w2")
    assert config.names_in(2) == ("q_proj", "k_proj", "v_proj", "out_proj", "w1", "w3", "w2")
    assert config.module_path(0, "out_proj") == "model.layers.0.conv.out_proj"
    assert config.module_path(2, "out_proj") == "model.layers.2.self_attn.out_proj"
    assert config.intermediate_size == 96


@pytest.mark.parametrize("targets", [("in_proj",), ("q_proj", "v_proj"), ("out_proj", "w3")], ids=",".join)
@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
def test_gradients_of_layers_that_only_some_blocks_have(
    each_device: Device, lfm2: Tiny, targets: tuple[str, ...], packing: bool
) -> None:
    lora = LoraConfig(rank=4, alpha=8, targets=targets)
    compare_gradients(lfm2, lora, batch=4, accumulate=1, packing=packing)


def test_names_of_other_families_are_refused(device: Device, lfm2: Tiny) -> None:
    with pytest.raises(AdapterError, match="o_proj"):
        Adapter(device, lfm2.model.config, LoraConfig(targets=("o_proj",)))


def test_gradients_of_recomputed_layers_are_the_same_bits(each_device: Device, lfm2: Tiny) -> None:
    model, lora = lfm2.model, LoraConfig(rank=4, alpha=8, targets=lfm2.model.config.linear_names)
    examples = random_examples((20, 33, 70), model.config.vocab_size)

    def bits(recompute: bool) -> dict[str, bytes]:
        config = TrainConfig(steps=3, batch=3, accumulate=1, recompute=recompute)
        with (
            adapter_with(model, lora, random_tensors(model, lora)) as adapter,
            trainer_for(model, adapter, examples, config) as trainer,
        ):
            found = gradients(trainer, [[0, 1, 2], [0]])[1]
            assert trainer.memory.recomputed_layers == (model.config.num_layers if recompute else 0)
        return {name: value.tobytes() for name, value in found.items()}

    assert bits(True) == bits(False)


@pytest.mark.parametrize("targets", [("in_proj", "out_proj", "w2"), ("q_proj",)], ids=",".join)
@pytest.mark.parametrize("grad_enabled", [True, False])
def test_few_layers_need_what_all_layers_need(
    each_device: Device, lfm2: Tiny, grad_enabled: bool, targets: tuple[str, ...]
) -> None:
    """Kernels are compiled ahead for some layers of each kind."""
    model = lfm2.model
    adapter = Adapter(each_device, model.config, LoraConfig(rank=4, alpha=8, targets=targets), planned=True)
    rows = random_examples((20, 33), model.config.vocab_size)
    trainer = Trainer(model, adapter, rows, TrainConfig(steps=2, batch=2))
    shape = (2, 33)
    few = trainer.plans.shape_keys(shape, grad_enabled)
    assert set(few) == set(pipeline_keys(trainer.plans.trace_batch(shape, grad_enabled)))


@pytest.mark.parametrize("taps", [1, 4])
def test_filters_of_other_lengths(device: Device, tmp_path, taps: int) -> None:
    folder = write_tiny_family(tmp_path / "lfm2", "lfm2", conv_L_cache=taps)
    tiny = Tiny(load(device, folder), folder)
    tokens = tokens_for(tiny, 40)
    wanted = torch_reference.logits(torch_reference.load_base(folder), tokens)
    assert_close(run(logits(tiny.model, None, tokens)), wanted, TOLERANCE)
    with chat_with(tiny.model) as chat:
        assert complete(chat, tokens, GREEDY) == complete_without_a_cache(tiny.model, None, tokens, GREEDY)
    tiny.model.release()


# --- the cache ---


def test_it_goes_through_the_general_way(device: Device, lfm2: Tiny) -> None:
    assert not can_decode(device, lfm2.model, None)


def test_a_convolution_keeps_its_last_inputs_only(device: Device, lfm2: Tiny) -> None:
    before = device.num_buffers, device.memory_in_use_bytes
    with chat_with(lfm2.model) as chat:
        hidden, cache = lfm2.model.config.hidden_size, chat.plans.cache
        assert GO_BACK > 3 * MOST_AT_ONCE  # tokens of one readback that are not heard of, and of two in flight
        assert cache.convolved(0).shape == (GO_BACK + 2, hidden)
        assert cache.layer(2)[0].shape == (cache.length, lfm2.model.config.kv_size)
    assert (device.num_buffers, device.memory_in_use_bytes) == before


@pytest.mark.usefixtures("ahead")
def test_several_turns_are_those_without_a_cache(each_device: Device, lfm2: Tiny) -> None:
    """On from the end, back to the middle of a reply and on with other words, the same again, and back too far."""
    model, prompt = lfm2.model, prompt_of(100 + GO_BACK, lfm2.model)

    def cached(chat: ChatEngine) -> int:
        assert chat.last_stats is not None
        return chat.last_stats.cached_tokens

    with chat_with(model) as chat:
        first = complete(chat, prompt, GREEDY)
        assert cached(chat) == 0
        longer = [*prompt, *first, *prompt_of(9, model)]
        second = complete(chat, longer, GREEDY)
        assert cached(chat) == len(prompt) + len(first) - 1
        other = [*longer, *second[:3], *prompt_of(20, model)]
        third = complete(chat, other, GREEDY)
        assert cached(chat) == len(longer) + 3
        assert complete(chat, other, GREEDY) == third
        assert cached(chat) == len(other) - 1
        far = [*prompt[:90], *prompt_of(5, model)]
        fourth = complete(chat, far, GREEDY)
        assert cached(chat) == 0
        assert complete(chat, prompt, GREEDY) == first
    for text, found in ((prompt, first), (longer, second), (other, third), (far, fourth)):
        assert found == complete_without_a_cache(model, None, text, GREEDY)


def test_a_stop_in_the_middle_of_what_was_drawn_ahead(
    device: Device, lfm2: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The convolutions have gone on; the next turn finds their inputs as they were at the stop."""
    monkeypatch.setattr("lora_lab.generate.tokens.AHEAD_BELOW_S", 1e9)
    monkeypatch.setattr("lora_lab.generate.tokens.READ_EVERY_S", 1e9)
    model, prompt, long = lfm2.model, prompt_of(90, lfm2.model), replace(GREEDY, max_new_tokens=60)
    lora = LoraConfig(rank=4, alpha=8, targets=model.config.linear_names)
    tensors = random_tensors(model, lora, b_std=0.3)

    async def few(chat: ChatEngine, count: int) -> list[int]:
        found: list[int] = []
        async for piece in chat.complete(prompt, long):
            found.append(piece.token_id)
            if len(found) == count:
                chat.stop()
        return found

    with chat_with(model) as chat, adapter_with(model, lora, tensors) as adapter:
        run(chat.set_adapter(lora, tensors))
        whole = complete(chat, prompt, long)
        for count in (1, 9, 20):
            assert run(few(chat, count)) == whole[:count]
            following = [*prompt, *whole[:count], 5, 6]
            found = complete(chat, following, GREEDY)
            assert chat.last_stats is not None and chat.last_stats.cached_tokens == len(prompt) + count - 1
            assert found == complete_without_a_cache(model, adapter, following, GREEDY)
            chat.plans.cache.clear()


# --- controls ---


def test_a_convolution_that_looks_ahead_shows(device: Device, lfm2: Tiny) -> None:
    tokens = tokens_for(lfm2, 40)
    wanted = torch_reference.logits(torch_reference.load_base(lfm2.folder), tokens)
    assert_close(run(logits(lfm2.model, None, tokens)), wanted, TOLERANCE)
    with (
        planted("u(t - s, c)", "u(min(t + s, params.rows - 1u), c)"),
        pytest.raises(AssertionError, match="relative error"),
    ):
        assert_close(run(logits(lfm2.model, None, tokens)), wanted, TOLERANCE)


@pytest.mark.parametrize("fault", CACHE_FAULTS)
def test_a_fault_of_the_cache_shows(device: Device, lfm2: Tiny, fault: str) -> None:
    """Of a padded part of a prompt too, once a text goes back to before it."""
    model, prompt = lfm2.model, prompt_of(GO_BACK + 20, lfm2.model)
    shorter = [*prompt[:100], *prompt_of(2, model)]
    wanted = complete_without_a_cache(model, None, shorter, GREEDY)

    def after_the_longer(chat: ChatEngine) -> list[int]:
        complete(chat, prompt, GREEDY)
        found = complete(chat, shorter, GREEDY)
        assert chat.last_stats is not None and chat.last_stats.cached_tokens == 100
        return found

    with chat_with(model) as chat:
        assert after_the_longer(chat) == wanted
    with planted(*CACHE_FAULTS[fault]), chat_with(model) as chat:
        assert after_the_longer(chat) != wanted


def test_going_back_too_far_shows(device: Device, lfm2: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that kept what it no longer has would give another reply."""
    model, prompt = lfm2.model, prompt_of(86 + GO_BACK, lfm2.model)
    far = [*prompt[:80], *prompt_of(2, model)]
    wanted = complete_without_a_cache(model, None, far, GREEDY)
    monkeypatch.setattr("lora_lab.generate.kv_cache.KvCache.will_hold", lambda cache, rows: None)
    with chat_with(model) as chat:
        complete(chat, prompt, GREEDY)
        found = complete(chat, far, GREEDY)
        assert chat.last_stats is not None and chat.last_stats.cached_tokens == 80
    assert found != wanted


def test_forgotten_norms_of_the_heads_show(device: Device, lfm2: Tiny) -> None:
    blocks = list(lfm2.model.blocks)
    ones = device.upload(np.ones(lfm2.model.config.head_dim, np.float32), "ones")
    vectors = {**blocks[2].vectors, "self_attn.q_layernorm.weight": ones}
    blocks[2] = replace(blocks[2], vectors=vectors)
    tokens = tokens_for(lfm2, 40)
    wanted = torch_reference.logits(torch_reference.load_base(lfm2.folder), tokens)
    with pytest.raises(AssertionError, match="relative error"):
        assert_close(run(logits(replace(lfm2.model, blocks=blocks), None, tokens)), wanted, TOLERANCE)
    ones.buffer.destroy()
