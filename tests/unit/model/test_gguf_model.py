"""Opening GGUF files: weights, settings and tokenizer, SmolLM2's among them, and files that do not fit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from lora_lab.formats.byte_source import FileSource
from lora_lab.formats.gguf import read_gguf
from lora_lab.formats.rope_scaling import llama3_factors, scaling_from_factors
from lora_lab.formats.tensors import StoredTensor
from lora_lab.model.files import needed_shapes
from tests import tiny_gguf
from tests.tiny_gguf import gguf_name, write_tiny_gguf
from tests.tiny_model import CHAT_TEMPLATE, write_tiny_model
from tests.unit.formats.helpers import LLAMA3_ROPE, opened, problems_of, weights_of


@pytest.fixture(scope="module")
def quantizable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose rows are whole numbers of GGUF's blocks, with an output layer of its own."""
    folder = tmp_path_factory.mktemp("quantizable") / "tiny"
    return write_tiny_model(folder, seed=3, intermediate=192, vocab_size=400, tied=False)


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
    assert scaling_from_factors(strange, model.config.rope_theta, model.config.head_dim) is None  # the control


def test_linear_rope_survives_a_gguf(tmp_path: Path) -> None:
    rope = {"rope_type": "linear", "rope_theta": 20_000.0, "factor": 2.5}
    folder = write_tiny_model(tmp_path / "tiny", layers=1, rope_parameters=rope)
    model = opened(write_tiny_gguf(folder, tmp_path / "tiny.gguf"))
    assert (model.config.rope_theta, model.config.rope_scaling) == (2e4, {"rope_type": "linear", "factor": 2.5})


TYPE, FACTOR, OLD_FACTOR = "llama.rope.scaling.type", "llama.rope.scaling.factor", "llama.rope.scale_linear"


