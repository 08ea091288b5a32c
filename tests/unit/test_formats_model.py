"""Opening models: Hugging Face folders of transformers 4 and 5, GGUF files, and models that do not fit together."""

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
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from lora_lab.errors import ModelError
from lora_lab.formats.gguf_model import llama3_factors, scaling_from_factors
from lora_lab.formats.source import BytesSource, sources_from_path
from lora_lab.model.files import ModelFiles, needed_shapes, open_model
from tests.tiny_gguf import write_tiny_gguf
from tests.tiny_model import CHAT_TEMPLATE, rewrite_as_transformers_4, write_tiny_model

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def opened(path: Path) -> ModelFiles:
    return asyncio.run(open_model(sources_from_path(path)))


def problems_of(path: Path) -> list[str]:
    with pytest.raises(ModelError) as error:
        opened(path)
    return str(error.value).splitlines()


def weights_of(model: ModelFiles) -> dict[str, np.ndarray]:
    return {name: asyncio.run(tensor.to_f32()) for name, tensor in model.tensors.items()}


@pytest.fixture
def folder(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may spoil."""
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "tiny"))


@pytest.fixture(scope="module")
def quantizable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose rows are whole numbers of GGUF's blocks, with an output layer of its own."""
    folder = tmp_path_factory.mktemp("quantizable") / "tiny"
    return write_tiny_model(folder, seed=3, intermediate=192, vocab_size=400, tied=False)


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
        spoil_config(model_type="qwen2", architectures=["Qwen2ForCausalLM"]),
        "config.json: model_type is 'qwen2'; wanted 'llama', the only architecture so far",
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
        spoil_config(rope_parameters={"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}),
        "config.json: rope_parameters is of the type 'yarn'; wanted one of default, linear, llama3",
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
        "config.json: partial_rotary_factor is 0.5; only 1 is supported",
    ),
    "theta": (spoil_config(rope_parameters={"rope_theta": "1e4"}), "config.json: rope_theta is '1e4'; wanted a"),
    "no hidden size": (spoil_config(hidden_size=None), "config.json: hidden_size is None; wanted a whole number"),
    "zero layers": (spoil_config(num_hidden_layers=0), "config.json: num_hidden_layers is 0; wanted a whole number"),
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
        "the tokenizer has tokens up to 383; the model's embedding has 300 rows",
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
    assert "model.safetensors.index.json holds '{}'" in problems_of(folder)[0]
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
    with pytest.raises(ModelError, match=r"2 GGUF files: a\.gguf, b\.gguf; wanted one"):
        asyncio.run(open_model([BytesSource(b"", "a.gguf"), BytesSource(b"", "b.gguf")]))
    with pytest.raises(ModelError, match=r"a\.gguf: begins with b'nope'; a GGUF file begins with"):
        asyncio.run(open_model([BytesSource(b"nope", "a.gguf")]))


# ---------------------------------------------------------------------------------------------------- GGUF


@pytest.mark.parametrize("form", ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1"])
def test_a_gguf_holds_the_folders_model(quantizable: Path, tmp_path: Path, form: str) -> None:
    """Each matrix, permuted rows and all, decodes to what the `gguf` package makes of the unpermuted one."""
    original, path = opened(quantizable), write_tiny_gguf(quantizable, tmp_path / "tiny.gguf", form=form)
    model = opened(path)
    for field in (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_layers",
        "num_heads",
        "num_kv_heads",
        "head_dim",
        "rope_theta",
        "max_position_embeddings",
        "tie_word_embeddings",
        "bos_token_id",
    ):
        assert getattr(model.config, field) == getattr(original.config, field), field
    assert model.config.rms_norm_eps == np.float32(original.config.rms_norm_eps)
    assert model.config.eos_token_ids == (2, 0)  # <|im_end|>, and <|endoftext|> by its name
    assert model.name == "Tiny test model"
    weights = weights_of(model)
    assert list(weights) == list(needed_shapes(model.config))
    kind = GGMLQuantizationType[form.upper()]
    for name, weight in weights_of(original).items():
        expected = dequantize(quantize(weight, kind), kind) if weight.ndim == 2 else weight
        np.testing.assert_array_equal(weights[name], expected, strict=True)
    permuted = {name for name, tensor in model.tensors.items() if tensor.head_permutation}
    assert permuted == {name for name in weights if "q_proj" in name or "k_proj" in name}


def test_a_gguf_gives_the_weights_that_transformers_gives(quantizable: Path, tmp_path: Path) -> None:
    path = write_tiny_gguf(quantizable, tmp_path / "tiny.gguf", form="q4_1", forms={"lm_head.weight": "q8_0"})
    state = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name).state_dict()
    weights = weights_of(opened(path))
    assert weights.keys() == state.keys()
    for name, tensor in state.items():
        np.testing.assert_array_equal(weights[name], tensor.numpy(), strict=True)


def test_a_gguf_without_an_ending_is_known_by_its_first_bytes(quantizable: Path, tmp_path: Path) -> None:
    path = write_tiny_gguf(quantizable, tmp_path / "b179c9523d0e")
    assert opened(path).config.num_layers == 2


@pytest.mark.parametrize(("length", "factor"), [(8192, 8.0), (8192, 32.0), (2048, 2.0)])
@pytest.mark.parametrize("theta", [500_000.0, 10_000.0])
def test_llama3_rope_survives_a_gguf(tmp_path: Path, length: int, factor: float, theta: float) -> None:
    """llama.cpp keeps only the divisors of the frequencies; first ours against transformers, then back again."""
    rope = {**LLAMA3_ROPE, "factor": factor, "original_max_position_embeddings": length, "rope_theta": theta}
    config = LlamaConfig(hidden_size=256, num_attention_heads=4, head_dim=64, rope_parameters=dict(rope))
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, device=torch.device("cpu"))
    plain = 1 / theta ** (np.arange(0, 64, 2) / 64)
    np.testing.assert_allclose(plain / llama3_factors(rope, theta, 64), scaled.numpy(), rtol=2e-6)

    folder = write_tiny_model(tmp_path / "tiny", head_dim=64, intermediate=64, layers=1, rope_parameters=rope)
    model = opened(write_tiny_gguf(folder, tmp_path / "tiny.gguf"))
    assert model.config.rope_theta == theta
    assert model.config.rope_scaling is not None
    assert model.config.rope_scaling == opened(folder).config.rope_scaling
    strange = np.linspace(1, 3, 32)
    assert scaling_from_factors(strange, model.config) is None  # the control


def test_linear_rope_survives_a_gguf(tmp_path: Path) -> None:
    rope = {"rope_type": "linear", "rope_theta": 20_000.0, "factor": 2.5}
    folder = write_tiny_model(tmp_path / "tiny", layers=1, rope_parameters=rope)
    model = opened(write_tiny_gguf(folder, tmp_path / "tiny.gguf"))
    assert (model.config.rope_theta, model.config.rope_scaling) == (2e4, {"rope_type": "linear", "factor": 2.5})


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"general.type": "adapter"}, "this is a LoRA adapter in GGUF form; wanted a model"),
        ({"general.architecture": "qwen2"}, "general.architecture is 'qwen2'; wanted 'llama', the only architecture"),
        ({"llama.expert_count": 8}, "llama.expert_count is 8; mixtures of experts are not supported"),
        ({"split.count": 3}, "this is one of 3 parts of a split model; wanted one file"),
        ({"llama.rope.scaling.type": "yarn"}, "llama.rope.scaling.type is 'yarn'; wanted none or linear"),
        ({"llama.rope.dimension_count": 8}, "llama.rope.dimension_count is 8; wanted the head size, 16"),
        ({"llama.embedding_length": 0}, "llama.embedding_length is 0; wanted a positive number"),
        ({"llama.attention.head_count_kv": 3}, "llama.attention.head_count is 4; wanted a multiple of the KV heads, 3"),
        ({"llama.feed_forward_length": 96}, "model.layers.0.mlp.gate_proj.weight is (192, 64); the model's settings"),
        ({"llama.block_count": 1}, "model.layers.1.input_layernorm.weight, model.layers.1.mlp.down_proj.weight"),
        ({"llama.block_count": 3}, "model.layers.2.input_layernorm.weight is missing; wanted (64,)"),
        ({"tokenizer.ggml.model": "llama"}, "tokenizer.ggml.model is SentencePiece ('llama'); wanted 'gpt2'"),
        ({"tokenizer.ggml.pre": "tekken"}, "tokenizer.ggml.pre is 'tekken', a way to split text that is not supported"),
    ],
    ids=str,
)
def test_ggufs_that_do_not_fit(quantizable: Path, tmp_path: Path, metadata: dict[str, Any], message: str) -> None:
    path = write_tiny_gguf(quantizable, tmp_path / "tiny.gguf", metadata=metadata)
    assert any(problem.startswith(f"tiny.gguf: {message}") for problem in problems_of(path))


