"""Opening models in Hugging Face folders, of transformers 4 and 5, and models that do not fit together."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig

from lora_lab.errors import ModelError
from lora_lab.formats.byte_source import BytesSource
from lora_lab.model.files import open_model
from tests.tiny_model import CHAT_TEMPLATE, rewrite_as_transformers_4, write_tiny_model
from tests.unit.formats.helpers import LLAMA3_ROPE, opened, problems_of, weights_of


@pytest.fixture
def folder(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may spoil."""
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "tiny"))


def change_json(path: Path, **fields: Any) -> None:
    """Replace fields of a JSON file; None takes one away."""
    value = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({key: item for key, item in value.items() if item is not None}))


# ---------------------------------------------------------------------------------------------------- folders


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
@pytest.mark.parametrize(("tied", "shards"), [(True, 1), (False, 3)])
def test_a_folder_holds_what_transformers_loads(tmp_path: Path, dtype: str, tied: bool, shards: int) -> None:
    sizes = {"hidden": 48, "heads": 6, "kv_heads": 3}
    folder = write_tiny_model(tmp_path / "some-model", dtype=dtype, tied=tied, shards=shards, **sizes)
    model = opened(folder)
    config = model.config
    assert (config.num_heads, config.num_kv_heads, config.head_dim) == (6, 3, 16)  # 6 * 16 is not the hidden size
    assert (config.hidden_size, config.intermediate_size, config.num_layers, config.vocab_size) == (48, 176, 2, 384)
    assert (config.rope_theta, config.rope_scaling, config.rms_norm_eps) == (10_000.0, None, 1e-5)
    assert (config.tie_word_embeddings, config.max_position_embeddings) == (tied, 2048)
    assert (config.bos_token_id, config.eos_token_ids, config.name, model.name) == (1, (2,), "some-model", "some-model")
    assert {tensor.form for tensor in model.tensors.values()} == {dtype}
    state = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    if tied:
        assert "lm_head.weight" not in model.tensors
        del state["lm_head.weight"]
    weights = weights_of(model)
    assert weights.keys() == state.keys()
    for name, tensor in state.items():
        np.testing.assert_array_equal(weights[name], tensor.float().numpy(), strict=True)
    assert model.tokenizer.chat_template == CHAT_TEMPLATE
    assert model.tokenizer.special_tokens["eos_token"] == "<|im_end|>"
    assert model.tokenizer.tokenizer_json == json.loads((folder / "tokenizer.json").read_text())


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize(
    "rope", [None, LLAMA3_ROPE, {"rope_type": "linear", "rope_theta": 5e5, "factor": 2.0}], ids=str
)
def test_transformers_4_and_5_write_the_same_model(tmp_path: Path, rope: dict[str, Any] | None, named: bool) -> None:
    five = opened(write_tiny_model(tmp_path / "tiny", rope_parameters=rope and dict(rope)))
    four_folder = rewrite_as_transformers_4(tmp_path / "tiny", named_templates=named)
    config = json.loads((four_folder / "config.json").read_text())
    assert "rope_parameters" not in config and "head_dim" not in config  # the rewriting did something
    four = opened(four_folder)
    assert four.config == five.config
    assert four.tokenizer == five.tokenizer
    if rope:
        assert five.config.rope_theta == 5e5
        assert five.config.rope_scaling == {key: value for key, value in rope.items() if key != "rope_theta"}


def test_old_rope_type_and_defaults_are_transformers(folder: Path) -> None:
    """`type` instead of `rope_type`, and fields left out: compared with what LlamaConfig makes of the same file."""
    path = folder / "config.json"
    change_json(path, rope_parameters=None, rope_theta=None, rms_norm_eps=None, max_position_embeddings=None,
                tie_word_embeddings=None, num_key_value_heads=None, hidden_act=None)  # fmt: skip
    change_json(path, rope_scaling={"type": "linear", "factor": 4})
    weights = load_file(folder / "model.safetensors")
    for index in range(2):  # as many KV heads as heads
        for name in ("k_proj", "v_proj"):
            weights[f"model.layers.{index}.self_attn.{name}.weight"] = torch.zeros(64, 64)
    weights["lm_head.weight"] = torch.zeros(384, 64)
    save_file(weights, folder / "model.safetensors")
    ours, theirs = opened(folder).config, LlamaConfig.from_pretrained(folder)
    assert ours.rope_scaling == {"rope_type": "linear", "factor": 4}
    assert ours.rope_theta == theirs.rope_parameters["rope_theta"] == 10_000
    assert ours.rms_norm_eps == theirs.rms_norm_eps
    assert ours.max_position_embeddings == theirs.max_position_embeddings
    assert ours.tie_word_embeddings == theirs.tie_word_embeddings
    assert ours.num_kv_heads == theirs.num_key_value_heads


