"""SmolLM2-135M-Instruct itself, natively, against transformers and PEFT on the same GGUF file.

transformers' GGUF route reads the weights right but drops the tokenizer's digit splitting, so tokens are always ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lora_lab.config import LoraConfig, SamplingConfig, TrainConfig
from lora_lab.data.tokens import batches
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import Tokenizer, load_tokenizer
from lora_lab.generate import ChatEngine, logits
from lora_lab.gpu import open_device
from lora_lab.model import Model
from tests import torch_reference
from tests.close import assert_all_close, assert_close
from tests.engine_runs import adapter_with, gradients, load, random_tensors, run, trainer_for

LOGITS_TOLERANCE = 1e-3
# Through 30 layers float32 leaves 2e-5, in PyTorch as here; transformers runs in float32 too, being much faster so.
GRADIENT_TOLERANCE = 2e-4
TEXT = "The capital of France is Paris. The capital of Germany is"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def model(smollm2_path: Path) -> Iterator[Model]:
    device = run(open_device())
    model = load(device, smollm2_path)
    yield model
    model.release()
    assert device.num_buffers == 0
    run(device.close())


@pytest.fixture(scope="module")
def tokenizer(model: Model) -> Tokenizer:
    return load_tokenizer(model.files.tokenizer)


@pytest.fixture(scope="module")
def transformers_model(smollm2_path: Path) -> Iterator[Any]:
    torch.set_num_threads(2)
    yield torch_reference.load_base(smollm2_path, torch.float32)
    torch.set_num_threads(1)


def test_the_model_is_the_one_we_think(model: Model) -> None:
    config = model.config
    assert (config.num_layers, config.hidden_size, config.vocab_size) == (30, 576, 49152)
    assert (config.num_heads, config.num_kv_heads, config.head_dim) == (9, 3, 64)
    assert model.embedding.form == "q4_1" or model.embedding.form == "q8_0"
    assert {weight.form for block in model.blocks for weight in block.linears.values()} == {"q4_1"}
    assert model.lm_head is model.embedding


def test_logits_are_transformers(model: Model, tokenizer: Tokenizer, transformers_model: Any) -> None:
    tokens = tokenizer.encode(TEXT)
    found = run(logits(model, None, tokens))
    wanted = torch_reference.logits(transformers_model, tokens)
    assert_close(found, wanted, LOGITS_TOLERANCE, "logits")
    assert np.array_equal(found.argmax(axis=1), wanted.argmax(axis=1))


def test_sixteen_greedy_tokens_are_transformers(model: Model, tokenizer: Tokenizer, transformers_model: Any) -> None:
    template = ChatTemplate(model.files.tokenizer.chat_template, model.files.tokenizer.special_tokens)
    chat = ChatEngine(model, tokenizer, template, context_length=128)
    prompt = tokenizer.encode(template.render(QUESTION, add_generation_prompt=True))

    async def reply() -> tuple[list[int], str]:
        sampling = SamplingConfig(max_new_tokens=16, temperature=0.0)
        pieces = [piece async for piece in chat.complete(prompt, sampling)]
        return [piece.token_id for piece in pieces], "".join(piece.text for piece in pieces)

    found, text = run(reply())
    reason = chat.last_stats.finish_reason if chat.last_stats else ""
    chat.close()
    wanted = transformers_model.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=16, do_sample=False,
        eos_token_id=list(model.config.eos_token_ids), pad_token_id=0,
    )[0, len(prompt) :].tolist()  # fmt: skip
    if reason == "stop":  # the end-of-turn token itself is not part of a reply
        assert wanted[-1] in model.config.eos_token_ids
        wanted = wanted[:-1]
    assert found[: len(wanted)] == wanted
    assert "Paris" in text


def test_one_steps_gradients_are_pefts(model: Model, tokenizer: Tokenizer, transformers_model: Any) -> None:
    """All 420 matrices, through all 30 layers, from a short conversation with B not zero."""
    tokens = np.array(tokenizer.encode("Who keeps the lighthouse of Bryn Aber? Ada Penhallow has kept it."), np.int32)
    trained = np.arange(len(tokens)) >= 9
    example = batches.Example(tokens, trained)
    config = LoraConfig(rank=4, alpha=8)
    tensors = random_tensors(model, config, b_std=0.02)
    with (
        adapter_with(model, config, tensors) as adapter,
        trainer_for(model, adapter, [example], TrainConfig(steps=1, batch=1, accumulate=1)) as trainer,
    ):
        loss, found = gradients(trainer, [[0]])
    peft = torch_reference.add_adapter(transformers_model, config, tensors)
    wanted_loss, wanted = torch_reference.loss_and_gradients(peft, [example])
    peft.unload()
    assert len(wanted) == 2 * 7 * 30
    assert loss == pytest.approx(wanted_loss, rel=1e-5)
    assert_all_close(found, wanted, GRADIENT_TOLERANCE)