def test_a_gguf_with_forms_that_we_cannot_compute_with(quantizable: Path, tmp_path: Path) -> None:
    """A form's number changed in the header, where llama.cpp would write it: one problem for all of that form."""
    path = write_tiny_gguf(quantizable, tmp_path / "tiny.gguf", form="q4_0")
    data = path.read_bytes()
    for name in (b"blk.0.ffn_up.weight", b"blk.1.ffn_up.weight"):
        at = data.index(name) + len(name) + 4 + 2 * 8
        assert data[at] == 2
        data = data[:at] + bytes([20]) + data[at + 1 :]  # iq4_nl: blocks of the same size
    path.write_bytes(data)
    expected = "tiny.gguf: model.layers.0.mlp.up_proj.weight and 1 more tensors are stored as IQ4_NL; wanted one of"
    assert [problem.startswith(expected) for problem in problems_of(path)] == [True]


def test_a_gguf_without_a_tokenizer(quantizable: Path, tmp_path: Path) -> None:
    missing = frozenset({"tokenizer.ggml.tokens", "tokenizer.ggml.merges"})
    problems = problems_of(write_tiny_gguf(quantizable, tmp_path / "tiny.gguf", leave_out=missing))
    assert problems == [f"tiny.gguf: {name} is missing; wanted a list of strings" for name in sorted(missing)[::-1]]


