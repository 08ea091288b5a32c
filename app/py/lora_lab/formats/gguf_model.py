"""A GGUF model's settings, read key by key, and its tensors under Hugging Face's names. Knows no family."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .gguf import GgufFile
from .rope_scaling import LONG_FACTORS, ROPE_FACTORS, SHORT_FACTORS
from .tensors import StoredTensor

# One way to write each number, and none of thousands of digits.
_HF_LAYER_TENSOR = re.compile(r"model\.layers\.(0|[1-9][0-9]{0,5})\.([\w.]+)\.(weight|bias)")
_LAYER_TENSOR = re.compile(r"blk\.(0|[1-9][0-9]{0,5})\.([\w.]+)\.(weight|bias)")


class GgufSettings:
    """The metadata of one architecture. What is wrong with it is gathered in `problems`; nothing is raised."""

    def __init__(self, gguf: GgufFile, architecture: str) -> None:
        self.gguf, self.metadata, self.architecture = gguf, gguf.scalars, architecture
        self.problems: list[str] = []

    def get(self, key: str, default: Any = None) -> Any:
        """Return the setting `ARCHITECTURE.key` as it stands, arrays left out."""
        return self.metadata.get(f"{self.architecture}.{key}", default)

    def number(self, key: str, kinds: Any, default: Any = None) -> Any:
        """Return a positive number of the types `kinds`; 1, and a problem, where it is none."""
        value: Any = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value) or value <= 0:
            name = f"{self.architecture}.{key}"
            found = "an array" if value is None and name in self.gguf.metadata else repr(value)
            self.problems.append(f"{name} is {found}; wanted a positive number")
            return 1
        return value

    def of_layers(self, key: str) -> list[int]:
        """Return an array with a whole number of at least 0 for each layer; [], and a problem, where it is none."""
        name, wanted = f"{self.architecture}.{key}", self.get("block_count")
        found = self.gguf.metadata.get(name)
        values = np.asarray(found).tolist() if _is_whole_numbers(found) else []
        if not values or len(values) != wanted or min(values) < 0:
            shown = str(found)[:80]
            self.problems.append(f"{name} is {shown}; wanted {wanted} whole numbers of at least 0, one a layer")
            return []
        return values

    def refuse_experts(self) -> None:
        """Note what no family here can do: a mixture of experts."""
        if experts := self.get("expert_count"):
            name = f"{self.architecture}.expert_count"
            self.problems.append(f"{name} is {experts}; mixtures of experts are not supported")

    def longrope(self) -> dict[str, Any] | None:
        """Return longrope's scaling from the two tensors in which llama.cpp keeps its factors; None without them.

        The factors themselves are read later: they are tensors, and only headers are read here.
        """
        if not {LONG_FACTORS, SHORT_FACTORS} <= set(self.gguf.tensors):
            return None
        return {
            "rope_type": "longrope",
            "original_max_position_embeddings": self.number("rope.scaling.original_context_length", int),
            "attention_factor": float(self.number("rope.scaling.attn_factor", (int, float), 1.0)),
        }

    def vocab_size(self) -> int:
        """Return the rows of the embedding; 0, and a problem, without one."""
        embedding = self.gguf.tensors.get("token_embd.weight")
        if embedding is None:
            self.problems.append("the tensor token_embd.weight is missing")
        return embedding.shape[0] if embedding else 0

    def bos_token_id(self, vocab_size: int) -> int | None:
        """Return the token that begins a text, if the file names one that there is."""
        bos = self.metadata.get("tokenizer.ggml.bos_token_id")
        return bos if isinstance(bos, int) and 0 <= bos < vocab_size else None


@dataclass(frozen=True)
class GgufNames:
    """How a family's tensors are called in GGUF: names of the whole model, and inside a layer, without the ending.

    `permuted` are those whose rows llama.cpp has interleaved head by head, with the number of heads. `convolutions` are
    filters (channels, taps), which Hugging Face's files have as (channels, 1, taps).
    """

    whole: Mapping[str, str]
    layer: Mapping[str, str]
    permuted: Mapping[str, int] = field(default_factory=dict)
    convolutions: tuple[str, ...] = ()


def _is_whole_numbers(found: Any) -> bool:
    if isinstance(found, np.ndarray):
        return found.ndim == 1 and np.issubdtype(found.dtype, np.integer)
    return isinstance(found, list) and all(type(value) is int for value in found)


def hf_name(name: str, names: GgufNames) -> tuple[str, int | None]:
    """Return what Hugging Face calls a tensor of GGUF, and the number of heads its rows are interleaved by, or None.

    A name that the family does not have stays as it is.
    """
    match = _LAYER_TENSOR.fullmatch(name)
    if match and match[2] in names.layer:
        return f"model.layers.{match[1]}.{names.layer[match[2]]}.{match[3]}", names.permuted.get(match[2])
    return names.whole.get(name, name), None


def gguf_name(name: str, names: GgufNames) -> tuple[str, int | None]:
    """The inverse: what GGUF calls a tensor of Hugging Face's. KeyError when the family has none of that name."""
    if match := _HF_LAYER_TENSOR.fullmatch(name):
        own = {module: key for key, module in names.layer.items()}[match[2]]
        return f"blk.{match[1]}.{own}.{match[3]}", names.permuted.get(own)
    return {module: key for key, module in names.whole.items()}[name], None


def rename_tensors(gguf: GgufFile, names: GgufNames) -> tuple[dict[str, StoredTensor], list[str]]:
    """Return the tensors under Hugging Face's names, in the file's order, and every name that two of them would have.

    Names that the family does not have stay as they are.
    """
    renamed: dict[str, StoredTensor] = {}
    old_names: dict[str, str] = {}
    problems = []
    for name, tensor in gguf.tensors.items():
        if name in (ROPE_FACTORS, LONG_FACTORS, SHORT_FACTORS):
            continue
        new_name, permutation = hf_name(name, names)
        match = _LAYER_TENSOR.fullmatch(name)
        if match and match[2] in names.convolutions and len(tensor.shape) == 2:
            tensor = replace(tensor, shape=(tensor.shape[0], 1, tensor.shape[1]))
        if new_name in renamed:
            problems.append(f"{old_names[new_name]} and {name} are both {new_name}; wanted one of them")
            continue
        old_names[new_name] = name
        renamed[new_name] = replace(tensor, name=new_name, head_permutation=permutation)
    return renamed, problems
