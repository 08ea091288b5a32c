"""PEFT adapters both ways against `peft`, and adapters that do not fit."""

from __future__ import annotations

import asyncio
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.numpy import load as load_numpy
from safetensors.numpy import save as save_numpy
from safetensors.torch import save as save_torch
from transformers import AutoModelForCausalLM

from lora_lab.config import LoraConfig, ModelConfig
from lora_lab.errors import AdapterError
from lora_lab.formats import safetensors
from lora_lab.formats.byte_source import sources_from_path
from lora_lab.formats.peft import expected_shapes, read_adapter, read_with_remarks, tensor_key, write_adapter
from lora_lab.formats.peft_card import with_base_model
from lora_lab.formats.tensors import dequantize
from lora_lab.model.families import llama
from lora_lab.model.files import open_model
from lora_lab.settings import TARGET_LAYERS
from tests.tiny_families import tiny_config

TOKENS = torch.tensor([[1, 20, 30, 40, 50, 7, 8, 9]])


@pytest.fixture(scope="module")
def model_config(tiny_model_folder: Path) -> ModelConfig:
    return asyncio.run(open_model(sources_from_path(tiny_model_folder))).config


@pytest.fixture
def base(tiny_model_folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model_folder)


def random_tensors(lora: LoraConfig, model: ModelConfig, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        key: generator.normal(scale=0.1, size=shape).astype(np.float32)
        for key, shape in expected_shapes(lora, model).items()
    }


def logits_of(model: Any) -> np.ndarray:
    with torch.no_grad():
        return model(TOKENS).logits.float().numpy()


