"""PEFT's adapter directory: adapter_model.safetensors, adapter_config.json and a model card.

PEFT loads with strict=False: a wrong key only warns, and the adapter silently does nothing. So both directions here
check every name and shape, and report all problems in one AdapterError.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..config import LoraConfig, ModelConfig
from ..errors import AdapterError
from . import safetensors
from .adapter_fit import Place, in_few_lines, one_rank, other_model
from .adapter_names import peft_name, peft_places
from .byte_source import FileFormatError
from .peft_card import CARD_FILE, model_card
from .peft_config import CONFIG_FILE, read_adapter_config
from .run_facts import RUN_FILE, RunFacts
from .tensors import StoredTensor

WEIGHTS_FILE = "adapter_model.safetensors"
TEMPLATE_FILE = "chat_template.jinja"  # transformers' name; here the template that the adapter was trained with
MAX_TEMPLATE_BYTES = 1 << 20  # the longest published ones have some 20 kB

KEY_PREFIX = "base_model.model."

EMPTY = (
    "every B is zero, so the adapter changes nothing: it was saved before its first step, or its training went wrong"
)


def tensor_key(model: ModelConfig, layer_index: int, layer_name: str, half: str) -> str:
    """Return PEFT's key for one half, "A" [r, in] or "B" [out, r], of one layer's adapter."""
    return f"{KEY_PREFIX}{model.module_path(layer_index, layer_name)}.lora_{half}.weight"


def expected_shapes(lora: LoraConfig, model: ModelConfig) -> dict[str, tuple[int, int]]:
    """Return the shape of every tensor that an adapter of this kind has, by PEFT key, layer after layer."""
    shapes = {}
    for index in range(model.num_layers):
        own = model.names_in(index)
        for name in (target for target in lora.targets if target in own):
            out_size, in_size = model.linear_shape(index, name)
            shapes[tensor_key(model, index, name, "A")] = (lora.rank, in_size)
            shapes[tensor_key(model, index, name, "B")] = (out_size, lora.rank)
    return shapes


# ---------------------------------------------------------------------------------------------------- writing


def write_adapter(
    tensors: Mapping[str, np.ndarray], lora: LoraConfig, model: ModelConfig, base_model_name: str | None,
    chat_template: str | None = None, run: RunFacts | None = None, licence: str | None = None,
) -> dict[str, bytes]:  # fmt: skip
    """Return the three files of an adapter directory by name; a fourth is its chat template, where it has its own, a
    fifth the run's record, where there is one. `licence` is the base model's, for the card.

    `tensors` are float32 under PEFT's keys; `base_model_name` is OWNER/NAME on the hub, None where it is not known:
    never a file's name or a path, which mean something on one machine only. AdapterError when the tensors are not
    exactly the pairs that `lora` says, the same for every layer of the model that has them.
    """
    problems = _writing_problems(tensors, lora, model)
    if problems:
        raise AdapterError("\n".join(problems))
    files = {
        WEIGHTS_FILE: safetensors.write(tensors, {"format": "pt"}),
        CONFIG_FILE: (json.dumps(adapter_config(lora, base_model_name), indent=2) + "\n").encode(),
        CARD_FILE: model_card(lora, base_model_name, run, licence).encode(),
    }
    if run is not None and run.record:
        files[RUN_FILE] = run.record
    return files if chat_template is None else {**files, TEMPLATE_FILE: chat_template.encode()}


def adapter_config(lora: LoraConfig, base_model_name: str | None) -> dict[str, Any]:
    """Return adapter_config.json's content: only fields that every PEFT of the last years knows."""
    alpha: float = lora.alpha
    return {
        "alpha_pattern": {},
        "auto_mapping": None,
        "base_model_name_or_path": base_model_name,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "layers_pattern": None,
        "layers_to_transform": None,
        "lora_alpha": int(alpha) if float(alpha).is_integer() else alpha,  # Ollama parses it as an integer
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": lora.rank,
        "rank_pattern": {},
        "revision": None,
        "target_modules": list(lora.targets),
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": lora.use_rslora,
    }


def _writing_problems(tensors: Mapping[str, np.ndarray], lora: LoraConfig, model: ModelConfig) -> list[str]:
    if not tensors:
        return ["the adapter has no tensors"]
    problems = []
    wanted = expected_shapes(lora, model)
    known = expected_shapes(replace(lora, targets=model.linear_names), model)
    for key, tensor in tensors.items():
        if key not in known:
            problems.append(f"{key} is not a LoRA tensor of this kind of model")
            continue
        rank = tensor.shape[0 if ".lora_A." in key else -1] if tensor.ndim == 2 else None
        if rank != lora.rank:
            problems.append(f"{key} is {tensor.shape}; wanted rank {lora.rank}")
        elif key in wanted and tensor.shape != wanted[key]:
            problems.append(f"{key} is {tensor.shape}; this model needs {wanted[key]}")
        if tensor.dtype != np.float32:
            problems.append(f"{key} is {tensor.dtype}; wanted float32")
    problems += [f"{key} is missing" for key in sorted(wanted.keys() - tensors.keys())]
    not_targets = sorted(key for key in tensors if key in known and key not in wanted)
    return problems + [f"{key} is not among the targets {', '.join(lora.targets)}" for key in not_targets]


