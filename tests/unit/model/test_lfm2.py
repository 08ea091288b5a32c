"""LFM2's settings, as its files say them in several ways, and adapters for layers that only some blocks have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, Lfm2Config
from transformers.models.lfm2.modeling_lfm2 import Lfm2MLP

from lora_lab.config import LoraConfig, ModelConfig
from lora_lab.errors import AdapterError
from lora_lab.formats.byte_source import BytesSource
from lora_lab.formats.gguf import GgufFile
from lora_lab.formats.gguf_model import GgufSettings
from lora_lab.formats.hf_config import HfConfig
from lora_lab.formats.peft import expected_shapes, read_adapter, write_adapter
from lora_lab.formats.tensors import StoredTensor
from lora_lab.model.families import lfm2
from lora_lab.workers.model.opened import model_shape
from tests.tiny_families import tiny_config, write_tiny_family
from tests.unit.formats.helpers import opened

# As the first LFM2 says it.
OLD = {
    "model_type": "lfm2", "architectures": ["Lfm2ForCausalLM"], "vocab_size": 384, "hidden_size": 64,
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "norm_eps": 1e-5,
    "block_ff_dim": 120, "block_multiple_of": 32, "block_ffn_dim_multiplier": 1.0, "block_auto_adjust_ff_dim": True,
    "full_attn_idxs": [1, 3], "conv_L_cache": 3, "conv_bias": False, "rope_theta": 1_000_000.0,
    "max_position_embeddings": 128_000, "tie_embedding": True, "eos_token_id": 7, "bos_token_id": 1,
}  # fmt: skip


def read(**changes: Any) -> tuple[ModelConfig | None, list[str]]:
    written = {key: value for key, value in {**OLD, **changes}.items() if value is not ...}
    config = HfConfig(written, {})
    return lfm2.read_hf(config, "lfm2"), config.problems


def test_a_config_of_the_first_kind() -> None:
    config, problems = read()
    assert config is not None, problems
    assert [config.layer(i).conv_taps for i in range(4)] == [3, 0, 3, 0]
    assert (config.intermediate_size, config.rms_norm_eps, config.rope_theta) == (96, 1e-5, 1e6)
    assert (config.tie_word_embeddings, config.head_dim, config.eos_token_ids) == (True, 16, (7,))


def test_every_layer_attends_where_nothing_is_said() -> None:
    config, problems = read(full_attn_idxs=...)
    assert config is not None, problems
    assert [config.layer(i).conv_taps for i in range(4)] == [0, 0, 0, 0]
    assert "in_proj" not in config.linear_names


@pytest.mark.parametrize("width", [120, 12_288, 1000])
@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"block_auto_adjust_ff_dim": False},
        {"block_ffn_dim_multiplier": 1.3, "block_multiple_of": 48},
        {"block_multiple_of": 256},
    ],
    ids=str,
)
def test_the_mlps_width_is_transformers(width: int, rule: dict[str, Any]) -> None:
    whole = {**OLD, "block_ff_dim": width, **rule}
    wanted = Lfm2MLP(Lfm2Config(**{key: value for key, value in whole.items() if key != "architectures"}))
    config, problems = read(block_ff_dim=width, **rule)
    assert config is not None, problems
    assert config.intermediate_size == wanted.w1.out_features


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"conv_bias": True}, "config.json: conv_bias is True; linear layers with a bias are not supported"),
        ({"conv_L_cache": 17}, "config.json: conv_L_cache is 17; wanted at most 16"),
        (
            {"layer_types": ["conv", "mamba", "conv", "conv"]},
            "config.json: layer_types is ['conv', 'mamba', 'conv', 'conv']; wanted 4 times conv or full_attention",
        ),
        ({"layer_types": ["conv"]}, "config.json: layer_types is ['conv']; wanted 4 times conv or full_attention"),
        ({"full_attn_idxs": [4]}, "config.json: full_attn_idxs is [4]; wanted numbers of layers below 4"),
        ({"norm_eps": "a"}, "config.json: norm_eps is 'a'; wanted a positive number"),
        (
            {"block_ffn_dim_multiplier": None},
            "config.json: block_ffn_dim_multiplier is None; wanted a positive number",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_by_name(changes: dict[str, Any], problem: str) -> None:
    config, problems = read(**changes)
    assert config is None
    assert problems == [problem]


# --- GGUF ---


def read_gguf(kv_heads: Any, taps: Any = 3) -> tuple[ModelConfig | None, list[str]]:
    source = BytesSource(b"", "lfm2.gguf")
    metadata = {
        "lfm2.block_count": 4, "lfm2.embedding_length": 64, "lfm2.feed_forward_length": 96, "lfm2.context_length": 512,
        "lfm2.attention.head_count": 4, "lfm2.attention.head_count_kv": kv_heads, "lfm2.shortconv.l_cache": taps,
        "lfm2.attention.layer_norm_rms_epsilon": 1e-5, "lfm2.rope.freq_base": 1e6,
    }  # fmt: skip
    embedding = StoredTensor("token_embd.weight", (384, 64), "f32", source, 0, 4 * 384 * 64)
    settings = GgufSettings(GgufFile(source, 3, metadata, {"token_embd.weight": embedding}), "lfm2")
    return lfm2.read_gguf(settings, (7,), "lfm2"), settings.problems


@pytest.mark.parametrize("kv_heads", [np.array([0, 2, 0, 2], np.int32), np.array([0, 2, 0, 2], np.uint32)], ids=str)
def test_a_gguf_says_the_kv_heads_of_each_layer(kv_heads: np.ndarray) -> None:
    config, problems = read_gguf(kv_heads)
    assert config is not None, problems
    assert [config.layer(i).conv_taps for i in range(4)] == [3, 0, 3, 0]
    assert config.num_kv_heads == 2


@pytest.mark.parametrize(
    ("kv_heads", "taps", "problem"),
    [
        (2, 3, "lfm2.attention.head_count_kv is 2; wanted 4 whole numbers of at least 0, one a layer"),
        (np.array([0, 2]), 3, "attention.head_count_kv is [0 2]; wanted 4 whole numbers of at least 0, one a layer"),
        (np.array([0, 2, -1, 2]), 3, "is [ 0  2 -1  2]; wanted 4 whole numbers of at least 0"),
        (np.array([0.0, 2.0, 0.0, 2.0]), 3, "wanted 4 whole numbers"),
        (np.array([0, 2, 0, 4]), 3, "layers have [2, 4] KV heads; wanted the same number in all that have attention"),
        (np.array([0, 2, 0, 2]), 40, "lfm2.shortconv.l_cache is 40; wanted at most 16"),
        (np.array([0, 2, 0, 2]), "3", "lfm2.shortconv.l_cache is '3'; wanted a positive number"),
    ],
    ids=str,
)  # fmt: skip
def test_a_gguf_that_says_something_else_is_refused(kv_heads: Any, taps: Any, problem: str) -> None:
    config, problems = read_gguf(kv_heads, taps)
    assert config is None
    assert any(problem in found for found in problems), problems


# --- adapters ---


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_family(tmp_path_factory.mktemp("lfm2") / "lfm2", "lfm2")


@pytest.fixture(scope="module")
def config(folder: Path) -> ModelConfig:
    return opened(folder).config


def saved_by_peft(folder: Path, path: Path, **settings: Any) -> dict[str, bytes]:
    base = AutoModelForCausalLM.from_pretrained(folder)
    model = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", r=2, **settings))
    model.save_pretrained(path)
    return {file.name: file.read_bytes() for file in path.iterdir()}


@pytest.mark.parametrize(
    ("target_modules", "targets"),
    [
        ("all-linear", ("in_proj", "q_proj", "k_proj", "v_proj", "out_proj", "w1", "w3", "w2")),
        (["in_proj", "w2"], ("in_proj", "w2")),
        (["q_proj", "v_proj"], ("q_proj", "v_proj")),
        (["out_proj"], ("out_proj",)),
        (["conv.out_proj", "self_attn.out_proj"], ("out_proj",)),
        (r".*\.(conv\.in_proj|feed_forward\.w[13])", ("in_proj", "w1", "w3")),
    ],
    ids=str,
)
def test_finds_the_layers_that_peft_finds(
    folder: Path, config: ModelConfig, tmp_path: Path, target_modules: Any, targets: tuple[str, ...]
) -> None:
    """Every block that has a layer of that name, and no other; the keys are PEFT's to the last one."""
    lora, tensors = read_adapter(saved_by_peft(folder, tmp_path, target_modules=target_modules), config)
    assert lora.targets == targets
    assert tensors.keys() == peft.utils.load_peft_weights(str(tmp_path), device="cpu").keys()