def test_tokens_that_end_a_text(folder: Path) -> None:
    change_json(folder / "generation_config.json", eos_token_id=[5, 7])
    change_json(folder / "config.json", eos_token_id=[7, 9])
    change_json(folder / "tokenizer_config.json", eos_token={"content": "<|endoftext|>", "special": True})
    model = opened(folder)
    assert model.config.eos_token_ids == (5, 7, 9, 0)
    assert model.tokenizer.special_tokens["eos_token"] == "<|endoftext|>"
    change_json(folder / "config.json", eos_token_id=None)
    (folder / "generation_config.json").unlink()
    change_json(folder / "tokenizer_config.json", eos_token=None)
    assert opened(folder).config.eos_token_ids == ()
    (folder / "special_tokens_map.json").write_text('{"eos_token": "<|im_end|>"}')
    assert opened(folder).config.eos_token_ids == (2,)


def test_the_template_file_wins(folder: Path) -> None:
    change_json(folder / "tokenizer_config.json", chat_template="the other one")
    assert opened(folder).tokenizer.chat_template == CHAT_TEMPLATE
    (folder / "chat_template.jinja").unlink()
    assert opened(folder).tokenizer.chat_template == "the other one"
    change_json(folder / "tokenizer_config.json", chat_template=[{"name": "rag", "template": "only one"}])
    assert opened(folder).tokenizer.chat_template == "only one"
    two = [{"name": "rag", "template": "a"}, {"name": "tool_use", "template": "b"}]
    change_json(folder / "tokenizer_config.json", chat_template=two)
    expected = "tokenizer_config.json: chat_template has rag, tool_use; wanted a template named default"
    assert problems_of(folder) == [expected]
    change_json(folder / "tokenizer_config.json", chat_template=None)
    assert opened(folder).tokenizer.chat_template is None


def test_a_dropped_folder_with_others_inside(folder: Path) -> None:
    """A browser gives every file below the folder, with its path; the topmost config.json decides."""
    sources = [BytesSource(path.read_bytes(), f"my model/{path.name}") for path in folder.iterdir()]
    sources += [BytesSource(b"{}", "my model/onnx/config.json"), BytesSource(b"x", "my model/onnx/model.onnx")]
    model = asyncio.run(open_model(sources))
    assert (model.name, len(model.tensors)) == ("my model", 20)
    with pytest.raises(ModelError, match="2 models: other, tiny; wanted one folder"):
        asyncio.run(open_model([BytesSource(b"{}", "tiny/config.json"), BytesSource(b"{}", "other/config.json")]))
    bare = [BytesSource(path.read_bytes(), path.name) for path in folder.iterdir()]
    assert asyncio.run(open_model(bare)).name == "model"


# ---------------------------------------------------------------------------------------------------- not fitting


def spoil_config(**fields: Any) -> Callable[[Path], None]:
    return lambda folder: change_json(folder / "config.json", **fields)


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def write(name: str, text: str | bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode()) and None


def spoil_weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors")

    return spoil


def both(first: Callable[[Path], None], second: Callable[[Path], None]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        first(folder)
        second(folder)

    return spoil


def truncate(name: str, size_bytes: int) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size_bytes]) and None


