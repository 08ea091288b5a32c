"""The model families, one file each. A new one is a file that answers what family.Family asks, and its place here."""

from __future__ import annotations

from ...config import ModelConfig
from . import gemma2, gemma3, granite, lfm2, llama, mistral, olmo2, phi3, qwen2, qwen3, smollm3
from .family import Family

FAMILIES: tuple[Family, ...] = (llama, mistral, qwen2, qwen3, gemma2, gemma3, smollm3, granite, olmo2, phi3, lfm2)

_BY_NAME = {family.NAME: family for family in FAMILIES}
_BY_MODEL_TYPE = {model_type: family for family in FAMILIES for model_type in family.MODEL_TYPES}
_BY_GGUF = {architecture: family for family in FAMILIES for architecture in family.GGUF_ARCHITECTURES}

# Parts of the names of what people bring and no family here can do, and what it would need.
_NEEDS = {
    "moe": ", a mixture of experts, which is not supported",
    "mixtral": ", a mixture of experts, which is not supported",
    "mamba": ", a state space model, which is not supported",
    "rwkv": ", a recurrent model, which is not supported",
    "vl": ", a model that sees pictures, which is not supported",
    "vision": ", a model that sees pictures, which is not supported",
    "llava": ", a model that sees pictures, which is not supported",
    "whisper": ", a model of speech, which is not supported",
    "bert": ", a model that reads and does not write",
    "t5": ", a model with an encoder, which is not supported",
}


def family_of(config: ModelConfig) -> Family:
    """Return the family of a model that was opened."""
    return _BY_NAME[config.architecture]


def gguf_architectures(family: Family) -> tuple[str, ...]:
    """Return the values of `general.architecture` that files for this family's models have.

    One that GGUF does not tell from another (Mistral) goes by that one's name, as its tensors do.
    """
    same = (one.GGUF_ARCHITECTURES for one in FAMILIES if one.gguf_names == family.gguf_names)
    return family.GGUF_ARCHITECTURES or next((found for found in same if found), ())


def of_model_type(model_type: object) -> Family | str:
    """Return the family of a config.json's `model_type`, or what is wrong with it."""
    return _find(_BY_MODEL_TYPE, model_type, "config.json: model_type")


def of_gguf_architecture(architecture: object) -> Family | str:
    """Return the family of a GGUF's `general.architecture`, or what is wrong with it."""
    return _find(_BY_GGUF, architecture, "general.architecture")


def _find(known: dict[str, Family], value: object, what: str) -> Family | str:
    if isinstance(value, str) and value in known:
        return known[value]
    needs = next((why for name, why in _NEEDS.items() if name in str(value).lower()), "")
    return f"{what} is {value!r}{needs}; wanted one of {', '.join(map(repr, known))}"


__all__ = ["FAMILIES", "Family", "family_of", "gguf_architectures", "of_gguf_architecture", "of_model_type"]