@pytest.mark.parametrize(
    ("target_modules", "left_out"),
    [
        (["conv.out_proj"], "but 2 are left out, first model.layers.2.self_attn.out_proj"),
        (["0.conv.in_proj"], "but 2 are left out, first model.layers.1.conv.in_proj"),
    ],
    ids=str,
)
def test_a_layer_in_some_blocks_that_have_it_and_not_in_others_is_refused(
    folder: Path, config: ModelConfig, tmp_path: Path, target_modules: list[str], left_out: str
) -> None:
    with pytest.raises(AdapterError, match=left_out):
        read_adapter(saved_by_peft(folder, tmp_path, target_modules=target_modules), config)


def test_an_adapter_of_the_convolution_itself_is_refused(folder: Path, config: ModelConfig, tmp_path: Path) -> None:
    files = saved_by_peft(folder, tmp_path, target_modules=["w1"])
    written = json.loads(files["adapter_config.json"]) | {"target_modules": ["conv.conv"]}
    with pytest.raises(AdapterError, match="reaches no layer of this model"):
        read_adapter({**files, "adapter_config.json": json.dumps(written).encode()}, config)


def test_an_adapter_has_to_say_its_layers(folder: Path, config: ModelConfig, tmp_path: Path) -> None:
    """PEFT has no choice of its own for this family."""
    files = saved_by_peft(folder, tmp_path, target_modules=["w1"])
    written = json.loads(files["adapter_config.json"]) | {"target_modules": None}
    with pytest.raises(AdapterError, match="reaches no layer of this model"):
        read_adapter({**files, "adapter_config.json": json.dumps(written).encode()}, config)


