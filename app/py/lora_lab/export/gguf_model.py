"""A merged model as one GGUF file, its chat template inside.

Out of a GGUF all entries and all tensors are taken over as they are but for what the adapter changes and the form that
is asked for. Out of a folder, settings and vocabulary are written as llama.cpp's converter would; what GGUF cannot say
of the model is refused by name, or where llama.cpp only sees more than the model did, said.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..config import ModelConfig
from ..errors import ModelError
from ..formats.byte_source import BytesSource, FileFormatError
from ..formats.gguf import GgufFile
from ..formats.gguf_model import GgufSettings, gguf_name, hf_name
from ..formats.gguf_vocab import vocabulary
from ..formats.gguf_writer import NewTensor, entries_of, entry, file_size, header, padding
from ..formats.rope_scaling import LONG_FACTORS, ROPE_FACTORS, SHORT_FACTORS, llama3_factors
from ..formats.tensors import BLOCK_SIZES, StoredTensor
from ..model.checks import EMBEDDING, LM_HEAD, gain_names
from ..model.families import family_of, gguf_architectures
from .base import Base
from .merge import Adapted, Change, changed
from .sink import NewFile

SAME = "same"  # each tensor in the form that it has in the base
FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7, "bf16": 32}  # general.file_type
QUANTIZATION_VERSION = 2
# Said of a model by its file, and wrong of the merged one.
_ITS_OWN = frozenset({"general.file_type", "general.quantization_version", "general.name", "general.size_label"})


@dataclass(frozen=True)
class _Planned:
    """A tensor of the new file: what it comes from and what becomes of it, or its bytes."""

    new: NewTensor
    stored: StoredTensor | None
    change: Change
    data: bytes = b""


async def merged_gguf(
    base: Base, adapted: Adapted, form: str, file_name: str, template: str | None
) -> tuple[NewFile, tuple[str, ...]]:
    """Return the file, and remarks. `form` is SAME or one of FILE_TYPES; `template` the adapter's own, if any.

    ModelError names what cannot be said in GGUF.
    """
    remarks: tuple[str, ...] = ()
    if base.gguf is not None:
        planned = _of_gguf(base, base.gguf, adapted, form)
        entries = await entries_of(base.gguf, _ITS_OWN | ({"tokenizer.chat_template"} if template else frozenset()))
    else:
        planned = _of_folder(base, adapted, form)
        entries, remarks = _entries(base, planned)
        if template is not None:
            entries.pop("tokenizer.chat_template", None)
    if template is not None:
        entries["tokenizer.chat_template"] = entry("tokenizer.chat_template", template)
    said = {"general.name": f"{base.files.name}, merged with an adapter", **_file_type(base, form, planned)}
    entries |= {key: entry(key, value) for key, value in said.items()}
    news = [one.new for one in planned]
    # The architecture stands first: some readers want it before its settings.
    order = sorted(entries, key=lambda key: key != "general.architecture")
    head = header([entries[key] for key in order], news)

    async def pieces() -> AsyncIterator[bytes]:
        yield head
        for one in planned:
            if one.stored is None:
                yield one.data
            else:
                async for piece in changed(one.stored, one.change):
                    yield piece
            if rest := padding(one.new.size_bytes):
                yield bytes(rest)

    return NewFile(file_name, file_size(head, news), pieces), remarks


def _file_type(base: Base, form: str, planned: list[_Planned]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if form in FILE_TYPES:
        said["general.file_type"] = FILE_TYPES[form]
    elif base.gguf is not None and isinstance(known := base.gguf.scalars.get("general.file_type"), int):
        said["general.file_type"] = known
    elif base.gguf is None:
        said["general.file_type"] = FILE_TYPES[base.files.tensors[EMBEDDING].form]
    if any(BLOCK_SIZES[one.new.form][0] > 1 for one in planned):
        said["general.quantization_version"] = QUANTIZATION_VERSION
    return said


def _form(wanted: str, tensor: StoredTensor, is_matrix: bool) -> str:
    """Return the form of a tensor in the new file: small ones keep f32, rows of no whole blocks are f16."""
    if wanted == SAME:
        return tensor.form if is_matrix or tensor.form not in ("f16", "bf16") else "f32"
    if not is_matrix:
        return "f32"
    return wanted if tensor.shape[-1] % BLOCK_SIZES[wanted][0] == 0 else "f16"


def _matrices(config: ModelConfig) -> set[str]:
    linears = {f"{config.module_path(i, name)}.weight" for i in range(config.num_layers) for name in config.names_in(i)}
    return linears | {EMBEDDING, LM_HEAD}


def _of_gguf(base: Base, gguf: GgufFile, adapted: Adapted, form: str) -> list[_Planned]:
    names, pairs = family_of(base.config).gguf_names(base.config), adapted.pairs(base.config)
    matrices, planned = _matrices(base.config), []
    for name, tensor in gguf.tensors.items():
        own_name, heads = hf_name(name, names)
        is_matrix = own_name in matrices
        # What this program makes nothing of keeps its bytes, whatever form it has.
        kept = tensor.form if not is_matrix else _form(form, tensor, True)
        tensor = replace(tensor, head_permutation=heads)
        change = Change(kept, pairs.get(own_name), heads=heads)
        planned.append(_Planned(NewTensor(name, tensor.shape, kept), tensor, change))
    return planned


def _of_folder(base: Base, adapted: Adapted, form: str) -> list[_Planned]:
    config, family = base.config, family_of(base.config)
    names, pairs, matrices = family.gguf_names(config), adapted.pairs(config), _matrices(config)
    plus_one = gain_names(config) if family.NORMS_ADD_ONE else set()
    planned = [_factors(name, values) for name, values in _rope_factors(config).items()]
    for own_name, tensor in base.files.tensors.items():
        name, heads = gguf_name(own_name, names)
        kept = _form(form, tensor, own_name in matrices)
        shape = (tensor.shape[0], tensor.shape[2]) if len(tensor.shape) == 3 else tensor.shape
        change = Change(kept, pairs.get(own_name), 1.0 if own_name in plus_one else 0.0, heads)
        planned.append(_Planned(NewTensor(name, shape, kept), tensor, change))
    return planned


def _rope_factors(config: ModelConfig) -> dict[str, np.ndarray]:
    scaling = config.rope_scaling or {}
    if scaling.get("rope_type") == "llama3":
        return {ROPE_FACTORS: llama3_factors(scaling, config.rope_theta, config.head_dim)}
    if scaling.get("rope_type") == "longrope":
        return {LONG_FACTORS: np.array(scaling["long_factor"]), SHORT_FACTORS: np.array(scaling["short_factor"])}
    return {}


def _factors(name: str, values: np.ndarray) -> _Planned:
    return _Planned(NewTensor(name, values.shape, "f32"), None, Change("f32"), values.astype("<f4").tobytes())


def _entries(base: Base, planned: list[_Planned]) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """Return the entries for a model of a folder, and what is to be said of it."""
    family, config = family_of(base.config), base.config
    architecture = gguf_architectures(family)[0]
    said: dict[str, Any] = {"general.architecture": architecture, "general.type": "model"}
    if base.licence:
        said["general.license"] = base.licence
    written = family.write_gguf(config)
    said |= {f"{architecture}.{key}": value for key, value in written.items() if value is not None}
    tokens, problems = vocabulary(base.files.tokenizer, config.vocab_size)
    lost, remarks = _lost(config, architecture, said, planned)
    if problems or lost:
        raise ModelError("\n".join(f"{base.files.name}: {problem}" for problem in [*problems, *lost]))
    try:
        return {key: entry(key, value) for key, value in {**said, **tokens}.items()}, remarks
    except FileFormatError as error:
        raise ModelError(f"{base.files.name}: {error}") from error


def _lost(
    config: ModelConfig, architecture: str, said: dict[str, Any], planned: list[_Planned]
) -> tuple[list[str], tuple[str, ...]]:
    """Read the entries as a reader of GGUF would; return what of the settings is lost, and what is to be said."""
    nothing = BytesSource(b"", "")
    tensors = {one.new.name: StoredTensor(one.new.name, one.new.shape, one.new.form, nothing, 0, 0) for one in planned}
    settings = GgufSettings(GgufFile(nothing, 3, said, tensors), architecture)
    again = family_of(config).read_gguf(settings, config.eos_token_ids, config.name)
    if again is None:
        return settings.problems, ()
    same: dict[str, Any] = {"architecture": config.architecture, "bos_token_id": config.bos_token_id}
    if _rope_factors(config):  # they stand in tensors
        same["rope_scaling"] = config.rope_scaling
    again = replace(again, **same)
    lost = [name for name, value in vars(config).items() if getattr(again, name) != value]
    windows = [[layer.window for layer in one.layers] for one in (config, again)]
    without = [tuple(replace(one.layer(i), window=None) for i in range(config.num_layers)) for one in (config, again)]
    if "layers" in lost and without[0] == without[1]:
        lost.remove("layers")
        window = next((found for found in windows[0] if found is not None), None)
        said_of_it = f"GGUF does not say this model's window of {window} tokens: llama.cpp sees all of a longer text"
        return [f"{name} cannot be said in GGUF" for name in lost], (said_of_it,)
    return [f"{name} cannot be said in GGUF" for name in lost], ()
