"""The names of an adapter's tensors, as tools write them, and the places that they stand for."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from ..errors import AdapterError
from .adapter_fit import Place

# One way to write each number, and none of thousands of digits.
_LAYER = r"(?:^|\.)layers\.(?P<layer>0|[1-9][0-9]{0,5})\.(?P<module>[A-Za-z_][\w.]*?)"
_PEFT = re.compile(rf"(?P<head>.*?){_LAYER}\.lora_(?P<half>[AB])(?:\.(?P<adapter>[^.]+))?\.weight")
_MLX = re.compile(rf"(?P<head>.*?){_LAYER}\.lora_(?P<half>[ab])")
# What may stand before `layers.` without changing what is meant: wrappers of PEFT, torch.compile and the trainers.
_WRAPPERS = frozenset({"base_model", "model", "_orig_mod", "module"})
_PLAIN_HEAD = "base_model.model.model"


def peft_places(names: Iterable[str]) -> tuple[dict[str, Place], str | None]:
    """Return the places of the names that are LoRA matrices, and a remark where they are not PEFT's own.

    AdapterError when two of them are the same: one file then holds two adapters.
    """
    places: dict[str, Place] = {}
    adapters: dict[str, None] = {}
    other = ""
    for name in names:
        match = _PEFT.fullmatch(name.replace("._orig_mod.", "."))
        if match is None or not _is_wrapping(match["head"]):
            continue
        places[name] = (int(match["layer"]), match["module"], match["half"])
        adapters[match["adapter"] or ""] = None
        if not other and name != peft_name(places[name]):
            other = name
    _want_different(places, [adapter for adapter in adapters if adapter])
    remark = f"{other} was read as {peft_name(places[other])}, and the others alike" if other else None
    return places, remark


def mlx_places(names: Iterable[str]) -> dict[str, Place]:
    """The same for mlx-lm's names, model.layers.0.self_attn.q_proj.lora_a."""
    places = {}
    for name in names:
        match = _MLX.fullmatch(name)
        if match is not None and _is_wrapping(match["head"]):
            places[name] = (int(match["layer"]), match["module"], match["half"].upper())
    _want_different(places, [])
    return places


def peft_name(place: Place) -> str:
    """Return PEFT's own name of a matrix."""
    layer, module, half = place
    return f"{_PLAIN_HEAD}.layers.{layer}.{module}.lora_{half}.weight"


def _is_wrapping(head: str) -> bool:
    return not head or set(head.split(".")) <= _WRAPPERS


def _want_different(places: dict[str, Place], adapters: list[str]) -> None:
    by_place: defaultdict[Place, list[str]] = defaultdict(list)
    for name, place in places.items():
        by_place[place].append(name)
    double = next((found for found in by_place.values() if len(found) > 1), None)
    if double is not None:
        several = f"the file holds {len(adapters)} adapters, {', '.join(adapters)}: " if len(adapters) > 1 else ""
        raise AdapterError(f"{several}{' and '.join(double)} are the same matrix; wanted one adapter")
