"""mlx-lm's adapter: adapters.safetensors with lora_a (in, r) and lora_b (r, out), and its own adapter_config.json.

    y = x W^T + scale * (x lora_a) lora_b

so lora_a is PEFT's A transposed, lora_b its B transposed, and scale is PEFT's alpha / r. Its `keys` and `num_layers`
say which layers get one; here the tensors say it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..config import LoraConfig, ModelConfig
from ..errors import AdapterError
from . import safetensors
from .adapter_fit import Place, other_model, settle
from .adapter_names import mlx_places, peft_places
from .byte_source import FileFormatError
from .json_reader import JsonError, read_json
from .peft_config import CONFIG_FILE

MLX_WEIGHTS_FILE = "adapters.safetensors"


def read_mlx(
    config: bytes | None, weights: bytes, model: ModelConfig
) -> tuple[LoraConfig, dict[Place, np.ndarray], tuple[str, ...]]:
    """Return the settings, the matrices as PEFT has them, and remarks. AdapterError lists every problem."""
    scale, rank, problems, remarks = _read_config(config)
    try:
        stored = safetensors.read_header_of(weights, MLX_WEIGHTS_FILE)
    except FileFormatError as error:
        raise AdapterError("\n".join([*problems, str(error)])) from error
    places = mlx_places(stored)
    shapes = {place: stored[name].shape[::-1] for name, place in places.items()}
    if (sentence := other_model(shapes, model)) is not None:
        raise AdapterError(sentence)
    problems += [f"{name} {stored[name].shape} is no LoRA matrix of a layer" for name in stored if name not in places]
    found_rank, targets, misfits = settle(shapes, model)
    problems += misfits
    if rank is not None and found_rank and rank != found_rank:
        problems.append(f"{CONFIG_FILE}: lora_parameters.rank is {rank}; the matrices have rank {found_rank}")
    if problems or scale is None:
        raise AdapterError("\n".join(problems))
    tensors = {
        place: np.ascontiguousarray(safetensors.decode(weights, stored[name]).T) for name, place in places.items()
    }
    return LoraConfig(rank=found_rank, alpha=_plain(scale * found_rank), targets=targets), tensors, remarks


def write_mlx(
    tensors: Mapping[str, np.ndarray], lora: LoraConfig, model: ModelConfig, base_model_name: str | None
) -> dict[str, bytes]:
    """Return mlx-lm's two files of an adapter. `tensors` are float32 under PEFT's keys.

    mlx-lm multiplies by `scale` as it stands, so that rsLoRA needs no word of its own.
    """
    turned = {}
    for name, (layer, module, half) in peft_places(tensors)[0].items():
        turned[f"model.layers.{layer}.{module}.lora_{half.lower()}"] = np.ascontiguousarray(tensors[name].T)
    kinds = [linear.module for index in range(model.num_layers) for group in model.layer_linears(index)
             for linear in group if linear.name in lora.targets]  # fmt: skip
    config = {
        "fine_tune_type": "lora",
        "model": base_model_name,
        "num_layers": model.num_layers,
        "lora_parameters": {
            "rank": lora.rank, "scale": lora.scale, "dropout": 0.0, "keys": sorted(set(kinds), key=kinds.index)
        },
    }  # fmt: skip
    return {
        MLX_WEIGHTS_FILE: safetensors.write(turned, {"format": "mlx"}),
        CONFIG_FILE: (json.dumps(config, indent=2) + "\n").encode(),
    }


def _read_config(data: bytes | None) -> tuple[float | None, int | None, list[str], tuple[str, ...]]:
    """Return scale and rank (None where they cannot be made out), every problem, and remarks."""
    if data is None:
        return None, None, [f"{CONFIG_FILE} is missing beside {MLX_WEIGHTS_FILE}: without it the scale is unknown"], ()
    try:
        config = read_json(data)
    except JsonError as error:
        return None, None, [f"{CONFIG_FILE} is not JSON: {error}"], ()
    parameters = config.get("lora_parameters") if isinstance(config, dict) else None
    if not isinstance(parameters, dict):
        return None, None, [f"{CONFIG_FILE} has no lora_parameters; wanted mlx-lm's, with rank and scale"], ()
    problems = []
    kind = config.get("fine_tune_type", "lora")
    if kind != "lora" or config.get("use_dora") or parameters.get("use_dora"):
        found = kind if kind != "lora" else "dora"
        problems.append(f'{CONFIG_FILE}: fine_tune_type is {json.dumps(found)}; wanted "lora"')
    rank = parameters.get("rank")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        problems.append(f"{CONFIG_FILE}: lora_parameters.rank is {json.dumps(rank)}; wanted a whole number above 0")
        rank = None
    scale: Any = parameters.get("scale")
    alpha: Any = parameters.get("alpha")
    remarks: tuple[str, ...] = ()
    if scale is None and _is_number(alpha) and rank is not None:
        scale = alpha / rank
    elif scale is not None and alpha is not None:
        remarks = (f"{CONFIG_FILE} has a scale and an alpha; the scale, {scale}, counts, as in mlx-lm",)
    if not _is_number(scale):
        problems.append(f"{CONFIG_FILE}: lora_parameters.scale is {json.dumps(scale, default=str)}; wanted a number")
        scale = None
    return scale, rank, problems, remarks


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30 and math.isfinite(value)


def _plain(value: float) -> float:
    return int(value) if float(value).is_integer() else value