def logits_with_deltas(base: Any, lora: LoraConfig, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """The base model with scale * B A added to each weight, without any of PEFT's code."""
    with torch.no_grad():
        for key, b in tensors.items():
            if ".lora_B." in key:
                a = tensors[key.replace(".lora_B.", ".lora_A.")]
                path = key.removeprefix("base_model.model.").removesuffix(".lora_B.weight")
                base.get_submodule(path).weight += lora.scale * torch.from_numpy(b) @ torch.from_numpy(a)
    return logits_of(base)


def saved_by_peft(base: Any, folder: Path, dtype: torch.dtype = torch.float32, **settings: Any) -> dict[str, bytes]:
    """Let PEFT make and save an adapter with random A and B, and return its files."""
    config = peft.LoraConfig(task_type="CAUSAL_LM", **settings)
    model = peft.get_peft_model(base, config)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data = (0.1 * torch.randn(parameter.shape, generator=generator)).to(dtype)
    model.save_pretrained(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---------------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize(
    "lora",
    [
        LoraConfig(rank=4, alpha=8),
        LoraConfig(rank=3, alpha=5.5, targets=("v_proj", "down_proj")),
        LoraConfig(rank=8, alpha=16, targets=("q_proj",), use_rslora=True),
    ],
    ids=["all", "two layers", "rslora"],
)
def test_peft_loads_what_we_write(base: Any, model_config: ModelConfig, tmp_path: Path, lora: LoraConfig) -> None:
    tensors = random_tensors(lora, model_config)
    template = "{{ messages[0].content }}" if lora.rank == 4 else None  # a file more, which PEFT leaves alone
    for name, content in write_adapter(tensors, lora, model_config, None, template).items():
        (tmp_path / name).write_bytes(content)
    assert (tmp_path / "chat_template.jinja").exists() == (lora.rank == 4)

    before = logits_of(base)
    # What PEFT itself says of the keys: from_pretrained only warns, so load by hand too and look at the result.
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # "Found missing adapter keys"
        model = peft.PeftModel.from_pretrained(base, tmp_path)
    result = model.load_adapter(tmp_path, adapter_name="again")
    assert result.unexpected_keys == []
    assert [key for key in result.missing_keys if "lora_" in key] == []
    state = peft.get_peft_model_state_dict(model)
    assert state.keys() == tensors.keys()
    for key, tensor in tensors.items():
        np.testing.assert_array_equal(state[key].numpy(), tensor, strict=True)

    with_peft = logits_of(model)
    expected = logits_with_deltas(model.unload(), lora, tensors)
    assert np.linalg.norm(with_peft - expected) <= 1e-5 * np.linalg.norm(expected)
    # The controls: the adapter does something, and PEFT's check would notice a wrong key.
    assert np.linalg.norm(with_peft - before) > 1e-2 * np.linalg.norm(before)


def test_a_wrong_key_would_be_noticed(base: Any, model_config: ModelConfig, tmp_path: Path) -> None:
    """The control for the test above: a key with the adapter's name in it, the classic mistake."""
    lora = LoraConfig(rank=4, alpha=8, targets=("q_proj",))
    files = write_adapter(random_tensors(lora, model_config), lora, model_config, None)
    wrong = {key.replace(".weight", ".other.weight"): torch.from_numpy(tensor.copy()) for key, tensor in
             load_numpy(files["adapter_model.safetensors"]).items()}  # fmt: skip
    files["adapter_model.safetensors"] = save_torch(wrong, metadata={"format": "pt"})
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    model = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj"]))
    result = model.load_adapter(tmp_path, adapter_name="again")
    assert result.unexpected_keys or [key for key in result.missing_keys if "lora_" in key]
    # Here the name is known for what it is, and said.
    _, tensors, remarks = read_with_remarks(files, model_config)
    assert {key: tensor.tobytes() for key, tensor in tensors.items()} == {
        key.replace(".other", ""): tensor.numpy().tobytes() for key, tensor in wrong.items()
    }
    assert len(remarks) == 1 and "lora_A.other.weight was read as base_model" in remarks[0]


def test_the_config_is_the_documented_one(model_config: ModelConfig) -> None:
    lora = LoraConfig(rank=16, alpha=32)
    files = write_adapter(random_tensors(lora, model_config), lora, model_config, "HuggingFaceTB/SmolLM2-135M-Instruct")
    assert sorted(files) == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    config = json.loads(files["adapter_config.json"])
    assert config == {
        "alpha_pattern": {}, "auto_mapping": None, "base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "bias": "none", "fan_in_fan_out": False, "inference_mode": True, "init_lora_weights": True,
        "layers_pattern": None, "layers_to_transform": None, "lora_alpha": 32, "lora_dropout": 0.0,
        "modules_to_save": None, "peft_type": "LORA", "r": 16, "rank_pattern": {}, "revision": None,
        "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        "task_type": "CAUSAL_LM", "use_dora": False, "use_rslora": False,
    }  # fmt: skip
    assert isinstance(config["lora_alpha"], int)
    whole = LoraConfig(rank=16, alpha=32.0)
    files_of_whole = write_adapter(random_tensors(whole, model_config), whole, model_config, None)
    assert b'"lora_alpha": 32,' in files_of_whole["adapter_config.json"]
    card = files["README.md"].decode()
    assert card.startswith('---\nbase_model: "HuggingFaceTB/SmolLM2-135M-Instruct"\nlibrary_name: peft\n')


def test_a_base_that_is_not_known_is_said_and_can_be_named_later(model_config: ModelConfig) -> None:
    lora = LoraConfig(rank=2, alpha=4, targets=("q_proj",))
    tensors = random_tensors(lora, model_config)
    unnamed, named = (write_adapter(tensors, lora, model_config, base) for base in (None, "owner/name"))
    assert json.loads(unnamed["adapter_config.json"])["base_model_name_or_path"] is None
    assert (
        "in the place of BASE_MODEL" in unnamed["README.md"].decode()
        and "BASE_MODEL" not in named["README.md"].decode()
    )
    assert 'from_pretrained("owner/name")' in named["README.md"].decode()
    assert with_base_model(unnamed, "owner/name") == named
    assert with_base_model(named, "other/name") == named  # the control: what is known stays
    own = {**unnamed, "README.md": b"# Mine"}
    assert with_base_model(own, "owner/name") == {**named, "README.md": b"# Mine"}


def test_writing_refuses_what_peft_would_ignore(model_config: ModelConfig) -> None:
    lora = LoraConfig(rank=4, alpha=8, targets=("q_proj", "v_proj"))
    tensors = random_tensors(lora, model_config)
    moved = tensors.pop(tensor_key(model_config, 1, "v_proj", "B"))
    tensors["model.layers.1.self_attn.v_proj.lora_B.weight"] = moved
    tensors["base_model.model.model.layers.0.mlp.q_proj.lora_A.weight"] = moved
    tensors[tensor_key(model_config, 0, "k_proj", "A")] = np.zeros((4, 64), np.float32)
    tensors[tensor_key(model_config, 0, "q_proj", "A")] = np.zeros((5, 64), np.float32)
    tensors[tensor_key(model_config, 0, "q_proj", "B")] = np.zeros((64, 4), np.float64)
    with pytest.raises(AdapterError) as error:
        write_adapter(tensors, lora, model_config, None)
    message = str(error.value)
    assert "model.layers.1.self_attn.v_proj.lora_B.weight is not a LoRA tensor" in message
    assert "layers.0.mlp.q_proj.lora_A.weight is not a LoRA tensor" in message
    assert f"{tensor_key(model_config, 1, 'v_proj', 'B')} is missing" in message
    assert f"{tensor_key(model_config, 0, 'k_proj', 'A')} is not among the targets q_proj, v_proj" in message
    assert f"{tensor_key(model_config, 0, 'q_proj', 'A')} is (5, 64); wanted rank 4" in message
    assert f"{tensor_key(model_config, 0, 'q_proj', 'B')} is float64; wanted float32" in message
    assert len(message.splitlines()) == 6
    with pytest.raises(AdapterError, match="no tensors"):
        write_adapter({}, lora, model_config, None)


# ---------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_reads_what_peft_saves(base: Any, model_config: ModelConfig, tmp_path: Path, dtype: torch.dtype) -> None:
    files = saved_by_peft(
        base, tmp_path, dtype, r=6, lora_alpha=12, lora_dropout=0.1, target_modules=["v_proj", "q_proj", "up_proj"]
    )
    lora, tensors = read_adapter(files, model_config)
    assert lora == LoraConfig(rank=6, alpha=12, targets=("q_proj", "v_proj", "up_proj"))
    assert list(tensors) == list(expected_shapes(lora, model_config))
    stored = peft.utils.load_peft_weights(str(tmp_path), device="cpu")
    assert stored.keys() == tensors.keys()
    for key, tensor in stored.items():
        assert tensor.dtype == dtype
        np.testing.assert_array_equal(tensors[key], tensor.float().numpy(), strict=True)


@pytest.mark.parametrize(
    ("settings", "targets"),
    [
        ({"target_modules": "all-linear"}, TARGET_LAYERS),
        ({"target_modules": r".*\.(q|k)_proj"}, ("q_proj", "k_proj")),
        ({"target_modules": r"model\.layers\.\d+\.mlp\..*_proj"}, ("gate_proj", "up_proj", "down_proj")),
        ({"target_modules": ["self_attn.q_proj", "mlp.down_proj"]}, ("q_proj", "down_proj")),
        ({"target_modules": ["q_proj", "v_proj"], "exclude_modules": ["v_proj"]}, ("q_proj",)),
        ({"target_modules": "all-linear", "exclude_modules": r".*mlp.*"}, TARGET_LAYERS[:4]),
        ({"target_modules": ["q_proj", "no_such_layer"]}, ("q_proj",)),
        ({"target_modules": ["o_proj"], "use_rslora": True, "init_lora_weights": "gaussian"}, ("o_proj",)),
        ({"target_modules": ["q_proj"], "layers_to_transform": [0, 1]}, ("q_proj",)),
        ({}, ("q_proj", "v_proj")),
    ],
    ids=str,
)
def test_finds_the_layers_that_peft_finds(
    base: Any, model_config: ModelConfig, tmp_path: Path, settings: dict[str, Any], targets: tuple[str, ...]
) -> None:
    lora, tensors = read_adapter(saved_by_peft(base, tmp_path, r=2, **settings), model_config)
    assert lora.targets == targets
    assert lora.use_rslora == settings.get("use_rslora", False)
    assert len(tensors) == 2 * 2 * len(targets)


def test_a_regex_stays_a_regex(model_config: ModelConfig) -> None:
    """PEFT may save target_modules as the string it was given; the reader takes it as PEFT does: the whole path."""
    lora = LoraConfig(rank=2, alpha=4, targets=("q_proj", "k_proj"))
    files = write_adapter(random_tensors(lora, model_config), lora, model_config, None)
    assert read_adapter(changed(files, target_modules=r".*\.[qk]_proj"), model_config)[0] == lora
    assert read_adapter(changed(files, target_modules=["k_proj", "q_proj"]), model_config)[0] == lora
    with pytest.raises(AdapterError, match=r'target_modules "q_proj" reaches no layer'):  # not a search
        read_adapter(changed(files, target_modules="q_proj"), model_config)


UNSLOTH = (
    r"(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense).*?(?:q_proj|k_proj).*?)"
    r"|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense)\.(?:(?:q_proj|k_proj)))"
)


@pytest.mark.parametrize(
    "pattern",
    [
        r".*\.(q_proj|k_proj)",
        r"model\.layers\.\d+\.(self_attn|mlp)\.(q|k)_proj",
        r"^(?!.*(lm_head|embed|mlp)).*(?:q|k)_proj$",
        r"model\.layers\.([0-9]|1[0-9]|2[0-9])\.self_attn\.(q_proj|k_proj)",
        r".*(self_attn|mlp).*(q|k)_proj.*",
        r"(model\.)?(layers)\.\d{1,3}\.\w+\.[qk]_proj",
        r"(?i).*\.[QK]_PROJ",
        r"(\w|\.)+\.[qk]_proj",
        UNSLOTH,
    ],
)
def test_ordinary_expressions_are_quick(model_config: ModelConfig, pattern: str) -> None:
    lora = LoraConfig(rank=2, alpha=4, targets=("q_proj", "k_proj"))
    files = write_adapter(random_tensors(lora, model_config), lora, model_config, None)
    assert read_adapter(changed(files, target_modules=pattern), model_config)[0] == lora


@pytest.mark.parametrize("field", ["target_modules", "exclude_modules"])
@pytest.mark.parametrize(
    "pattern",
    [
        r"((\w|\.)+)+!",
        r"(.+)*!",
        r"(a|ab|.)*!",
        r"(.{1,9}){1,9}!",
        ".*" * 8 + "!",
        ".?" * 32 + "!",
        "(.|.)" * 31 + "!",
        "(?i)" + "(k|K|.)" * 30 + "!",
        r"(?=(.+)+!).*",
        r"(){4000000000}",
        r"(.)\1*",
    ],
)
def test_expressions_that_could_take_for_ever(
    small: dict[str, bytes], model_config: ModelConfig, field: str, pattern: str
) -> None:
    """The first, let loose on a path of 32 letters, takes hours; what is refused is never tried."""
    with pytest.raises(AdapterError, match=rf"{field} is .*; wanted a simpler regular expression"):
        read_adapter(changed(small, **{field: pattern}), model_config)


def test_a_long_expression_is_refused(small: dict[str, bytes], model_config: ModelConfig) -> None:
    with pytest.raises(AdapterError, match=r"target_modules is .*; wanted a list .* of up to 1000 letters"):
        read_adapter(changed(small, target_modules=".*q_proj" + "|x" * 500), model_config)


def test_round_trip_keeps_every_bit(model_config: ModelConfig) -> None:
    lora = LoraConfig(rank=5, alpha=7.25, targets=("k_proj", "o_proj", "gate_proj"), use_rslora=True)
    tensors = random_tensors(lora, model_config, seed=9)
    lora_again, again = read_adapter(write_adapter(tensors, lora, model_config, "x"), model_config)
    assert lora_again == lora
    assert again.keys() == tensors.keys()
    assert all(again[key].tobytes() == tensor.tobytes() for key, tensor in tensors.items())


def changed(files: dict[str, bytes], **fields: Any) -> dict[str, bytes]:
    """The same adapter with some fields of adapter_config.json replaced."""
    config = json.loads(files["adapter_config.json"]) | fields
    return files | {"adapter_config.json": json.dumps(config).encode()}


@pytest.fixture
def small(model_config: ModelConfig) -> dict[str, bytes]:
    lora = LoraConfig(rank=2, alpha=4, targets=("q_proj",))
    return write_adapter(random_tensors(lora, model_config), lora, model_config, "x")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("peft_type", "IA3", r'peft_type is "IA3"; wanted "LORA"'),
        ("task_type", "SEQ_CLS", r'task_type is "SEQ_CLS"; wanted "CAUSAL_LM"'),
        ("use_dora", True, r"use_dora is true; wanted it off: it is not supported"),
        ("bias", "all", r'bias is "all"; wanted "none"'),
        ("lora_bias", True, r"lora_bias is true; wanted it off"),
        ("modules_to_save", ["lm_head"], r'modules_to_save is \["lm_head"\]; wanted it off'),
        ("rank_pattern", {"q_proj": 4}, r"rank_pattern is .*; wanted it off"),
        ("alpha_pattern", {"q_proj": 4}, r"alpha_pattern is .*; wanted it off"),
        ("layers_to_transform", [0], r"layers_to_transform is \[0\]; wanted null or all of the 2 layers"),
        ("layer_replication", [[0, 2], [1, 2]], r"layer_replication is .*; wanted it off"),
        ("trainable_token_indices", [1], r"trainable_token_indices is \[1\]; wanted it off"),
        ("init_lora_weights", "pissa", r'init_lora_weights is "pissa"; wanted true or "gaussian"'),
        ("r", 0, r"r is 0; wanted a whole number of at least 1"),
        ("r", "16", r'r is "16"; wanted a whole number'),
        ("lora_alpha", None, r"lora_alpha is null; wanted a number"),
        ("lora_alpha", 10**400, r"lora_alpha is 1000+\.\.\.; wanted a number"),
        ("lora_alpha", float("nan"), r"lora_alpha is NaN; wanted a number"),
        ("use_rslora", "yes", r'use_rslora is "yes"; wanted true or false'),
        ("target_modules", 5, r"target_modules is 5; wanted a list of names or a regular expression"),
        ("target_modules", "(unclosed", r"target_modules is .*; wanted a list of names or a regular expression"),
        ("target_modules", ["c_attn"], r'target_modules \["c_attn"\] reaches no layer of this model'),
        ("target_modules", ["q_proj", "lm_head"], r"target_modules reaches lm_head, which cannot be adapted here"),
        ("target_modules", ["layers.0.self_attn.q_proj"], r"q_proj in some layers and not in others.*layers\.1"),
        ("something_new_in_2030", 3, r"something_new_in_2030 is 3; wanted it off: it is not supported"),
    ],
)
def test_active_fields_that_are_not_supported_are_named(
    small: dict[str, bytes], model_config: ModelConfig, field: str, value: Any, message: str
) -> None:
    with pytest.raises(AdapterError, match=message):
        read_adapter(changed(small, **{field: value}), model_config)
    read_adapter(small, model_config)  # the control: without the field it is read


