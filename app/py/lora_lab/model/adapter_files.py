"""Adapters that people bring along, of every make, as the one form that is used and kept here: PEFT's files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..config import LoraConfig, ModelConfig
from ..errors import AdapterError
from ..formats.adapter_fit import Place, fill
from ..formats.adapter_names import peft_name
from ..formats.gguf_adapter import read_gguf_adapter
from ..formats.hub_id import hub_id
from ..formats.json_reader import read_json
from ..formats.mlx_adapter import MLX_WEIGHTS_FILE, read_mlx
from ..formats.peft import CARD_FILE, EMPTY, WEIGHTS_FILE, read_chat_template, read_with_remarks, write_adapter
from ..formats.peft_config import CONFIG_FILE
from .families import family_of, gguf_architectures


@dataclass(frozen=True)
class BroughtAdapter:
    """An adapter that fits the model. `files` are PEFT's: those that came, where they were that.

    `remarks` are what a person should hear of it: that it was of another make, or that it changes nothing.
    `base_model` is the name on the hub of the model that it says it was made for, None where it says none.
    """

    lora: LoraConfig
    tensors: dict[str, np.ndarray]
    files: dict[str, bytes]
    base_model: str | None = None
    remarks: tuple[str, ...] = ()


async def open_adapter(files: Mapping[str, bytes], model: ModelConfig) -> BroughtAdapter:
    """Read an adapter's files: PEFT's two, mlx-lm's two, or one GGUF. AdapterError lists every problem."""
    by_name = {re.split(r"[/\\]", name)[-1]: data for name, data in files.items()}
    ggufs = [name for name in by_name if name.lower().endswith(".gguf")]
    if WEIGHTS_FILE in by_name or not (ggufs or MLX_WEIGHTS_FILE in by_name):
        return _of_peft(files, model)
    if MLX_WEIGHTS_FILE in by_name:
        lora, found, remarks = read_mlx(by_name.get(CONFIG_FILE), by_name[MLX_WEIGHTS_FILE], model)
        base = hub_id(read_json(by_name[CONFIG_FILE]).get("model"))
        remarks = ("an adapter of mlx-lm: it is kept as PEFT's", *remarks)
    else:
        if len(ggufs) > 1:
            raise AdapterError(f"{len(ggufs)} GGUF files: {', '.join(sorted(ggufs))}; wanted one adapter")
        family, base = family_of(model), None
        lora, found = await read_gguf_adapter(
            by_name[ggufs[0]], ggufs[0], model, gguf_architectures(family), family.gguf_names(model)
        )
        remarks = ("an adapter of llama.cpp (GGUF): it is kept as PEFT's",)
    _want_finite(found)
    whole, made = fill(found, lora, model)
    if made:
        remarks += (f"{made} of {len(whole) // 2} linear layers had no adapter in it; there it changes nothing",)
    tensors = {peft_name(place): values for place, values in whole.items()}
    if not any(values.any() for (_, _, half), values in whole.items() if half == "B"):
        remarks += (EMPTY,)
    written = write_adapter(tensors, lora, model, base, read_chat_template(files))
    return BroughtAdapter(lora, tensors, written, base, remarks)


def _of_peft(files: Mapping[str, bytes], model: ModelConfig) -> BroughtAdapter:
    lora, tensors, remarks = read_with_remarks(files, model)
    kept = {re.split(r"[/\\]", name)[-1]: data for name, data in files.items()}
    config = read_json(kept[CONFIG_FILE])
    said = config.get("base_model_name_or_path")
    base = hub_id(said)
    if any(remark != EMPTY for remark in remarks):  # names that PEFT would not find
        card = {name: data for name, data in kept.items() if name == CARD_FILE}
        kept = {**write_adapter(tensors, lora, model, base, read_chat_template(files)), **card}
    elif said is not None and base != said:  # a path on somebody's machine, or an address
        kept[CONFIG_FILE] = (json.dumps({**config, "base_model_name_or_path": base}, indent=2) + "\n").encode()
    return BroughtAdapter(lora, tensors, kept, base, remarks)


def _want_finite(tensors: Mapping[Place, np.ndarray]) -> None:
    problems = []
    for place, values in tensors.items():
        bad = np.count_nonzero(~np.isfinite(values))
        if bad:
            problems.append(f"{peft_name(place)} holds {bad} values that are NaN or infinite")
    if problems:
        raise AdapterError("\n".join(problems))
