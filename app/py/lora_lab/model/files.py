"""Opening a model: from a GGUF file, or the files of a Hugging Face folder, to settings, tensors and tokenizer.

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
from ..formats.gguf import MAGIC, GgufFile, read_gguf
from ..formats.gguf_model import GgufSettings, rename_tensors
from ..formats.rope_scaling import ROPE_FACTORS, scaling_from_factors
from ..formats.tensors import StoredTensor
from ..formats.tokenizer_files import TokenizerFiles
from .checks import EMBEDDING, LM_HEAD, needed_shapes, tensor_problems, token_problems
from .families import family_of, of_gguf_architecture
from .folder import open_folder
from .model_files import ModelFiles

__all__ = ["EMBEDDING", "LM_HEAD", "ModelFiles", "TokenizerFiles", "needed_shapes", "open_model"]


async def open_model(files: Sequence[ByteSource]) -> ModelFiles:
    """Open one .gguf file, or the files of a Hugging Face folder (others beside them do not matter).

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
        if len(ggufs) > 1:
            raise ModelError(f"{len(ggufs)} GGUF files: {', '.join(source.name for source in ggufs)}; wanted one")
        return await _open_gguf(ggufs[0]) if ggufs else await open_folder(files)
    except FileFormatError as error:
        raise ModelError(str(error)) from error


async def _open_gguf(source: ByteSource) -> ModelFiles:
    gguf = await read_gguf(source)
    tokenizer_json, problems = gguf_tokenizer.build_tokenizer_json(gguf.metadata)
    eos_token_ids = gguf_tokenizer.end_token_ids(gguf.metadata, tokenizer_json)
    named = gguf.metadata.get("general.name")
    name = named if isinstance(named, str) and named else base_name(source).removesuffix(".gguf")
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
    return ModelFiles(config, {key: tensors[key] for key in needed_shapes(config)}, tokenizer, name)


def _read_config(
    gguf: GgufFile, eos_token_ids: tuple[int, ...], name: str
) -> tuple[ModelConfig | None, list[str]]:
    if gguf.scalars.get("general.type") == "adapter":
        return None, ["this is a LoRA adapter in GGUF form; wanted a model"]
    architecture = gguf.scalars.get("general.architecture")
    family = of_gguf_architecture(architecture)
    if isinstance(family, str):
        return None, [family]
    settings = GgufSettings(gguf, str(architecture))
    return family.read_gguf(settings, eos_token_ids, name), settings.problems


async def _apply_rope_factors(gguf: GgufFile, config: ModelConfig) -> tuple[ModelConfig, list[str]]:
    """Take Llama 3's RoPE scaling from the tensor in which llama.cpp keeps its result."""
    tensor = gguf.tensors.get(ROPE_FACTORS)
    if tensor is None:
        return config, []
    scaling = None
    if tensor.shape == (config.head_dim // 2,):  # before a tensor of any size becomes float32
        scaling = scaling_from_factors(await tensor.to_f32(), config.rope_theta, config.head_dim)
    if scaling is None:
        return config, [
            f"{ROPE_FACTORS} is not of the kind of Llama 3; other RoPE scalings are not supported"
        ]
    return replace(config, rope_scaling=scaling), []