Q_PROJ = "model.layers.1.self_attn.q_proj.weight"
SPOILED: dict[str, tuple[Callable[[Path], None], str]] = {
    "another architecture": (
        spoil_config(model_type="gpt_neox", architectures=["GPTNeoXForCausalLM"]),
        "config.json: model_type is 'gpt_neox'; wanted one of 'llama', 'mistral', 'qwen2'",
    ),
    "a mixture of experts": (
        spoil_config(model_type="qwen3_moe", architectures=["Qwen3MoeForCausalLM"]),
        "config.json: model_type is 'qwen3_moe', a mixture of experts, which is not supported; wanted one of 'llama'",
    ),
    "a model that sees": (
        spoil_config(model_type="qwen2_5_vl"),
        "config.json: model_type is 'qwen2_5_vl', a model that sees pictures, which is not supported; wanted one of",
    ),
    "no language model": (
        spoil_config(architectures=["LlamaForSequenceClassification"]),
        "config.json: architectures is ['LlamaForSequenceClassification']; wanted ['LlamaForCausalLM']",
    ),
    "attention bias": (spoil_config(attention_bias=True), "config.json: attention_bias is True; linear layers with"),
    "mlp bias": (spoil_config(mlp_bias=True), "config.json: mlp_bias is True; linear layers with a bias are not supp"),
    "activation": (spoil_config(hidden_act="gelu"), "config.json: hidden_act is 'gelu'; wanted 'silu'"),
    "quantised": (
        spoil_config(quantization_config={"quant_method": "bitsandbytes"}),
        "config.json: quantization_config is of the method 'bitsandbytes', which is not supported",
    ),
    "yarn": (
        spoil_config(rope_parameters={"rope_type": "yarn", "factor": "4", "rope_theta": 1e4}),
        "config.json: rope_parameters.factor is '4'; wanted a positive number",
    ),
    "dynamic, the old way": (
        spoil_config(rope_scaling={"type": "dynamic", "factor": 2.0}),
        "config.json: rope_scaling is of the type 'dynamic'; wanted one of default, linear, llama3",
    ),
    "rope by layer": (
        spoil_config(rope_parameters={"full_attention": {"rope_type": "default"}}),
        "config.json: rope_parameters is {'full_attention': {'rope_type': 'default'}}; wanted one set of parameters",
    ),
    "llama3 without its numbers": (
        spoil_config(rope_parameters={"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1}),
        "config.json: rope_parameters.high_freq_factor is None; wanted a positive number",
    ),
    "partial rotation": (
        spoil_config(rope_parameters={"rope_theta": 1e4, "partial_rotary_factor": 0.5}),
        "config.json: partial_rotary_factor turns 8 of 16 channels; wanted all of them",
    ),
    "theta": (spoil_config(rope_parameters={"rope_theta": "1e4"}), "config.json: rope_theta is '1e4'; wanted a"),
    "no hidden size": (spoil_config(hidden_size=None), "config.json: hidden_size is None; wanted a whole number"),
    "zero layers": (spoil_config(num_hidden_layers=0), "config.json: num_hidden_layers is 0; wanted a whole number"),
    "absurdly many layers": (
        spoil_config(num_hidden_layers=10**18),
        "the model's settings say 1000000000000000000 layers, but there are only 20 tensors",
    ),
    "a number of 5,000 digits": (
        write("config.json", '{"hidden_size": ' + "9" * 5000 + "}"),
        "config.json is not JSON: a number of thousands of digits",
    ),
    "theta of 400 digits": (
        spoil_config(rope_parameters={"rope_theta": 10**400}),
        "config.json: rope_theta is 1000",
    ),
    "heads that do not divide": (
        spoil_config(num_key_value_heads=3),
        "config.json: num_attention_heads is 4; wanted a multiple of num_key_value_heads, 3",
    ),
    "odd head": (spoil_config(head_dim=15), "config.json: a head has 15 channels; RoPE needs an even number"),
    "eos beyond the vocabulary": (
        spoil_config(eos_token_id=384),
        "config.json: eos_token_id is 384; wanted token ids from 0 to 383",
    ),
    "small embedding": (
        both(
            spoil_weights(lambda w: w.update({"model.embed_tokens.weight": torch.zeros(300, 64)})),
            spoil_config(vocab_size=300),
        ),
        "the tokenizer has tokens 0 to 383; the model's embedding has 300 rows",
    ),
    "no config": (remove("config.json"), "config.json is missing; found chat_template.jinja, generation_config.json"),
    "no tokenizer": (remove("tokenizer.json"), "tokenizer.json is missing"),
    "no weights": (remove("model.safetensors"), "model.safetensors is missing, and so is model.safetensors.index.json"),
    "config that is no JSON": (write("config.json", "{"), "config.json is not JSON: Expecting property name"),
    "config that is a list": (write("config.json", "[1]"), "config.json holds '[1]'; wanted a JSON object"),
    "tokenizer that is no UTF-8": (write("tokenizer.json", b"\xff"), "tokenizer.json is not UTF-8"),
    "tokenizer without a vocabulary": (write("tokenizer.json", '{"model": 1}'), "tokenizer.json has no vocabulary"),
    "weights cut off": (
        truncate("model.safetensors", 400_000),
        "tiny/model.safetensors: model.norm.weight: ends at byte",
    ),
    "weights that are something else": (
        write("model.safetensors", b"<!doctype html><title>404"),
        "tiny/model.safetensors: the header is said to have",
    ),
    "a missing tensor": (
        spoil_weights(lambda w: w.pop(Q_PROJ)),
        f"{Q_PROJ} is missing; wanted (64, 64)",
    ),
    "a wrong shape": (
        spoil_weights(lambda w: w.update({Q_PROJ: torch.zeros(64, 32)})),
        f"{Q_PROJ} is (64, 32); the model's settings want (64, 64)",
    ),
    "a transposed shape": (
        spoil_weights(lambda w: w.update({"model.layers.0.mlp.up_proj.weight": torch.zeros(64, 176)})),
        "model.layers.0.mlp.up_proj.weight is (64, 176); the model's settings want (176, 64)",
    ),
    "a wrong type": (
        spoil_weights(lambda w: w.update({Q_PROJ: torch.zeros(64, 64, dtype=torch.float64)})),
        f"{Q_PROJ} is stored as F64; wanted one of F32, F16, BF16, Q8_0, Q4_0, Q4_1",
    ),
    "a tensor too many": (
        spoil_weights(lambda w: w.update({"model.layers.0.self_attn.q_norm.weight": torch.ones(16)})),
        "model.layers.0.self_attn.q_norm.weight: no such tensor in a Llama of 2 layers",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", SPOILED)
def test_what_does_not_fit_is_named(folder: Path, kind: str) -> None:
    opened(folder)  # the control: it is good before it is spoiled
    spoil, message = SPOILED[kind]
    spoil(folder)
    assert any(problem.startswith(message) for problem in problems_of(folder))


def test_harmless_tensors_do_not_matter(folder: Path) -> None:
    def change(weights: dict[str, torch.Tensor]) -> None:
        weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()

    spoil_weights(change)(folder)
    assert len(opened(folder).tensors) == 20


def test_all_problems_at_once(folder: Path) -> None:
    spoil_config(mlp_bias=True, num_key_value_heads=3, rms_norm_eps=0)(folder)
    remove("tokenizer.json")(folder)
    truncate("model.safetensors", 100)(folder)
    problems = problems_of(folder)
    for word in ("mlp_bias", "num_key_value_heads", "rms_norm_eps", "tokenizer.json is missing", "model.safetensors"):
        assert sum(word in problem for problem in problems) == 1
    assert len(problems) == 5


def test_every_wrong_tensor_at_once(folder: Path) -> None:
    spoil_config(hidden_size=128, head_dim=16)(folder)
    assert len(problems_of(folder)) == 20


def test_shards_that_do_not_fit(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "tiny", shards=3)
    names = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    (folder / names[1]).rename(folder / "elsewhere")
    count = list(index["weight_map"].values()).count(names[1])
    missing = f"{names[1]} is missing; model.safetensors.index.json says that it holds {count} tensors"
    assert problems_of(folder) == [missing]
    (folder / "elsewhere").rename(folder / names[1])
    opened(folder)

    moved = next(name for name, file in index["weight_map"].items() if file == names[0])
    changed = {**index, "weight_map": {**index["weight_map"], moved: names[2]}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(changed))
    assert problems_of(folder) == [f"{moved} is not in {names[2]}, where model.safetensors.index.json says it is"]
    (folder / "model.safetensors.index.json").write_text("{}")
    assert problems_of(folder) == [
        "model.safetensors.index.json: weight_map is missing or not a list of file names by tensor"
    ]
    (folder / "model.safetensors.index.json").unlink()
    assert problems_of(folder)[0].endswith(f"found {', '.join(names)}")


def test_files_that_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no files; wanted a \.gguf file, or config\.json"):
        asyncio.run(open_model([]))
    with pytest.raises(
        ModelError, match=r"config\.json is missing; found photo\.jpg\. Wanted a \.gguf file or a model"
    ):
        asyncio.run(open_model([BytesSource(b"x" * 10, "photo.jpg")]))
    with pytest.raises(ModelError, match=r"This is a LoRA adapter\. Wanted"):
        asyncio.run(open_model([BytesSource(b"{}", "adapter_config.json")]))
    with pytest.raises(ModelError, match=r"2 GGUF files: a\.gguf, b\.gguf; wanted one, or all parts of one"):
        asyncio.run(open_model([BytesSource(b"GGUF\3" + bytes(19), name) for name in ("a.gguf", "b.gguf")]))
    with pytest.raises(ModelError, match=r"a\.gguf: begins with b'nope'; a GGUF file begins with"):
        asyncio.run(open_model([BytesSource(b"nope", "a.gguf")]))