def test_neutral_fields_do_not_matter(small: dict[str, bytes], model_config: ModelConfig) -> None:
    neutral = {
        "peft_version": "0.99", "megatron_core": "megatron.core", "megatron_config": None, "qalora_group_size": 16,
        "loftq_config": {}, "eva_config": None, "exclude_modules": None, "lora_bias": False, "use_qalora": False,
        "base_model_name_or_path": None, "lora_dropout": 0.3, "inference_mode": False, "something_new_in_2030": None,
        "init_lora_weights": False, "task_type": None, "modules_to_save": [], "fan_in_fan_out": True,
    }  # fmt: skip
    lora, _ = read_adapter(changed(small, **neutral), model_config)
    assert lora == LoraConfig(rank=2, alpha=4, targets=("q_proj",))


def other_config(model_config: ModelConfig, **changes: Any) -> ModelConfig:
    fields = {**model_config.__dict__, **changes}
    for derived in ("linears", "peft_targets", "architecture"):
        del fields[derived]
    return llama.make_config(**fields)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_size": 960, "num_layers": 32}, "a model of 32 layers and width 960; this one has 2 and 64"),
        ({"num_layers": 1}, "a model of 1 layer and width 64; this one has 2 and 64"),
        ({"num_layers": 3}, "a model of 3 layers and width 64; this one has 2 and 64"),
        ({"hidden_size": 96}, "a model of 2 layers and width 96; this one has 2 and 64"),
        ({"intermediate_size": 100, "num_kv_heads": 4},
         "another model of 2 layers and width 64: its mlp.down_proj takes 100 values, this one's 176, its "
         "mlp.gate_proj gives 100 values, this one's 176, its mlp.up_proj gives 100 values, this one's 176, its "
         "self_attn.k_proj gives 64 values, this one's 32 and 1 more"),
    ],
)  # fmt: skip
def test_an_adapter_of_another_model_ends_in_one_sentence(
    model_config: ModelConfig, changes: dict[str, int], said: str
) -> None:
    other = other_config(model_config, **changes)
    lora = LoraConfig(rank=4, alpha=8)
    files = write_adapter(random_tensors(lora, other), lora, other, "x")
    with pytest.raises(AdapterError) as error:
        read_adapter(changed(files, use_dora=True), model_config)
    assert str(error.value) == f"the adapter was made for {said}"
    assert read_adapter(files, other)[0] == lora  # the control: the one it was made for