# ---------------------------------------------------------------------------------------------------- GGUF tokenizers

TEXTS = [
    "Hello world! 123",
    "  two  spaces\tand a tab\r\n\r\n  lines\n",
    "It's 2024, isn't it? I'LL see 12345678 and ٣٤ ½ ² Ⅷ",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "Ein schöner Tag: äöüß — naïve café 👩‍👩‍👧 日本語 العربية",
    "\u00a0\u2003\u3000\u0085\ufeff\u200b mixed\u0301 marks",
    "",
]


def test_a_gguf_tokenizer_is_the_folders_tokenizer(quantizable: Path, tmp_path: Path) -> None:
    theirs = Tokenizer.from_str(json.dumps(opened(quantizable).tokenizer.tokenizer_json))
    model = opened(write_tiny_gguf(quantizable, tmp_path / "tiny.gguf"))
    ours = Tokenizer.from_str(json.dumps(model.tokenizer.tokenizer_json))
    for text in TEXTS:
        encoded = ours.encode(text)
        assert encoded.ids == theirs.encode(text).ids
        assert ours.decode(encoded.ids, skip_special_tokens=False) == text
    assert ours.decode(ours.encode(TEXTS[3]).ids) == "user\nHi\nassistant\n"
    assert model.tokenizer.chat_template == CHAT_TEMPLATE
    assert model.tokenizer.special_tokens == {
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|im_end|>",
    }


def pieces(quantizable: Path, path: Path, text: str, **changes: Any) -> list[str]:
    """How the tokenizer of a GGUF with other metadata splits a text before merging."""
    model = opened(write_tiny_gguf(quantizable, path, **changes))
    tokenizer = Tokenizer.from_str(json.dumps(model.tokenizer.tokenizer_json))
    return [text[begin:end] for _, (begin, end) in tokenizer.pre_tokenizer.pre_tokenize_str(text)]


@pytest.mark.parametrize(
    ("pre", "text", "expected"),
    [
        ("smollm", "in 2024 it's²", ["in", " ", "2", "0", "2", "4", " it", "'s", "²"]),
        ("gpt-2", "in 2024 it's²", ["in", " 2024", " it", "'s", "²"]),
        ("llama-bpe", "in 2024 it's²!\n\nYes", ["in", " ", "202", "4", " it", "'s", "²", "!\n\n", "Yes"]),
        ("llama3", "WE'LL\n  x", ["WE", "'LL", "\n", " ", " x"]),
        (None, "in 20245 it's $9.", ["in", " ", "202", "45", " it", "'", "s", " ", "$", "9", "."]),
    ],
)
def test_text_is_split_as_llama_cpp_says(
    quantizable: Path, tmp_path: Path, pre: str | None, text: str, expected: list[str]
) -> None:
    metadata = {"tokenizer.ggml.pre": pre} if pre else {}
    leave_out = frozenset() if pre else frozenset({"tokenizer.ggml.pre"})
    found = pieces(quantizable, tmp_path / "tiny.gguf", text, metadata=metadata, leave_out=leave_out)
    assert found == expected