@pytest.mark.parametrize(
    ("metadata", "factor"),
    [
        ({FACTOR: 2.5}, 2.5),
        ({OLD_FACTOR: 4.0}, 4.0),
        ({TYPE: "linear", OLD_FACTOR: 4.0}, 4.0),
        ({FACTOR: 2.5, OLD_FACTOR: 4.0}, 2.5),
        ({TYPE: "none", FACTOR: 2.5}, None),
        ({TYPE: "linear"}, None),
        ({TYPE: "linear", FACTOR: 0.0}, None),
        ({FACTOR: 1.0}, None),
    ],
    ids=str,
)
def test_linear_rope_is_read_as_llama_cpp_reads_it(
    quantizable: Path, tmp_path: Path, metadata: dict[str, Any], factor: float | None
) -> None:
    """llama.cpp takes the old key where the new one is missing, and the type as linear where it is not named."""
    model = opened(write_tiny_gguf(quantizable, tmp_path / "tiny.gguf", metadata=metadata))
    assert model.config.rope_scaling == (factor and {"rope_type": "linear", "factor": factor})


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"general.type": "adapter"}, "this is a LoRA adapter in GGUF form; wanted a model"),
        ({"general.architecture": "gptneox"}, "general.architecture is 'gptneox'; wanted one of 'llama', 'qwen2'"),
        ({"general.architecture": "mamba2"}, "general.architecture is 'mamba2', a state space model, which is not"),
        ({"llama.expert_count": 8}, "llama.expert_count is 8; mixtures of experts are not supported"),
        ({"llama.rope.scaling.type": "ntk"}, "llama.rope.scaling.type is 'ntk'; wanted none, linear, yarn or longrope"),
        (
            {"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 2.0},
            "llama.rope.scaling.original_context_length is None; wanted a positive number",
        ),
        ({"llama.rope.scaling.factor": -2.0}, "llama.rope.scaling.factor is -2.0; wanted a positive number"),
        ({"llama.rope.scale_linear": "2"}, "llama.rope.scale_linear is '2'; wanted a positive number"),
        ({"llama.rope.dimension_count": 8}, "llama.rope.dimension_count is 8; wanted the head size, 16"),
        ({"llama.embedding_length": 0}, "llama.embedding_length is 0; wanted a positive number"),
        ({"llama.attention.head_count_kv": 3}, "llama.attention.head_count is 4; wanted a multiple of the KV heads, 3"),
        ({"llama.feed_forward_length": 96}, "model.layers.0.mlp.gate_proj.weight is (192, 64); the model's settings"),
        ({"llama.block_count": 1}, "model.layers.1.input_layernorm.weight, model.layers.1.mlp.down_proj.weight"),
        ({"llama.block_count": 3}, "model.layers.2.input_layernorm.weight is missing; wanted (64,)"),
        ({"tokenizer.ggml.model": "rwkv"}, "tokenizer.ggml.model is 'rwkv'; wanted 'gpt2' (byte-level BPE) or 'llama'"),
        ({"tokenizer.ggml.model": "t5"}, "tokenizer.ggml.model is 't5'; wanted 'gpt2' (byte-level BPE) or 'llama'"),
        ({"tokenizer.ggml.model": "llama"}, "tokenizer.ggml.scores is missing; wanted"),
        ({"tokenizer.ggml.pre": "viking"}, "tokenizer.ggml.pre is 'viking', a way to split text that is not supported"),
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
        data = data[:at] + bytes([39]) + data[at + 1 :]  # mxfp4: blocks of a byte less
    path.write_bytes(data)
    expected = "tiny.gguf: model.layers.0.mlp.up_proj.weight and 1 more tensors are stored as MXFP4; wanted one of"
    assert [problem.startswith(expected) for problem in problems_of(path)] == [True]


@pytest.fixture
def call_tensor(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Make `write_tiny_gguf` write another name for one tensor."""

    def call(old: str, new: str) -> None:
        monkeypatch.setattr(tiny_gguf, "gguf_name", lambda name: gguf_name(name).replace(old, new))

    return call


@pytest.mark.parametrize("number", ["9" * 5000, "00", "٠"], ids=["5000 digits", "two zeros", "Arabic"])
def test_a_layer_has_one_number(
    quantizable: Path, tmp_path: Path, call_tensor: Callable[[str, str], None], number: str
) -> None:
    name = f"blk.{number}.attn_q.weight"
    call_tensor("blk.0.attn_q.weight", name)
    assert problems_of(write_tiny_gguf(quantizable, tmp_path / "tiny.gguf")) == [
        "tiny.gguf: model.layers.0.self_attn.q_proj.weight is missing; wanted (64, 64)",
        f"tiny.gguf: {name}: no such tensor in a Llama of 2 layers",
    ]


def test_two_tensors_of_one_name(quantizable: Path, tmp_path: Path, call_tensor: Callable[[str, str], None]) -> None:
    """The later one won: here the last norm over the second layer's, which bears its Hugging Face name."""
    call_tensor("blk.1.attn_norm.weight", "model.norm.weight")
    assert problems_of(write_tiny_gguf(quantizable, tmp_path / "tiny.gguf")) == [
        "tiny.gguf: model.norm.weight and output_norm.weight are both model.norm.weight; wanted one of them",
        "tiny.gguf: model.layers.1.input_layernorm.weight is missing; wanted (64,)",
    ]


def test_rope_factors_of_another_shape_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_tiny_model(tmp_path / "tiny", layers=1, rope_parameters=LLAMA3_ROPE)
    path = write_tiny_gguf(folder, tmp_path / "tiny.gguf")
    gguf = asyncio.run(read_gguf(FileSource(path)))
    assert gguf.tensors["rope_freqs.weight"].shape == (8,)
    data = path.read_bytes()
    at = data.index(b"rope_freqs.weight") + len(b"rope_freqs.weight") + 4
    assert data[at : at + 8] == (8).to_bytes(8, "little")
    path.write_bytes(data[:at] + (4).to_bytes(8, "little") + data[at + 8 :])  # the rest becomes padding

    async def never(tensor: StoredTensor) -> np.ndarray:
        raise AssertionError(f"{tensor.name} was decoded")

    monkeypatch.setattr(StoredTensor, "to_f32", never)
    assert problems_of(path) == [
        "tiny.gguf: rope_freqs.weight is not of the kind of Llama 3; other RoPE scalings are not supported"
    ]


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
