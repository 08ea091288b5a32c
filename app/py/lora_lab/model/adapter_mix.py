"""Several adapters as one, without a kernel of its own: their matrices stand behind one another along the rank.

    sum over i of  strength_i * scale_i * B_i A_i   =   [strength_1 * scale_1 * B_1, ...] [A_1; ...]

Ranks, target layers, alphas and rsLoRA may differ. The one adapter has the rank of the fullest layer, and the scale 1;
where a layer has less, rows of zeros fill it, which add nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..config import LoraConfig, ModelConfig
from ..errors import AdapterError
from ..formats.peft import expected_shapes, tensor_key


@dataclass(frozen=True)
class WeightedAdapter:
    """One of several adapters: float32 matrices by PEFT's key, and how strongly it is applied. `name`: for errors."""

    name: str
    lora: LoraConfig
    tensors: Mapping[str, np.ndarray]
    strength: float = 1.0


def mix(parts: Sequence[WeightedAdapter], model: ModelConfig) -> tuple[LoraConfig, dict[str, np.ndarray]]:
    """Return the one adapter that adds what all of them add. A single one of strength 1 is returned as it is.

    AdapterError, naming each adapter that is of another model, and products that float32 cannot hold.
    """
    if not parts:
        raise AdapterError("there is no adapter to apply; wanted one at least")
    problems = [f"{part.name}: {problem}" for part in parts for problem in _problems(part, model)]
    if problems:
        raise AdapterError("Adapters for another model cannot be added to the others:\n" + "\n".join(problems))
    if len(parts) == 1 and parts[0].strength == 1.0:
        return parts[0].lora, dict(parts[0].tensors)

    parts = [part for part in parts if part.strength] or parts[:1]  # one of strength 0 takes no room
    targets = model.chosen_linears({name for part in parts for name in part.lora.targets})
    rank = max(sum(part.lora.rank for part in parts if name in part.lora.targets) for name in targets)
    lora = LoraConfig(rank=rank, alpha=rank, targets=targets)
    tensors: dict[str, np.ndarray] = {}
    for index in range(model.num_layers):
        for name in (target for target in targets if target in model.names_in(index)):
            out_size, in_size = model.linear_shape(index, name)
            a, b = np.zeros((rank, in_size), np.float32), np.zeros((out_size, rank), np.float32)
            at = 0
            for part in (part for part in parts if name in part.lora.targets):
                rows = slice(at, at + part.lora.rank)
                factor = part.strength * part.lora.scale
                a[rows] = part.tensors[tensor_key(model, index, name, "A")]
                with np.errstate(over="ignore"):  # it is looked for below
                    b[:, rows] = factor * part.tensors[tensor_key(model, index, name, "B")].astype(np.float64)
                if not np.isfinite(b[:, rows]).all():
                    raise AdapterError(
                        f"{part.name}: strength {part.strength:g} times its scale {part.lora.scale:g} is more than "
                        f"float32 can hold in {model.module_path(index, name)}; wanted less"
                    )
                at = rows.stop
            tensors[tensor_key(model, index, name, "A")] = a
            tensors[tensor_key(model, index, name, "B")] = b
    return lora, tensors


def _problems(part: WeightedAdapter, model: ModelConfig) -> list[str]:
    """Return every difference between an adapter's matrices and those that this model takes."""
    if unknown := sorted(set(part.lora.targets) - set(model.linear_names)):
        return [f"it changes {', '.join(unknown)}; {model.name} has {', '.join(model.linear_names)}"]
    shapes = expected_shapes(part.lora, model)
    found = {key: tuple(tensor.shape) for key, tensor in part.tensors.items()}
    problems = [f"{key} is {found[key]}; {model.name} needs {shape}" for key, shape in shapes.items()
                if key in found and found[key] != shape]  # fmt: skip
    problems += [f"{key} is missing" for key in shapes if key not in found]
    problems += [f"{key} is no matrix of {model.name}" for key in found if key not in shapes]
    return problems[:3] + ([f"and {len(problems) - 3} more differences"] if len(problems) > 3 else [])