def test_begin_of_text_is_added_only_where_the_file_says_so(quantizable: Path, tmp_path: Path) -> None:
    def ids(pre: str, add_bos: bool | None) -> list[int]:
        metadata = {"tokenizer.ggml.pre": pre} | ({} if add_bos is None else {"tokenizer.ggml.add_bos_token": add_bos})
        leave_out = frozenset({"tokenizer.ggml.add_bos_token"} if add_bos is None else ())
        path = write_tiny_gguf(quantizable, tmp_path / "tiny.gguf", metadata=metadata, leave_out=leave_out)
        tokenizer = Tokenizer.from_str(json.dumps(opened(path).tokenizer.tokenizer_json))
        assert 1 not in tokenizer.encode("a", add_special_tokens=False).ids
        return tokenizer.encode("a").ids

    assert ids("smollm", True)[0] == 1
    assert 1 not in ids("smollm", None)
    assert ids("llama-bpe", None)[0] == 1
    assert 1 not in ids("llama-bpe", False)


def test_unused_tokens_are_no_text(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "tiny", vocab_size=1200, layers=1)
    model = opened(write_tiny_gguf(folder, tmp_path / "tiny.gguf"))
    vocab = model.tokenizer.tokenizer_json["model"]["vocab"]
    assert len(vocab) < 1200 == model.config.vocab_size
    assert not any(token.startswith("[PAD") for token in vocab)


# ---------------------------------------------------------------------------------------------------- SmolLM2


def test_smollm2_opens(smollm2_path: Path) -> None:
    model = opened(smollm2_path)
    config = model.config
    assert (config.vocab_size, config.hidden_size, config.intermediate_size) == (49152, 576, 1536)
    assert (config.num_layers, config.num_heads, config.num_kv_heads, config.head_dim) == (30, 9, 3, 64)
    assert (config.rope_theta, config.rope_scaling, config.tie_word_embeddings) == (100_000.0, None, True)
    assert (config.bos_token_id, config.eos_token_ids) == (1, (2, 0))
    assert len(model.tensors) == 272
    assert model.tensors["model.layers.0.self_attn.k_proj.weight"].head_permutation == 3
    assert model.tensors["model.embed_tokens.weight"].form == "q8_0"
    assert "You are a helpful AI assistant named SmolLM" in (model.tokenizer.chat_template or "")


def test_smollm2_tokenizes_as_published(smollm2_path: Path) -> None:
    tokenizer = Tokenizer.from_str(json.dumps(opened(smollm2_path).tokenizer.tokenizer_json))
    encoded = tokenizer.encode("Hello world! 123")
    assert encoded.ids == [19556, 905, 17, 216, 33, 34, 35]
    assert encoded.tokens[-4:] == ["Ġ", "1", "2", "3"]
    assert tokenizer.encode("Café déjà vu.").ids == [51, 1939, 2756, 32564, 90, 16739, 386, 101, 30]
    assert tokenizer.encode("  multiple   spaces").ids == [216, 2701, 256, 5600]
    chat = "<|im_start|>user\nHi 42<|im_end|>\n"
    assert tokenizer.encode(chat).tokens == ["<|im_start|>", "user", "Ċ", "Hi", "Ġ", "4", "2", "<|im_end|>", "Ċ"]
    assert tokenizer.decode(tokenizer.encode(chat).ids, skip_special_tokens=False) == chat


@pytest.mark.model
def test_smollm2_weights_are_those_of_transformers(smollm2_path: Path) -> None:
    """Two tensors of transformers' own reading of the same file: one permuted, one in another form."""
    model = opened(smollm2_path)
    state = AutoModelForCausalLM.from_pretrained(smollm2_path.parent, gguf_file=smollm2_path.name).state_dict()
    names = ("model.layers.7.self_attn.k_proj.weight", "model.layers.29.mlp.down_proj.weight")
    for name in names:
        ours = asyncio.run(model.tensors[name].to_f32())
        np.testing.assert_array_equal(ours, state[name].numpy(), strict=True)
    rows = slice(49_000, 49_152)
    embedding = asyncio.run(model.tensors["model.embed_tokens.weight"].to_f32())[rows]
    np.testing.assert_array_equal(embedding, state["model.embed_tokens.weight"][rows].numpy())