def test_an_adapter_of_another_family_ends_in_one_sentence(model_config: ModelConfig) -> None:
    other = tiny_config("phi3", num_hidden_layers=2)
    lora = LoraConfig(rank=4, alpha=8, targets=other.linear_names)
    files = write_adapter(random_tensors(lora, other), lora, other, "x")
    with pytest.raises(AdapterError) as error:
        read_adapter(files, model_config)
    assert len(str(error.value).splitlines()) == 1
    assert "another kind of model: it has mlp.gate_up_proj, self_attn.qkv_proj, which this one has not" in str(
        error.value
    )


def test_all_problems_at_once(model_config: ModelConfig) -> None:
    lora = LoraConfig(rank=4, alpha=8, targets=("q_proj", "down_proj"))
    tensors = random_tensors(lora, model_config)
    tensors[tensor_key(model_config, 0, "down_proj", "A")][1, 2] = np.nan
    files = write_adapter(tensors, lora, model_config, "x")
    weights = load_numpy(files["adapter_model.safetensors"])
    missing, short = (tensor_key(model_config, layer, "q_proj", "B") for layer in (0, 1))
    del weights[missing]
    weights[short] = weights[short][:-1].copy()
    weights["extra"] = np.zeros((1, 1), np.float32)
    files = changed(files, use_dora=True, bias="all") | {"adapter_model.safetensors": save_numpy(weights)}
    with pytest.raises(AdapterError) as error:
        read_adapter(files, model_config)
    lines = str(error.value).splitlines()
    assert f"{missing} is missing; wanted (64, 4)" in lines and f"{short} is (63, 4); this model needs (64, 4)" in lines
    down = tensor_key(model_config, 0, "down_proj", "A")
    assert f"{down} holds 1 values that are NaN or infinite" in lines
    assert "extra (1, 1) is not a tensor that this model's adapter has" in lines
    assert sum("use_dora" in line or "bias" in line for line in lines) == 2 and len(lines) == 6


