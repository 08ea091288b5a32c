"""One adapter as other tools write it: mlx-lm's two files, llama.cpp's GGUF. From PEFT's tensors, by their rules."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from lora_lab.config import LoraConfig, ModelConfig
from lora_lab.model.families import family_of

PREFIX = "base_model.model."


def as_mlx(tensors: Mapping[str, np.ndarray], lora: LoraConfig, **config: Any) -> dict[str, bytes]:
    """Return mlx-lm's files: everything transposed, the scale by itself, its own config."""
    turned = {
        key.removeprefix(PREFIX).replace(".lora_A.weight", ".lora_a").replace(".lora_B.weight", ".lora_b"):
        np.ascontiguousarray(values.T) for key, values in tensors.items()
    }  # fmt: skip
    said = {
        "fine_tune_type": "lora", "num_layers": -1, "model": "tests/tiny", "adapter_path": "adapters", "iters": 10,
        "lora_parameters": {"rank": lora.rank, "scale": lora.scale, "dropout": 0.0},
    }  # fmt: skip
    return {
        "adapters.safetensors": save(turned),
        "adapter_config.json": json.dumps({**said, **config}).encode(),
    }


def as_gguf(
    path: Path, tensors: Mapping[str, np.ndarray], lora: LoraConfig, model: ModelConfig, architecture: str,
    permuted: bool, form: str = "f32", **fields: Any,
) -> dict[str, bytes]:  # fmt: skip
    """Return llama.cpp's file: `permuted` says whether q and k are stored with each head's rows interleaved."""
    import gguf

    from tests.tiny_gguf import permute

    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type(fields.get("type", "adapter"))
    writer.add_string("adapter.type", fields.get("adapter_type", "lora"))
    writer.add_float32("adapter.lora.alpha", fields.get("alpha", float(lora.alpha)))
    names = {module: name for name, module in family_of(model).gguf_names(model).layer.items()}
    for key, values in tensors.items():
        layer, _, rest = key.removeprefix(PREFIX + "model.layers.").partition(".")
        module, _, half = rest.removesuffix(".weight").partition(".lora_")
        if permuted and half == "B" and module.endswith(("q_proj", "k_proj")):
            values = permute(values, model.num_heads if module.endswith("q_proj") else model.num_kv_heads)
        kind = gguf.GGMLQuantizationType[form.upper()]
        data = gguf.quants.quantize(values, kind)
        writer.add_tensor(f"blk.{layer}.{names[module]}.weight.lora_{half.lower()}", data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return {path.name: path.read_bytes()}
