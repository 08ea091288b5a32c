"""Random models: the forms of their tensors are those of published files, and their bytes are the same each time."""

from __future__ import annotations

import asyncio
from collections import Counter

import numpy as np

from bench.mixtures import form_of
from bench.shapes import SHAPES
from bench.synthetic import TINY, published_shape, random_model
from lora_lab.formats.tensors import dequantize


def forms_of(config: object, mixture: str) -> Counter[str]:
    return Counter(tensor.form for tensor in random_model(config, mixture).tensors.values() if len(tensor.shape) == 2)  # type: ignore[arg-type]


def test_the_mixture_is_that_of_the_published_gemma_3_270m_file() -> None:
    """Its counts stand in shared/MODELS.md: Q5_0 81, Q4_K 27, Q8_0 10, Q6_K 9."""
    shape = {"hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 18, "vocab_size": 1024}
    SHAPES["270m"] = {**SHAPES["gemma-3-1b"], **shape}
    try:
        assert forms_of(published_shape("270m"), "q4_k_m") == {"q5_0": 81, "q4_k": 27, "q8_0": 10, "q6_k": 9}
    finally:
        del SHAPES["270m"]


def test_one_form_for_all_and_where_rows_do_not_fit() -> None:
    assert form_of("q8_0", "model.embed_tokens.weight", 576, 30, embedding=True) == "q8_0"
    assert form_of("q4_1", "model.embed_tokens.weight", 576, 30, embedding=True) == "q8_0"
    assert form_of("q4_k", "model.embed_tokens.weight", 1024, 30, embedding=True) == "q6_k"
    assert form_of("q4_k", "model.layers.0.self_attn.v_proj.weight", 1024, 30) == "q4_k"
    assert form_of("q4_k_m", "model.layers.0.self_attn.v_proj.weight", 1024, 30) == "q6_k"
    assert form_of("q4_k", "model.layers.0.self_attn.v_proj.weight", 1152, 30) == "q5_0"
    assert form_of("bf16", "model.layers.0.self_attn.v_proj.weight", 123, 30) == "bf16"


def test_the_bytes_do_not_depend_on_how_they_are_read() -> None:
    for form in ("q4_1", "bf16", "f32"):
        tensor = random_model(TINY, form).tensors["model.layers.1.mlp.gate_proj.weight"]
        tensor.source.CHUNK_ROWS = 50  # type: ignore[attr-defined] # several, and the last one shorter

        async def read(tensor=tensor) -> tuple[bytes, bytes]:
            whole = bytes(await tensor.source.read(0, tensor.size_bytes))
            parts = [
                await tensor.source.read(at, min(1000, tensor.size_bytes - at)) for at in range(0, len(whole), 1000)
            ]
            return whole, b"".join(bytes(part) for part in parts)

        whole, joined = asyncio.run(read())
        assert whole == joined
        values = dequantize(form, np.frombuffer(whole, np.uint8), tensor.shape)
        assert np.isfinite(values).all() and 0.005 < values.std() < 0.04
        other = random_model(TINY, form, seed=1).tensors[tensor.name]
        assert bytes(asyncio.run(other.source.read(0, 100))) != whole[:100], "the control"