def test_what_is_wrong_alike_in_many_layers_is_said_once(model_config: ModelConfig) -> None:
    deep = other_config(model_config, num_layers=30)
    lora = LoraConfig(rank=4, alpha=8)
    files = write_adapter(random_tensors(lora, deep), lora, deep, "x")
    with pytest.raises(AdapterError) as error:
        read_adapter(changed(files, r=8), deep)
    assert str(error.value) == ("adapter_config.json: r is 8; the matrices in adapter_model.safetensors have rank 4")
    with pytest.raises(AdapterError) as error:
        read_adapter(changed(files, target_modules=["q_proj"]), deep)
    lines = str(error.value).splitlines()
    assert len(lines) == 12
    assert lines[0] == (
        "mlp.down_proj.lora_A.weight (4, 176) is not a tensor that this model's adapter has (in 30 layers, first in "
        "layer 0)"
    )


# ---------------------------------------------------------------------------------------------------- other names

RENAMINGS = {
    "the adapter's name": lambda key: key.replace(".weight", ".default.weight"),
    "compiled": lambda key: key.replace("base_model.model.", "base_model.model._orig_mod."),
    "compiled block by block": lambda key: key.replace(".self_attn", "._orig_mod.self_attn"),
    "compiled and named": lambda key: "_orig_mod." + key.replace(".weight", ".default.weight"),
    "model. left out": lambda key: key.replace("model.model.layers", "model.layers"),
    "model. doubled": lambda key: key.replace("model.model.", "model.model.model."),
    "no prefix": lambda key: key.removeprefix("base_model.model."),
    "the block alone": lambda key: key.removeprefix("base_model.model.model."),
}


