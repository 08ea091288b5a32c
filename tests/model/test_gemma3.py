"""Gemma 3 270M, the real Q4_K_M file, natively, against transformers and PEFT on the same file.

It mixes four quantised forms, has windows, two rotary embeddings, and a table of 262,144 tokens that is larger than one
binding of a software device. A base model: no chat template.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lora_lab.config import LoraConfig, SamplingConfig, TrainConfig
from lora_lab.data import DataSource, encode_table, read_table
from lora_lab.data.tokens.batches import Example
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import Tokenizer, load_tokenizer
from lora_lab.generate import ChatEngine, logits
from lora_lab.gpu import open_device
from lora_lab.model import Adapter, Model
from tests import torch_reference
from tests.close import assert_all_close, assert_close
from tests.engine_runs import (
    adapter_with,
    events,
    gradients,
    load,
    losses,
    random_tensors,
    run,
    trainer_for,
)

LOGITS_TOLERANCE = 1e-3
GRADIENT_TOLERANCE = 2e-4  # as for SmolLM2: what float32 leaves through all layers, in PyTorch as here
TEXT = "The capital of France is"
WRITTEN = " the capital of the country of France. It is the largest city in France and"


@pytest.fixture(scope="module")
def model(gemma_path: Path) -> Iterator[Model]:
    device = run(open_device())
    model = load(device, gemma_path)
    yield model
    model.release()
    assert device.num_buffers == 0
    run(device.close())


@pytest.fixture(scope="module")
def tokenizer(model: Model) -> Tokenizer:
    return load_tokenizer(model.files.tokenizer)


@pytest.fixture(scope="module")
def transformers_model(gemma_path: Path) -> Iterator[Any]:
    torch.set_num_threads(2)
    yield torch_reference.load_base(gemma_path, torch.float32)
    torch.set_num_threads(1)


def test_the_model_is_the_one_we_think(model: Model) -> None:
    config = model.config
    assert (config.architecture, config.num_layers, config.hidden_size) == ("gemma3", 18, 640)
    assert [layer.window for layer in config.layers[:6]] == [512] * 5 + [None]
    forms = {piece.form for block in model.blocks for weight in block.linears.values() for piece in weight.pieces}
    assert forms == {"q5_0", "q4_k", "q6_k", "q8_0"} - ({"q8_0"} - forms)
    assert model.lm_head is model.embedding
    in_file = sum(tensor.size_bytes for tensor in model.files.tensors.values())
    assert model.weights_bytes <= 1.05 * in_file


def test_logits_are_transformers(model: Model, tokenizer: Tokenizer, transformers_model: Any) -> None:
    tokens = tokenizer.encode(TEXT + WRITTEN, add_special_tokens=True)
    found, wanted = run(logits(model, None, tokens)), torch_reference.logits(transformers_model, tokens)
    assert_close(found, wanted, LOGITS_TOLERANCE, "logits")
    assert np.array_equal(found.argmax(axis=1), wanted.argmax(axis=1))


def test_sixteen_greedy_tokens_are_transformers(model: Model, tokenizer: Tokenizer, transformers_model: Any) -> None:
    chat = ChatEngine(model, tokenizer, ChatTemplate("{{ messages[0].content }}"), context_length=64)
    prompt = tokenizer.encode(TEXT, add_special_tokens=True)

    async def reply() -> tuple[list[int], str]:
        sampling = SamplingConfig(max_new_tokens=16, temperature=0.0)
        pieces = [piece async for piece in chat.complete(prompt, sampling)]
        return [piece.token_id for piece in pieces if piece.token_id >= 0], "".join(piece.text for piece in pieces)

    found, text = run(reply())
    chat.close()
    wanted = transformers_model.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=16, do_sample=False,
        pad_token_id=0,
    )[0, len(prompt) :].tolist()  # fmt: skip
    assert found[:16] == wanted
    assert text == WRITTEN


def test_one_steps_gradients_are_pefts(model: Model, tokenizer: Tokenizer, transformers_model: Any) -> None:
    tokens = np.array(tokenizer.encode("Who keeps the lighthouse of Bryn Aber? Ada Penhallow has kept it."), np.int32)
    example = Example(tokens, np.arange(len(tokens)) >= 9)
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
    assert len(wanted) == 2 * 7 * 18
    assert loss == pytest.approx(wanted_loss, rel=1e-5)
    assert_all_close(found, wanted, GRADIENT_TOLERANCE)


def test_twenty_steps_on_the_sample_data(model: Model, tokenizer: Tokenizer) -> None:
    """The rows with the least to learn, so that a software device needs seconds for a step; it learns them."""
    template = ChatTemplate(
        "{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content }}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>assistant\n{% endif %}"
    )
    source = DataSource.from_path(Path(__file__).parents[2] / "app/samples/lighthouse.jsonl")
    dataset = run(encode_table(run(read_table([source])), tokenizer, template, 48))
    examples = sorted(dataset.examples, key=lambda example: int(example.trained.sum()))[:2]
    config = TrainConfig(steps=20, batch=1, accumulate=1, learning_rate=1e-3, warmup_steps=2)
    adapter = Adapter.create(model.device, model.config, LoraConfig(rank=4, alpha=8), seed=0)
    with trainer_for(model, adapter, examples, config) as trainer:
        found = losses(events(trainer))
    adapter.release()
    assert len(found) == 20
    assert np.isfinite(found).all()
    assert np.mean(found[-4:]) < 0.5 * np.mean(found[:4])
