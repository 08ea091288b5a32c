"""Whose adapter it is: its matrices' places and shapes held against a model's, and what is wrong in as few words as do.

Every format's reader brings its matrices into one form first: (layer, module, "A" or "B") with PEFT's shapes, A (r, in)
and B (out, r).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from ..config import LinearLayer, LoraConfig, ModelConfig

Place = tuple[int, str, str]  # layer, module path inside the block, "A" or "B"
Shape = tuple[int, ...]

_NAMED = 4  # differences that are named in a sentence


def other_model(shapes: Mapping[Place, Shape], model: ModelConfig, all_layers: bool = True) -> str | None:
    """Return one sentence if the matrices belong to a model of other dimensions, None if they may fit this one.

    `all_layers`: the adapter was to reach every layer, so that fewer of them tell of a shallower model.
    """
    flat = {place: shape for place, shape in shapes.items() if len(shape) == 2}
    if not flat:
        return None
    layers = max(layer for layer, _, _ in flat) + 1
    width = _width(flat, model)
    shallow = all_layers and _lacks_layers(flat, model)
    if layers > model.num_layers or width not in (None, model.hidden_size) or shallow:
        if width is None:
            return f"the adapter was made for a model of {_count(layers)}; this one has {model.num_layers}"
        return (
            f"the adapter was made for a model of {_count(layers)} and width {width}; this one has {model.num_layers} "
            f"and {model.hidden_size}"
        )
    known = {linear.module for index in range(model.num_layers) for linear in _linears(model, index).values()}
    if strange := sorted({module for _, module, _ in flat if module not in known}):
        return (
            f"the adapter was made for another kind of model: it has {_listed(strange)}, which this one has not; "
            f"wanted some of {', '.join(sorted(known))}"
        )
    if differences := _differences(flat, model):
        return (
            f"the adapter was made for another model of {_count(layers)} and width {model.hidden_size}: "
            f"{_listed(differences)}"
        )
    return None


def _count(layers: int) -> str:
    return f"{layers} layer{'s' if layers != 1 else ''}"


def one_rank(shapes: Mapping[Place, Shape]) -> int | None:
    """Return the rank that all matrices have; None where they differ."""
    ranks = {shape[0 if half == "A" else 1] for (_, _, half), shape in shapes.items() if len(shape) == 2}
    return ranks.pop() if len(ranks) == 1 else None


def _linears(model: ModelConfig, index: int) -> dict[str, LinearLayer]:
    return {linear.module: linear for group in model.layer_linears(index) for linear in group}


def _lacks_layers(shapes: Mapping[Place, Shape], model: ModelConfig) -> bool:
    """Whether it has every matrix of the first layers and none of the last: those of a shallower model."""
    found: dict[int, set[str]] = defaultdict(set)
    for layer, module, _ in shapes:
        found[layer].add(module)
    last = max(found)
    return last + 1 < model.num_layers and all(layer in found for layer in range(last + 1))


def _width(shapes: Mapping[Place, Shape], model: ModelConfig) -> int | None:
    """Return the width of the model that the matrices were made for, as most of them say it; None where none does."""
    votes: Counter[int] = Counter()
    for (_, module, half), shape in shapes.items():
        linear = next((found[module] for i in range(model.num_layers) if module in (found := _linears(model, i))), None)
        if linear is None:
            continue
        if half == "A" and linear.in_size == model.hidden_size:
            votes[shape[1]] += 1
        elif half == "B" and linear.out_size == model.hidden_size:
            votes[shape[0]] += 1
    width, count = votes.most_common(1)[0] if votes else (None, 0)
    return width if 2 * count > votes.total() else None


def _differences(shapes: Mapping[Place, Shape], model: ModelConfig) -> list[str]:
    """Return where the matrices of a module are all of another size than this model's."""
    found: dict[tuple[str, str], Counter[tuple[int, int]]] = defaultdict(Counter)
    for (layer, module, half), shape in shapes.items():
        linear = _linears(model, layer).get(module)
        if linear is not None:
            pair = (shape[1], linear.in_size) if half == "A" else (shape[0], linear.out_size)
            found[module, half][pair] += 1
    said = []
    for (module, half), pairs in found.items():
        has, wants = next(iter(pairs))
        if len(pairs) == 1 and has != wants and (sum(pairs.values()) > 1 or model.num_layers == 1):
            said.append(f"its {module} {'takes' if half == 'A' else 'gives'} {has} values, this one's {wants}")
    return said


def _listed(words: Sequence[str]) -> str:
    more = f" and {len(words) - _NAMED} more" if len(words) > _NAMED else ""
    return ", ".join(words[:_NAMED]) + more


def settle(shapes: Mapping[Place, Shape], model: ModelConfig) -> tuple[int, tuple[str, ...], list[str]]:
    """Return the rank and the layers' names of matrices whose file says neither for sure, and every problem.

    Of other dimensions they are not: see `other_model`.
    """
    problems = []
    names: set[str] = set()
    ranks: Counter[int] = Counter()
    for (layer, module, half), shape in shapes.items():
        other = "B" if half == "A" else "A"
        if (layer, module, other) not in shapes:
            problems.append(f"layers.{layer}.{module} has lora_{half} and no lora_{other}")
        linear = _linears(model, layer).get(module)
        if linear is None:
            problems.append(f"layers.{layer}.{module} is no linear layer of this model")
            continue
        names.add(linear.name)
        rank = shape[0 if half == "A" else 1] if len(shape) == 2 else 0
        ranks[rank] += 1
        wanted = (rank, linear.in_size) if half == "A" else (linear.out_size, rank)
        if shape != wanted or not rank:
            problems.append(f"layers.{layer}.{module}.lora_{half} is {shape}; this model needs {wanted}")
    if len(ranks) > 1:
        problems.append(f"the matrices have ranks {', '.join(map(str, sorted(ranks)))}; wanted one for all")
    if not shapes:
        problems.append("there is no LoRA matrix in it")
    return max(ranks, default=0), model.chosen_linears(names), problems


def fill(
    tensors: Mapping[Place, np.ndarray], lora: LoraConfig, model: ModelConfig
) -> tuple[dict[Place, np.ndarray], int]:
    """Return the pairs of every layer, and how many had to be made: they change nothing, for their B is zero.

    A made A has the values that a new adapter begins with, so that training can go on from it.
    """
    whole, made = {}, 0
    for index in range(model.num_layers):
        own = model.names_in(index)
        for name in (target for target in lora.targets if target in own):
            linear = model.linear(index, name)
            for half in "AB":
                place = (index, linear.module, half)
                if place in tensors:
                    whole[place] = tensors[place]
                elif half == "A":
                    made += 1
                    bound = linear.in_size**-0.5
                    random = np.random.Generator(np.random.PCG64([index, made]))
                    whole[place] = random.uniform(-bound, bound, (lora.rank, linear.in_size)).astype(np.float32)
                else:
                    whole[place] = np.zeros((linear.out_size, lora.rank), np.float32)
    return whole, made


def in_few_lines(problems: Mapping[str, Sequence[tuple[int, str]]]) -> list[str]:
    """Return problems by their words, each with (layer, the line that says it alone): one line for many layers."""
    lines = []
    for said, found in problems.items():
        if len(found) < 3:
            lines += [line for _, line in found]
        else:
            layers = sorted({layer for layer, _ in found})
            lines.append(f"{said} (in {len(layers)} layers, first in layer {layers[0]})")
    return lines
