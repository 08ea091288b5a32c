"""The model families, one file each. A new one is a file that answers what family.Family asks, and its place here."""

from __future__ import annotations

from ...config import ModelConfig
from . import llama
from .family import Family

FAMILIES: tuple[Family, ...] = (llama,)

_BY_NAME = {family.NAME: family for family in FAMILIES}
_BY_MODEL_TYPE = {model_type: family for family in FAMILIES for model_type in family.MODEL_TYPES}
_BY_GGUF = {architecture: family for family in FAMILIES for architecture in family.GGUF_ARCHITECTURES}


def family_of(config: ModelConfig) -> Family:
    """Return the family of a model that was opened."""
    return _BY_NAME[config.architecture]


def of_model_type(model_type: object) -> Family | str:
    """Return the family of a config.json's `model_type`, or what is wrong with it."""
    return _find(_BY_MODEL_TYPE, model_type, "config.json: model_type")


def of_gguf_architecture(architecture: object) -> Family | str:
    """Return the family of a GGUF's `general.architecture`, or what is wrong with it."""
    return _find(_BY_GGUF, architecture, "general.architecture")


def _find(known: dict[str, Family], value: object, what: str) -> Family | str:
    if isinstance(value, str) and value in known:
        return known[value]
    names = [repr(name) for name in known]
    wanted = f"{names[0]}, the only architecture so far" if len(names) == 1 else f"one of {', '.join(names)}"
    return f"{what} is {value!r}; wanted {wanted}"


__all__ = ["FAMILIES", "Family", "family_of", "of_gguf_architecture", "of_model_type"]
