"""Opening a model: from a GGUF file or its parts, or a Hugging Face folder, to settings, tensors and tokenizer.

Only headers and small files are read here; the weights stay where they are until they go to the GPU. Everything is
checked first, and all problems are in one ModelError.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..config import ModelConfig
from ..errors import ModelError
from ..formats import gguf_tokenizer
from ..formats.byte_source import ByteSource, FileFormatError, base_name
from ..formats.gguf import MAGIC, GgufFile
from ..formats.gguf_model import GgufSettings, rename_tensors
from ..formats.gguf_split import read_parts
from ..formats.hub_id import hub_id_of_gguf
from ..formats.part_names import whole_name
from ..formats.rope_scaling import LONG_FACTORS, ROPE_FACTORS, SHORT_FACTORS, scaling_from_factors
from ..formats.tensors import StoredTensor
from ..formats.tokenizer_files import TokenizerFiles
from .checks import EMBEDDING, LM_HEAD, needed_shapes, tensor_problems, token_problems, with_gains
from .families import family_of, of_gguf_architecture
from .folder import open_folder
from .model_files import ModelFiles

__all__ = ["EMBEDDING", "LM_HEAD", "ModelFiles", "TokenizerFiles", "needed_shapes", "open_model"]


async def open_model(files: Sequence[ByteSource]) -> ModelFiles:
    """Open one .gguf file or its parts, or a Hugging Face folder's files (others beside them do not matter).

    ModelError names every problem that was found, one a line: with what was found and what was wanted.
    """
    if not files:
        raise ModelError("no files; wanted a .gguf file, or config.json, tokenizer.json and model.safetensors")
    try:
        ggufs = [source for source in files if source.name.lower().endswith(".gguf")]
        if len(files) == 1 and not ggufs and files[0].size_bytes >= 4:
            ggufs = [files[0]] if bytes(await files[0].read(0, 4)) == MAGIC else []
        configs = [source for source in files if base_name(source) == "config.json"]
        if configs and ggufs:
            raise ModelError(f"both config.json and {ggufs[0].name} are there; wanted a folder or one .gguf file")
        opened = await _open_gguf(ggufs) if ggufs else await open_folder(files)
        return replace(opened, sources=tuple(files))
    except FileFormatError as error:
        raise ModelError(str(error)) from error


async def _open_gguf(sources: Sequence[ByteSource]) -> ModelFiles:
    gguf = await read_parts(sources)
    source = gguf.source
    tokenizer_json, problems = gguf_tokenizer.build_tokenizer_json(gguf.metadata)
    eos_token_ids = gguf_tokenizer.end_token_ids(gguf.metadata, tokenizer_json)
    named = gguf.metadata.get("general.name")
    name = named if isinstance(named, str) and named else whole_name(base_name(source))
    config, settings_problems = _read_config(gguf, eos_token_ids, name)
    problems = settings_problems + problems
    tensors: dict[str, StoredTensor] = {}
    if config is not None:
        config, rope_problems = await _apply_rope_factors(gguf, config)
        tensors, name_problems = rename_tensors(gguf, family_of(config).gguf_names(config))
        problems += rope_problems + name_problems + tensor_problems(tensors, config)
        problems += token_problems(tokenizer_json, config) if tokenizer_json else []
    if config is None or problems:
        raise ModelError("\n".join(f"{source.name}: {problem}" for problem in problems))
    template = gguf.metadata.get("tokenizer.chat_template")
    tokenizer = TokenizerFiles(
        tokenizer_json,
        template if isinstance(template, str) else None,
        gguf_tokenizer.special_tokens(gguf.metadata),
    )
    needed = {key: tensors[key] for key in needed_shapes(config)}
    hub_id = hub_id_of_gguf(gguf.scalars, base_name(source).removesuffix(".gguf"))
    return ModelFiles(config, with_gains(needed, config, add_one=False), tokenizer, name, hub_id)


def _read_config(gguf: GgufFile, eos_token_ids: tuple[int, ...], name: str) -> tuple[ModelConfig | None, list[str]]:
    if gguf.scalars.get("general.type") == "adapter":
        return None, ["this is a LoRA adapter in GGUF form; wanted a model (add it as an adapter)"]
    architecture = gguf.scalars.get("general.architecture")
    family = of_gguf_architecture(architecture)
    if isinstance(family, str):
        return None, [family]
    settings = GgufSettings(gguf, str(architecture))
    return family.read_gguf(settings, eos_token_ids, name), settings.problems


async def _apply_rope_factors(gguf: GgufFile, config: ModelConfig) -> tuple[ModelConfig, list[str]]:
    """Take RoPE's factors from the tensors in which llama.cpp keeps them: Llama 3's scaling's result, or longrope's."""
    if (config.rope_scaling or {}).get("rope_type") == "longrope":
        half = (config.rotary_dim or config.head_dim) // 2
        found = {}
        for field, name in (("long_factor", LONG_FACTORS), ("short_factor", SHORT_FACTORS)):
            if gguf.tensors[name].shape != (half,):
                shape = gguf.tensors[name].shape
                return config, [f"{name} is {shape}; wanted ({half},), one for each pair of channels"]
            found[field] = (await gguf.tensors[name].to_f32()).tolist()
        return replace(config, rope_scaling={**(config.rope_scaling or {}), **found}), []
    tensor = gguf.tensors.get(ROPE_FACTORS)
    if tensor is None:
        return config, []
    scaling = None
    if tensor.shape == (config.head_dim // 2,):  # before a tensor of any size becomes float32
        scaling = scaling_from_factors(await tensor.to_f32(), config.rope_theta, config.head_dim)
    if scaling is None:
        return config, [f"{ROPE_FACTORS} is not of the kind of Llama 3; other RoPE scalings are not supported"]
    return replace(config, rope_scaling=scaling), []