def renamed(files: dict[str, bytes], rename: Any) -> dict[str, bytes]:
    weights = load_numpy(files["adapter_model.safetensors"])
    return files | {"adapter_model.safetensors": save_numpy({rename(key): value for key, value in weights.items()})}


@pytest.mark.parametrize("way", sorted(RENAMINGS))
def test_names_that_differ_one_to_one_are_read_with_a_remark(model_config: ModelConfig, way: str) -> None:
    lora = LoraConfig(rank=2, alpha=4, targets=("q_proj", "v_proj"))
    files = write_adapter(random_tensors(lora, model_config), lora, model_config, "x")
    found, tensors, remarks = read_with_remarks(renamed(files, RENAMINGS[way]), model_config)
    assert found == lora and [*remarks] != [] and "was read as base_model.model.model.layers.0" in remarks[0]
    same = read_adapter(files, model_config)[1]
    assert tensors.keys() == same.keys() and all((tensors[key] == same[key]).all() for key in same)
    assert read_with_remarks(files, model_config)[2] == ()  # the control: PEFT's own names need no remark


def test_names_that_mean_another_thing_are_refused(small: dict[str, bytes], model_config: ModelConfig) -> None:
    for rename in (
        lambda key: key.replace("base_model.model.", "vision_tower."),
        lambda key: key.replace("base_model.model.", "base_model.model.draft."),
        lambda key: key.replace(".lora_", ".base_layer.lora_x_"),
    ):
        with pytest.raises(AdapterError, match="is missing"):
            read_adapter(renamed(small, rename), model_config)
    weights = load_numpy(small["adapter_model.safetensors"])
    both = {
        key.replace(".weight", f".{name}.weight"): value
        for name in ("default", "other")
        for key, value in weights.items()
    }
    with pytest.raises(AdapterError, match=r"holds 2 adapters, default, other: .* are the same matrix; wanted one"):
        read_adapter(small | {"adapter_model.safetensors": save_numpy(both)}, model_config)


