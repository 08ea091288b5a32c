"""The tiny Llama as a GGUF file, written with the `gguf` package the way llama.cpp's converter lays models out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lora_lab.formats.byte_source import sources_from_path
from lora_lab.formats.rope_scaling import llama3_factors
from lora_lab.model.files import ModelFiles, open_model

LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def permute(weight: np.ndarray, num_heads: int) -> np.ndarray:
    """Interleave the two halves of each head's rows, as llama.cpp's converter does to q and k."""
    rows, columns = weight.shape
    return weight.reshape(num_heads, 2, rows // num_heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def encode(rows: np.ndarray, form: str) -> np.ndarray:
    """Return float32 rows as a file stores them in `form`: uint8 (rows, row bytes), or the numbers of a plain form.

    By ggml's own quantisers, which the `libgguf` package brings; `gguf` has them for a few forms only.
    """
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize
    from libgguf import quantize_rows

    kind, rows = GGMLQuantizationType[form.upper()], np.ascontiguousarray(rows)
    if form in ("f32", "f16", "bf16"):
        return quantize(rows, kind)
    return np.asarray(quantize_rows(rows, kind)).view(np.uint8).reshape(len(rows), -1)


def gguf_name(name: str) -> str:
    """Return llama.cpp's name of a Hugging Face tensor."""
    fixed = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    if name in fixed:
        return fixed[name]
    _, _, index, rest = name.removesuffix(".weight").split(".", 3)
    return f"blk.{index}.{LAYER_NAMES[rest]}.weight"


def write_tiny_gguf(
    hf_folder: Path | str,
    path: Path | str,
    *,
    form: str = "f32",
    forms: Mapping[str, str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    leave_out: frozenset[str] = frozenset(),
    tensors_a_part: int = 0,
    small_first_part: bool = False,
) -> Path:
    """Write the model of a Hugging Face folder as GGUF and return the path.

    Matrices are stored as `form`, or as `forms` says for a Hugging Face name; norms stay f32. `metadata` adds or
    replaces entries (strings, bools, ints, floats), `leave_out` drops some. The hidden and intermediate sizes must be
    multiples of 32 for the block forms, of 256 for the K-quants and IQ4_XS. `tensors_a_part` makes several files of it,
    NAME-00001-of-0000N.gguf and so on, the first of them perhaps without tensors.
    """
    from gguf import GGMLQuantizationType, GGUFWriter

    model: ModelFiles = asyncio.run(open_model(sources_from_path(hf_folder)))
    config = model.config
    splitting: dict[str, Any] = {"split_max_tensors": tensors_a_part, "small_first_shard": small_first_part}
    writer = GGUFWriter(str(path), "llama", **splitting)
    entries: dict[str, Any] = {
        "general.type": "model",
        "general.name": "Tiny test model",
        "llama.block_count": config.num_layers,
        "llama.context_length": config.max_position_embeddings,
        "llama.embedding_length": config.hidden_size,
        "llama.feed_forward_length": config.intermediate_size,
        "llama.attention.head_count": config.num_heads,
        "llama.attention.head_count_kv": config.num_kv_heads,
        "llama.attention.key_length": config.head_dim,
        "llama.attention.value_length": config.head_dim,
        "llama.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "llama.rope.freq_base": config.rope_theta,
        "llama.rope.dimension_count": config.head_dim,
        "llama.vocab_size": config.vocab_size,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.padding_token_id": 2,
        "tokenizer.chat_template": model.tokenizer.chat_template,
    }
    scaling = config.rope_scaling
    if scaling and scaling["rope_type"] == "linear":
        entries |= {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": float(scaling["factor"])}
    if scaling and scaling["rope_type"] == "llama3":
        factors = llama3_factors(scaling, config.rope_theta, config.head_dim)
        writer.add_tensor("rope_freqs.weight", factors.astype(np.float32))
    for key, value in (entries | dict(metadata or {})).items():
        if key not in leave_out:
            add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
            add[type(value)](key, value)
    _add_vocabulary(writer, model, leave_out)

    for name, tensor in model.tensors.items():
        weight = asyncio.run(tensor.to_f32())
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            weight = permute(weight, config.num_heads if "q_proj" in name else config.num_kv_heads)
        chosen = (forms or {}).get(name, form if weight.ndim == 2 else "f32")
        stored = encode(weight, chosen)
        writer.add_tensor(gguf_name(name), stored, raw_dtype=GGMLQuantizationType[chosen.upper()])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Path(path)


def _add_vocabulary(writer: Any, model: ModelFiles, leave_out: frozenset[str]) -> None:
    """Tokens, their types and the merges; rows of the embedding beyond the tokenizer become unused tokens."""
    from gguf import TokenType

    tokenizer = json.loads(json.dumps(model.tokenizer.tokenizer_json))
    by_id = {token_id: token for token, token_id in tokenizer["model"]["vocab"].items()}
    special = {entry["id"] for entry in tokenizer["added_tokens"]}
    tokens = [by_id.get(i, f"[PAD{i}]") for i in range(model.config.vocab_size)]
    types = [
        TokenType.CONTROL if i in special else TokenType.NORMAL if i in by_id else TokenType.UNUSED
        for i in range(model.config.vocab_size)
    ]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    if "tokenizer.ggml.tokens" not in leave_out:
        writer.add_token_list(tokens)
    if "tokenizer.ggml.token_type" not in leave_out:
        writer.add_token_types(types)
    if "tokenizer.ggml.merges" not in leave_out:
        writer.add_token_merges(merges)
