"""RoPE's scalings as config.json says them, against the angles that transformers makes of the same file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, Phi3Config
from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding

from lora_lab.formats.rope_scaling import read_hf_rope, read_hf_rotary_dim
from lora_lab.ops.rope import rope_table

HEAD_DIM, ORIGINAL, LONGER = 32, 64, 256
FACTORS = {"short_factor": [1 + 0.02 * i for i in range(16)], "long_factor": [1 + 0.4 * i for i in range(16)]}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "original_max_position_embeddings": ORIGINAL}
CASES: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default", "rope_theta": 1e6},
    "linear": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
    "yarn": {**YARN, "factor": 4.0},
    "yarn, not rounded": {**YARN, "factor": 4.0, "truncate": False},
    "yarn, its own betas": {**YARN, "factor": 4.0, "beta_fast": 8.0, "beta_slow": 2.0},
    "yarn, its own magnitude": {**YARN, "factor": 4.0, "attention_factor": 1.3},
    "yarn, DeepSeek's magnitude": {**YARN, "factor": 4.0, "mscale": 1.0, "mscale_all_dim": 0.7},
    "longrope": {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": ORIGINAL, **FACTORS},
    "longrope, its own factor": {
        "rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": ORIGINAL, "factor": 8.0,
        **FACTORS,
    },
}  # fmt: skip


def angles_of(parameters: dict[str, Any], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return transformers' cosines and sines (length, D / 2)."""
    is_longrope = parameters["rope_type"] == "longrope"
    kind, more = (Phi3Config, {"original_max_position_embeddings": ORIGINAL}) if is_longrope else (LlamaConfig, {})
    config = kind(
        hidden_size=2 * HEAD_DIM, num_attention_heads=2, head_dim=HEAD_DIM, max_position_embeddings=LONGER,
        rope_parameters=dict(parameters), **more,
    )  # fmt: skip
    cos, sin = Phi3RotaryEmbedding(config)(torch.zeros(1, 1, 1), torch.arange(length)[None])
    half = cos.shape[-1] // 2
    return cos[0, :, :half].numpy(), sin[0, :, :half].numpy()


@pytest.mark.parametrize("length", [ORIGINAL, LONGER])
@pytest.mark.parametrize("name", CASES)
def test_angles_are_transformers(name: str, length: int) -> None:
    theta, scaling, problems = read_hf_rope({"rope_parameters": CASES[name]}, LONGER)
    assert not problems
    table = rope_table(HEAD_DIM, theta, scaling, length)
    for found, wanted in zip((table[..., 0], table[..., 1]), angles_of(CASES[name], length), strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-5)  # theirs come from float32


def test_the_wrong_list_of_factors_would_show() -> None:
    """The control."""
    _, scaling, _ = read_hf_rope({"rope_parameters": CASES["longrope"]}, LONGER)
    assert scaling is not None
    swapped = {**scaling, "long_factor": scaling["short_factor"]}
    wrong = rope_table(HEAD_DIM, 1e4, swapped, LONGER)
    assert np.abs(wrong[..., 0] - angles_of(CASES["longrope"], LONGER)[0]).max() > 0.1


def test_as_transformers_4_wrote_it() -> None:
    """Phi-3's first files say su, and the original length beside the scaling."""
    old = {"rope_theta": 1e4, "original_max_position_embeddings": ORIGINAL, "rope_scaling": {"type": "su", **FACTORS}}
    assert read_hf_rope(old, LONGER) == read_hf_rope({"rope_parameters": CASES["longrope"]}, LONGER)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"short_factor": None}, "short_factor is None; wanted a list of positive numbers"),
        ({"long_factor": [1.0, -1.0]}, "long_factor is [1.0, -1.0]; wanted a list of positive numbers"),
        ({"original_max_position_embeddings": "64"}, "original_max_position_embeddings is '64'; wanted a positive"),
        ({"factor": 0}, "attention_factor is None; wanted a positive number"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_named(changes: dict[str, Any], message: str) -> None:
    _, scaling, problems = read_hf_rope({"rope_parameters": {**CASES["longrope"], **changes}}, LONGER)
    assert scaling is None
    assert any(message in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("config", "size"),
    [({}, None), ({"partial_rotary_factor": 1.0}, None), ({"partial_rotary_factor": 0.75}, 24),
     ({"rope_parameters": {"partial_rotary_factor": 0.5}}, 16)],
)  # fmt: skip
def test_the_part_of_a_head_that_turns(config: dict[str, Any], size: int | None) -> None:
    assert read_hf_rotary_dim(config, HEAD_DIM) == (size, [])


@pytest.mark.parametrize("partial", [0, -1, 2.0, "0.5", 0.05])
def test_a_part_that_cannot_be(partial: Any) -> None:
    size, problems = read_hf_rotary_dim({"partial_rotary_factor": partial}, HEAD_DIM)
    assert size is None
    assert "partial_rotary_factor" in problems[0]