def test_peft_loads_what_we_write(folder: Path, config: ModelConfig, tmp_path: Path) -> None:
    lora = LoraConfig(rank=3, alpha=6, targets=config.linear_names)
    rng = np.random.default_rng(0)
    shapes = expected_shapes(lora, config)
    tensors = {key: rng.normal(0, 0.1, shape).astype(np.float32) for key, shape in shapes.items()}
    for name, content in write_adapter(tensors, lora, config, None).items():
        (tmp_path / name).write_bytes(content)
    model = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), tmp_path)
    result = model.load_adapter(tmp_path, adapter_name="again")
    assert result.unexpected_keys == []
    assert [key for key in result.missing_keys if "lora_" in key] == []
    state = peft.get_peft_model_state_dict(model)
    assert state.keys() == tensors.keys()
    for key, tensor in tensors.items():
        assert torch.equal(state[key], torch.from_numpy(tensor))


def test_the_shape_of_an_adapter_says_where_the_convolutions_are() -> None:
    shape = model_shape(tiny_config("lfm2"))
    assert shape == "lfm2 layers=5 hidden=64 mlp=96 q=64 kv=32 conv=0,1,3"
    kinds = ["full_attention", *["conv"] * 3, "full_attention"]
    assert model_shape(tiny_config("lfm2", layer_types=kinds)) != shape
    assert "conv" not in model_shape(tiny_config("qwen3"))
