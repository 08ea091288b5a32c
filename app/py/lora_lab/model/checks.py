"""Whether a model's files fit together: what its family's settings need, held against what is there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..config import ModelConfig
from ..formats.tensors import FORMS, StoredTensor
from .families import family_of

EMBEDDING, LM_HEAD = "model.embed_tokens.weight", "lm_head.weight"


def needed_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor that a model of these settings has, in the order in which data passes them."""
    family, hidden = family_of(config), config.hidden_size
    shapes: dict[str, tuple[int, ...]] = {EMBEDDING: (config.vocab_size, hidden)}
    for index in range(config.num_layers):
        vectors = family.block_vectors(config, index)
        for name in family.block_order(config, index):
            if name in vectors:
                shapes[f"model.layers.{index}.{name}"] = vectors[name]
            else:
                shapes[f"{config.module_path(index, name)}.weight"] = config.linear_shape(index, name)
    shapes[family.FINAL_NORM] = (hidden,)
    if not config.tie_word_embeddings:
        shapes[LM_HEAD] = (config.vocab_size, hidden)
    return shapes


def gain_names(config: ModelConfig) -> set[str]:
    """Return the names of the norms' gains, to which some families' files add 1 and others do not."""
    family = family_of(config)
    gains = {family.FINAL_NORM}
    for index in range(config.num_layers):
        vectors = family.block_vectors(config, index)
        gains |= {f"model.layers.{index}.{name}" for name in vectors if "norm" in name}
    return gains


def with_gains(tensors: Mapping[str, StoredTensor], config: ModelConfig, add_one: bool) -> dict[str, StoredTensor]:
    """Return the tensors, norms' gains becoming when they are read what the kernels multiply by.

    `add_one`: the file holds them less 1, as Hugging Face's files of some families do.
    """
    family, found = family_of(config), dict(tensors)
    if add_one:
        found |= {name: replace(found[name], plus=1.0) for name in gain_names(config)}
    if config.logit_scale != 1.0:
        found[family.FINAL_NORM] = replace(found[family.FINAL_NORM], times=config.logit_scale)
    return found


def tensor_problems(tensors: Mapping[str, StoredTensor], config: ModelConfig) -> list[str]:
    """Hold the tensors against the settings: missing, wrong in shape, unexpected, stored in a form we cannot use."""
    if config.num_layers > len(tensors):  # before a number out of a damaged file makes a list of that length
        return [f"the model's settings say {config.num_layers} layers, but there are only {len(tensors)} tensors"]
    problems = []
    shapes = needed_shapes(config)
    by_form: dict[str, list[str]] = defaultdict(list)
    for name, shape in shapes.items():
        tensor = tensors.get(name)
        if tensor is None:
            problems.append(f"{name} is missing; wanted {shape}")
        elif tensor.shape != shape:
            problems.append(f"{name} is {tensor.shape}; the model's settings want {shape}")
        elif tensor.form not in FORMS:
            by_form[tensor.form].append(name)
    for form, names in by_form.items():
        more = f" and {len(names) - 1} more tensors are" if len(names) > 1 else " is"
        problems.append(f"{names[0]}{more} stored as {form.upper()}; wanted one of {', '.join(FORMS).upper()}")
    # Buffers that old versions saved, and an output layer that is a copy of the embedding, do no harm. Anything else
    # means that the model computes something which we would leave out.
    harmless = {LM_HEAD} if config.tie_word_embeddings else set()
    extra = sorted(name for name in tensors if name not in shapes and name not in harmless and "rotary_emb" not in name)
    if extra:
        more = f" and {len(extra) - 5} more" if len(extra) > 5 else ""
        kind = f"{family_of(config).TITLE} of {config.num_layers} layers"
        problems.append(f"{', '.join(extra[:5])}{more}: no such tensor in a {kind}")
    return problems


def token_problems(tokenizer_json: Mapping[str, Any], config: ModelConfig) -> list[str]:
    """A token without a row in the embedding could be fed to the model, and would read past its end."""
    model = tokenizer_json.get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    ids = (
        list(vocab.values()) if isinstance(vocab, dict) else list(range(len(vocab))) if isinstance(vocab, list) else []
    )
    if not ids or not all(type(token_id) is int for token_id in ids):
        return ["tokenizer.json has no vocabulary, numbers by token, in model.vocab"]
    added = tokenizer_json.get("added_tokens") or []
    if not isinstance(added, list) or not all(_is_added_token(entry) for entry in added):
        return ["tokenizer.json: added_tokens is not a list of entries with id and content"]
    ids += [entry["id"] for entry in added]
    if min(ids) < 0 or max(ids) >= config.vocab_size:
        return [
            f"the tokenizer has tokens {min(ids)} to {max(ids)}; the model's embedding has {config.vocab_size} rows"
        ]
    return []


def _is_added_token(entry: Any) -> bool:
    return isinstance(entry, dict) and type(entry.get("id")) is int and isinstance(entry.get("content"), str)