# ---------------------------------------------------------------------------------------------------- reading


def read_adapter(files: Mapping[str, bytes], model: ModelConfig) -> tuple[LoraConfig, dict[str, np.ndarray]]:
    """Read an adapter directory and check it against the model.

    `files` holds at least adapter_config.json and adapter_model.safetensors; a folder part in the names does not
    matter. Returns its settings and its tensors, float32 under PEFT's keys. AdapterError lists every problem; an
    adapter of another model has one.
    """
    lora, tensors, _ = read_with_remarks(files, model)
    return lora, tensors


def read_with_remarks(
    files: Mapping[str, bytes], model: ModelConfig
) -> tuple[LoraConfig, dict[str, np.ndarray], tuple[str, ...]]:
    """The same, with what a person should hear of an adapter that could be read."""
    config_bytes, weights = _find_file(files, CONFIG_FILE), _find_file(files, WEIGHTS_FILE)
    if isinstance(config_bytes, str) or isinstance(weights, str):
        raise AdapterError("\n".join(found for found in (config_bytes, weights) if isinstance(found, str)))
    lora, problems = read_adapter_config(config_bytes, model)
    try:
        stored = safetensors.read_header_of(weights, WEIGHTS_FILE)
    except FileFormatError as error:
        raise AdapterError("\n".join([*problems, str(error)])) from error
    places, renamed = peft_places(stored)
    some_layers = any("layers_to_transform" in one or "are left out" in one for one in problems)
    found = {place: stored[name].shape for name, place in places.items()}
    if (sentence := other_model(found, model, all_layers=not some_layers)) is not None:
        raise AdapterError(sentence)
    if lora is None:
        raise AdapterError("\n".join(problems))
    if (rank := one_rank(found)) not in (None, lora.rank):
        problems.append(f"{CONFIG_FILE}: r is {lora.rank}; the matrices in {WEIGHTS_FILE} have rank {rank}")
        raise AdapterError("\n".join(problems))
    shapes = expected_shapes(lora, model)
    tensors, tensor_problems = _decode(weights, {_key(name, places): stored[name] for name in stored}, shapes)
    problems += tensor_problems
    if problems:
        raise AdapterError("\n".join(problems))
    remarks = [renamed] if renamed else []
    if not any(tensor.any() for key, tensor in tensors.items() if ".lora_B." in key):
        remarks.append(EMPTY)
    return lora, {key: tensors[key] for key in shapes}, tuple(remarks)


def _key(name: str, places: Mapping[str, Place]) -> str:
    return peft_name(places[name]) if name in places else name


def read_chat_template(files: Mapping[str, bytes]) -> str | None:
    """Return the template that an adapter brings; None where it brings none. AdapterError when it is no such text."""
    data = next((data for name, data in files.items() if re.split(r"[/\\]", name)[-1] == TEMPLATE_FILE), None)
    if data is None:
        return None
    if len(data) > MAX_TEMPLATE_BYTES:
        raise AdapterError(f"{TEMPLATE_FILE} has {len(data):,} bytes; a template has at most {MAX_TEMPLATE_BYTES:,}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AdapterError(f"{TEMPLATE_FILE} is not UTF-8: {error}") from error


def _find_file(files: Mapping[str, bytes], wanted: str) -> bytes | str:
    """Return the content of the one file of that name, or what is wrong."""
    by_base = [(name, data) for name, data in files.items() if re.split(r"[/\\]", name)[-1] == wanted]
    if len(by_base) == 1:
        return by_base[0][1]
    if by_base:
        return f"{wanted} is there {len(by_base)} times: {', '.join(name for name, _ in by_base)}; give one adapter"
    found = ", ".join(sorted(files)) or "no files"
    if wanted == WEIGHTS_FILE and any(name.endswith("adapter_model.bin") for name in files):
        return f"found adapter_model.bin, a pickle, which can run code; wanted {WEIGHTS_FILE} (save it anew with PEFT)"
    return f"{wanted} is missing; found {found}"


def _decode(
    weights: bytes, stored: Mapping[str, StoredTensor], shapes: Mapping[str, tuple[int, int]]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Decode the tensors, by PEFT's keys, that the model and the settings want; every difference is one problem.

    No others are decoded: float32 takes twice the room of what is in the file, and numpy refuses some shapes. What is
    wrong alike in many layers is said once.
    """
    problems: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)

    def wrong(key: str, said: str) -> None:
        layer = re.search(r"layers\.(\d{1,6})\.", key)
        short = re.sub(r"^.*layers\.\d+\.", "", key)
        problems[f"{short} {said}"].append((int(layer[1]) if layer else 0, f"{key} {said}"))

    for key, shape in shapes.items():
        if key not in stored:
            wrong(key, f"is missing; wanted {shape}")
    tensors = {}
    for key, tensor in stored.items():
        if key not in shapes:
            wrong(key, f"{tensor.shape} is not a tensor that this model's adapter has")
        elif tensor.shape != shapes[key]:
            wrong(key, f"is {tensor.shape}; this model needs {shapes[key]}")
        else:
            tensors[key] = safetensors.decode(weights, tensor)
            bad = np.count_nonzero(~np.isfinite(tensors[key]))
            if bad:
                wrong(key, f"holds {bad} values that are NaN or infinite")
    return tensors, in_few_lines(problems)