def test_an_adapter_that_changes_nothing_gets_a_warning(model_config: ModelConfig) -> None:
    lora = LoraConfig(rank=2, alpha=4, targets=("q_proj", "v_proj"))
    tensors = random_tensors(lora, model_config)
    last = tensor_key(model_config, 1, "v_proj", "B")
    for key in tensors:
        if ".lora_B." in key and key != last:
            tensors[key][:] = 0
    assert read_with_remarks(write_adapter(tensors, lora, model_config, None), model_config)[2] == ()
    tensors[last][:] = 0
    (remark,) = read_with_remarks(write_adapter(tensors, lora, model_config, None), model_config)[2]
    assert "every B is zero" in remark


def test_fields_of_the_start_alone_do_not_matter(small: dict[str, bytes], model_config: ModelConfig) -> None:
    started = {
        "eva_config": {"rho": 2.0, "tau": 0.99}, "loftq_config": {"loftq_bits": 4}, "corda_config": {"cache_file": "x"},
        "lora_ga_config": {"direction": "ArB2r"}, "runtime_config": {"ephemeral_gpu_offload": True},
    }  # fmt: skip
    for init in (True, False, "gaussian", "eva", "orthogonal"):
        assert read_adapter(changed(small, **started, init_lora_weights=init), model_config)[0].rank == 2
    with pytest.raises(AdapterError, match='init_lora_weights is "loftq"'):  # the control: it changed the base too
        read_adapter(changed(small, **started, init_lora_weights="loftq"), model_config)


