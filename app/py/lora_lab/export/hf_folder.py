"""A merged model as a Hugging Face folder: safetensors, in shards above 2 GB, config and tokenizer as transformers has
them. A base that came as GGUF gets a config.json that says the settings which were read from it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from ..errors import ModelError
from ..formats import safetensors
from ..formats.hf_config import HfConfig
from ..formats.peft import TEMPLATE_FILE
from ..model.checks import gain_names
from ..model.families import family_of
from ..model.folder import INDEX_FILE, WHOLE_FILE
from .base import LICENCE_FILES, TOKENIZER_FILES, Base, as_json
from .merge import Adapted, Change, changed, changed_size
from .sink import NewFile

MAX_SHARD_BYTES = 2_000_000_000
DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}


def merged_folder(base: Base, adapted: Adapted, form: str, template: str | None, card: bytes) -> list[NewFile]:
    """Return the folder's files. `template` is the adapter's own; None where the model's holds. ModelError names why
    a GGUF's settings cannot be said in config.json.
    """
    small = {**_settings(base, form), **_tokenizer(base, template), "README.md": card}
    return [NewFile.of(name, content) for name, content in small.items()] + _weights(base, adapted, form)


def _weights(base: Base, adapted: Adapted, form: str) -> list[NewFile]:
    changes = _changes(base, adapted, form)
    shards: list[list[str]] = [[]]
    room = MAX_SHARD_BYTES
    for name, tensor in base.files.tensors.items():
        size = changed_size(tensor, form)
        if size > room and shards[-1]:
            shards.append([])
            room = MAX_SHARD_BYTES
        shards[-1].append(name)
        room -= size
    if len(shards) == 1:
        return [_shard(base, WHOLE_FILE, shards[0], changes)]
    names = [f"model-{number + 1:05}-of-{len(shards):05}.safetensors" for number in range(len(shards))]
    weight_map = {tensor: file for file, shard in zip(names, shards, strict=True) for tensor in shard}
    total = sum(changed_size(tensor, form) for tensor in base.files.tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    files = [_shard(base, name, shard, changes) for name, shard in zip(names, shards, strict=True)]
    return [*files, NewFile.of(INDEX_FILE, as_json(index))]


def _changes(base: Base, adapted: Adapted, form: str) -> dict[str, Change]:
    """Return what becomes of each tensor. Norms of a GGUF have the 1 added that this family's safetensors lack."""
    less_one = gain_names(base.config) if base.gguf is not None and family_of(base.config).NORMS_ADD_ONE else set()
    pairs = adapted.pairs(base.config)
    return {name: Change(form, pairs.get(name), -1.0 if name in less_one else 0.0) for name in base.files.tensors}


def _shard(base: Base, name: str, tensors: list[str], changes: dict[str, Change]) -> NewFile:
    stored = base.files.tensors
    entries = {tensor: (changes[tensor].form, stored[tensor].shape) for tensor in tensors}
    head, order = safetensors.lay_out(entries, {"format": "pt"})

    async def pieces() -> AsyncIterator[bytes]:
        yield head
        for tensor in order:
            async for piece in changed(stored[tensor], changes[tensor]):
                yield piece

    size = len(head) + sum(changed_size(stored[tensor], changes[tensor].form) for tensor in tensors)
    return NewFile(name, size, pieces)


def _settings(base: Base, form: str) -> dict[str, bytes]:
    if base.gguf is None:
        config = base.json_file("config.json")
        key = "torch_dtype" if "torch_dtype" in config and "dtype" not in config else "dtype"
        found = {"config.json": as_json({**config, key: DTYPES[form]})}
        if "generation_config.json" in base.small:
            found["generation_config.json"] = base.small["generation_config.json"]
        return found
    written = family_of(base.config).write_hf(base.config)
    _want_the_same(base, written)
    config = {**written, "dtype": DTYPES[form], "pad_token_id": _pad_token_id(base)}
    generation = {"bos_token_id": config["bos_token_id"], "eos_token_id": config["eos_token_id"],
                  "pad_token_id": config["pad_token_id"]}  # fmt: skip
    said = {key: value for key, value in generation.items() if value is not None}
    return {"config.json": as_json(config), "generation_config.json": as_json(said)}


def _want_the_same(base: Base, written: dict[str, Any]) -> None:
    """Hold what was written against what was read: a setting that is lost would be another model."""
    reading = HfConfig(written, {})
    again = family_of(base.config).read_hf(reading, base.config.name)
    lost = [] if again is None else [
        name for name, value in vars(base.config).items() if getattr(again, name) != value
    ]  # fmt: skip
    if again is None or lost:
        said = "; ".join(reading.problems) or ", ".join(lost)
        raise ModelError(f"{base.files.name}: config.json cannot say this model's settings: {said}")


def _pad_token_id(base: Base) -> int | None:
    pad = base.files.tokenizer.special_tokens.get("pad_token")
    found = base.files.tokenizer.tokenizer_json.get("added_tokens") or []
    return next((entry["id"] for entry in found if entry["content"] == pad), None)


def _tokenizer(base: Base, template: str | None) -> dict[str, bytes]:
    """Return the tokenizer's files, and the licence's. An adapter's own template takes the place of the model's."""
    if base.gguf is None:
        names = [name for name in (*TOKENIZER_FILES, *LICENCE_FILES) if name in base.small]
        found = {name: base.small[name] for name in names}
        if template is not None:
            config = base.json_file("tokenizer_config.json")
            config.pop("chat_template", None)
            found |= {"tokenizer_config.json": as_json(config), TEMPLATE_FILE: template.encode()}
        return found
    tokenizer = base.files.tokenizer
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **tokenizer.special_tokens,
        "clean_up_tokenization_spaces": False,
        "model_max_length": base.config.max_position_embeddings,
    }
    found = {"tokenizer.json": as_json(tokenizer.tokenizer_json), "tokenizer_config.json": as_json(tokenizer_config)}
    template = template if template is not None else tokenizer.chat_template
    return found if template is None else {**found, TEMPLATE_FILE: template.encode()}
