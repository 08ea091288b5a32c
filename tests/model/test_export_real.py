"""SmolLM2 and Gemma 3 270M themselves: exports run by llama.cpp and by transformers as the engine runs the adapter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lora_lab.config import SamplingConfig
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import load_tokenizer
from lora_lab.export.ollama import find_parts
from lora_lab.generate import ChatEngine
from lora_lab.gpu import open_device
from tests import torch_reference
from tests.close import assert_close
from tests.engine_runs import load, run
from tests.export_cases import adapter_for, export, open_path
from tests.llama_cpp import Job, complete

COUNT = 32
GREEDY = SamplingConfig(max_new_tokens=COUNT, temperature=0.0)
TEXT = "The capital of France is"
# f16 rounds a weight by up to 2^-12 of itself, which a trained model of 30 layers feels less than a random one.
F32_TOLERANCE, F16_TOLERANCE = 1e-5, 1e-3


def engine_tokens(path: Path, prompt: list[int], lora: object, tensors: dict) -> tuple[list[int], list[int]]:
    """Greedy tokens of the base and with the adapter on."""

    async def reply(chat: ChatEngine) -> list[int]:
        found = [piece.token_id async for piece in chat.complete(prompt, GREEDY, 1.0) if piece.token_id >= 0]
        return found[:COUNT]

    async def both() -> tuple[list[int], list[int]]:
        chat = ChatEngine(model, tokenizer, template, context_length=128)
        await chat.prepare()
        base = await reply(chat)
        await chat.set_adapter(lora, tensors)  # type: ignore[arg-type]
        tuned = await reply(chat)
        chat.close()
        return base, tuned

    device = run(open_device())
    model = load(device, path)
    tokenizer = load_tokenizer(model.files.tokenizer)
    template = ChatTemplate("{{ messages }}")  # nothing is rendered here
    found = run(both())
    model.release()
    run(device.close())
    return found


@pytest.mark.parametrize("name", ["smollm2_path", "gemma_path"])
def test_llama_cpp_answers_as_the_engine(
    request: pytest.FixtureRequest, tmp_path: Path, node_modules: Path, name: str
) -> None:
    """By the adapter's GGUF on the base as it is: the same numbers, so that nothing but the adapter is in question."""
    path = request.getfixturevalue(name)
    base = open_path(path)
    lora, tensors = adapter_for(base.config, b_std=0.02)
    prompt = load_tokenizer(base.files.tokenizer).encode(TEXT)
    export(base, lora, tensors, "gguf", "f32", tmp_path, file_name="merged.gguf")
    engine_base, engine_adapter = engine_tokens(path, prompt, lora, tensors)
    (merged,) = complete(node_modules, [Job(tmp_path / "merged.gguf", prompt, count=len(engine_adapter))])
    assert merged == engine_adapter
    assert merged != engine_base


def test_transformers_computes_what_the_adapter_did(smollm2_path: Path, tmp_path: Path) -> None:
    """From the Q4_1 GGUF to a folder; transformers opens the same GGUF as the base of PEFT's adapter."""
    base = open_path(smollm2_path)
    lora, tensors = adapter_for(base.config, b_std=0.02)
    tokens = load_tokenizer(base.files.tokenizer).encode(TEXT + " Paris, which lies on the river Seine.")
    peft = torch_reference.add_adapter(torch_reference.load_base(smollm2_path), lora, tensors)
    wanted = torch_reference.logits(peft, tokens)
    for form, tolerance in (("f32", F32_TOLERANCE), ("f16", F16_TOLERANCE)):
        export(base, lora, tensors, "merged", form, tmp_path / form)
        found = torch_reference.logits(torch_reference.load_base(tmp_path / form, torch.float64), tokens)
        assert_close(found, wanted, tolerance)
    plain = torch_reference.logits(torch_reference.load_base(smollm2_path), tokens)
    assert np.linalg.norm(plain - wanted) > 0.05 * np.linalg.norm(wanted)  # the control


def test_smollm2s_template_is_said_to_ollama(smollm2_path: Path) -> None:
    tokenizer = open_path(smollm2_path).files.tokenizer
    parts = find_parts(ChatTemplate(tokenizer.chat_template or "", tokenizer.special_tokens), None)
    assert parts.user == ("<|im_start|>user\n", "<|im_end|>\n")
    assert "SmolLM" in parts.head