def test_files_that_are_not_there(small: dict[str, bytes], model_config: ModelConfig) -> None:
    config, weights = small["adapter_config.json"], small["adapter_model.safetensors"]
    with pytest.raises(AdapterError, match=r"adapter_model.safetensors is missing; found adapter_config.json"):
        read_adapter({"adapter_config.json": config}, model_config)
    with pytest.raises(AdapterError, match=r"adapter_config.json is missing(.|\n)*found no files"):
        read_adapter({}, model_config)
    with pytest.raises(AdapterError, match=r"found adapter_model\.bin, a pickle, which can run code"):
        read_adapter({"adapter_config.json": config, "adapter_model.bin": b""}, model_config)
    with pytest.raises(AdapterError, match=r"adapter_config.json is there 2 times: a/adapter_config.json, b"):
        read_adapter({"a/adapter_config.json": config, "b/adapter_config.json": config}, model_config)
    assert read_adapter({"a/adapter_config.json": config, "a\\adapter_model.safetensors": weights}, model_config)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000, b'"text"'])
def test_a_config_that_is_no_object(small: dict[str, bytes], model_config: ModelConfig, content: bytes) -> None:
    with pytest.raises(AdapterError, match=r"adapter_config\.json (is not JSON|holds a)"):
        read_adapter(small | {"adapter_config.json": content}, model_config)


def test_damaged_weights(small: dict[str, bytes], model_config: ModelConfig) -> None:
    weights = small["adapter_model.safetensors"]
    with pytest.raises(AdapterError, match=r"adapter_model\.safetensors: .*cut off"):
        read_adapter(small | {"adapter_model.safetensors": weights[:-4]}, model_config)
    half = save_torch({key: torch.from_numpy(t.copy()).to(torch.float64) for key, t in load_numpy(weights).items()})
    with pytest.raises(AdapterError, match=r"q_proj\.lora_A\.weight is F64(.|\n)*wanted F32, F16 or BF16"):
        read_adapter(small | {"adapter_model.safetensors": half}, model_config)


def test_only_wanted_tensors_are_decoded(
    small: dict[str, bytes], model_config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names and shapes come first: a shape that numpy refuses, and 64 MiB of F16 that no layer wants, stay bytes."""
    decoded: list[tuple[int, ...]] = []

    def spy(form: str, raw: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        decoded.append(shape)
        return dequantize(form, raw, shape)

    monkeypatch.setattr(safetensors, "dequantize", spy)
    empty, good = (tensor_key(model_config, layer, "q_proj", "A") for layer in (0, 1))
    unknown = "unknown"
    unknown_bytes, good_bytes = 64 << 20, 2 * 64 * 4
    header = {
        empty: {"dtype": "F32", "shape": [0, 2**62], "data_offsets": [0, 0]},
        unknown: {"dtype": "F16", "shape": [unknown_bytes // 2], "data_offsets": [0, unknown_bytes]},
        good: {"dtype": "F32", "shape": [2, 64], "data_offsets": [unknown_bytes, unknown_bytes + good_bytes]},
    }
    text = json.dumps(header).encode()
    weights = len(text).to_bytes(8, "little") + text + bytes(unknown_bytes + good_bytes)
    with pytest.raises(AdapterError) as error:
        read_adapter(small | {"adapter_model.safetensors": weights}, model_config)
    assert str(error.value).splitlines() == [
        f"{tensor_key(model_config, 0, 'q_proj', 'B')} is missing; wanted (64, 2)",
        f"{tensor_key(model_config, 1, 'q_proj', 'B')} is missing; wanted (64, 2)",
        f"{empty} is (0, {2**62}); this model needs (2, 64)",
        f"{unknown} ({unknown_bytes // 2},) is not a tensor that this model's adapter has",
    ]
    assert decoded == [(2, 64)]
