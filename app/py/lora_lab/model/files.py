"""Opening a model: from a GGUF file, or the files of a Hugging Face folder, to settings, tensors and tokenizer.

Only headers and small files are read here; the weights stay where they are until they go to the GPU. Everything is
checked first, and all problems are in one ModelError.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..config import LINEAR_LAYERS, ModelConfig, module_path
from ..errors import ModelError
from ..formats import gguf_model, gguf_tokenizer, hf_config, safetensors
from ..formats.byte_source import ByteSource, FileFormatError, base_name
from ..formats.gguf import MAGIC, GgufFile, read_gguf
from ..formats.tensors import FORMS, StoredTensor
from ..formats.tokenizer_files import TokenizerFiles

INDEX_FILE = "model.safetensors.index.json"
WHOLE_FILE = "model.safetensors"


@dataclass(frozen=True)
class ModelFiles:
    """A model whose files fit together: every tensor that the settings need is there and has the right shape."""

    config: ModelConfig
    tensors: dict[str, StoredTensor]  # by Hugging Face's names
    tokenizer: TokenizerFiles
    name: str


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
        return await _open_gguf(ggufs[0]) if ggufs else await _open_folder(files)
    except FileFormatError as error:
        raise ModelError(str(error)) from error


async def _open_gguf(source: ByteSource) -> ModelFiles:
    gguf = await read_gguf(source)
    tokenizer_json, problems = gguf_tokenizer.build_tokenizer_json(gguf.metadata)
    eos_token_ids = gguf_tokenizer.end_token_ids(gguf.metadata, tokenizer_json)
    named = gguf.metadata.get("general.name")
    name = named if isinstance(named, str) and named else base_name(source).removesuffix(".gguf")
    config, config_problems = gguf_model.read_gguf_config(gguf, eos_token_ids, name)
    problems = config_problems + problems
    tensors: dict[str, StoredTensor] = {}
    if config is not None:
        config, rope_problems = await _apply_rope_factors(gguf, config)
        tensors, name_problems = gguf_model.rename_tensors(gguf, config)
        problems += rope_problems + name_problems + _tensor_problems(tensors, config)
        problems += _token_problems(tokenizer_json, config) if tokenizer_json else []
    if config is None or problems:
        raise ModelError("\n".join(f"{source.name}: {problem}" for problem in problems))
    template = gguf.metadata.get("tokenizer.chat_template")
    tokenizer = TokenizerFiles(
        tokenizer_json,
        template if isinstance(template, str) else None,
        gguf_tokenizer.special_tokens(gguf.metadata),
    )
    return ModelFiles(config, {key: tensors[key] for key in needed_shapes(config)}, tokenizer, name)


async def _apply_rope_factors(gguf: GgufFile, config: ModelConfig) -> tuple[ModelConfig, list[str]]:
    """Take Llama 3's RoPE scaling from the tensor in which llama.cpp keeps its result."""
    tensor = gguf.tensors.get(gguf_model.ROPE_FACTORS)
    if tensor is None:
        return config, []
    scaling = None
    if tensor.shape == (config.head_dim // 2,):  # before a tensor of any size becomes float32
        scaling = gguf_model.scaling_from_factors(await tensor.to_f32(), config)
    if scaling is None:
        return config, [
            f"{gguf_model.ROPE_FACTORS} is not of the kind of Llama 3; other RoPE scalings are not supported"
        ]
    return replace(config, rope_scaling=scaling), []


async def _open_folder(files: Sequence[ByteSource]) -> ModelFiles:
    folder_name, by_name = _model_folder(files)
    problems: list[str] = []
    json_files = {
        name: await _read_json(by_name.get(name), problems)
        for name in (
            "config.json",
            "generation_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
        )
    }
    tokenizer_config = json_files["tokenizer_config.json"]
    if "config.json" not in by_name:
        found = ", ".join(sorted(by_name))
        hint = " This is a LoRA adapter." if "adapter_config.json" in by_name else ""
        raise ModelError(f"config.json is missing; found {found}.{hint} Wanted a .gguf file or a model's folder")
    if "tokenizer.json" not in by_name:
        also = "; tokenizer.model alone is not supported" if "tokenizer.model" in by_name else ""
        problems.append(f"tokenizer.json is missing{also}")
    name = folder_name or str(json_files["config.json"].get("_name_or_path") or "model").rstrip("/").rsplit("/", 1)[-1]

    template_source = by_name.get("chat_template.jinja")
    template_text = None
    if template_source is not None:
        template_text = await _read_text(template_source, problems)
    template, template_problems = hf_config.chat_template(tokenizer_config, template_text)
    special_tokens = hf_config.special_tokens(tokenizer_config, json_files["special_tokens_map.json"])
    tokenizer = TokenizerFiles(json_files["tokenizer.json"], template, special_tokens)

    config: ModelConfig | None = None
    if not any(problem.startswith("config.json ") for problem in problems):
        config, config_problems = hf_config.read_model_config(
            json_files["config.json"], json_files["generation_config.json"], name
        )
        problems += config_problems
    problems += template_problems
    tensors = await _folder_tensors(by_name, problems)
    if config is not None:
        if tensors:
            problems += _tensor_problems(tensors, config)
        if not any(problem.startswith("tokenizer.json ") for problem in problems):
            token_problems = _token_problems(tokenizer.tokenizer_json, config)
            problems += token_problems
            if not token_problems:
                config = replace(config, eos_token_ids=_with_tokenizer_eos(config, tokenizer))
    if config is None or problems:
        raise ModelError("\n".join(problems))
    return ModelFiles(config, {key: tensors[key] for key in needed_shapes(config)}, tokenizer, name)


def _model_folder(files: Sequence[ByteSource]) -> tuple[str, dict[str, ByteSource]]:
    """Return the name and the files, by bare name, of the folder that config.json is in (the topmost one)."""
    by_folder: dict[str, dict[str, ByteSource]] = defaultdict(dict)
    for source in files:
        folder, _, name = source.name.replace("\\", "/").rpartition("/")
        if name in by_folder[folder]:
            raise ModelError(f"{source.name} is there twice")
        by_folder[folder][name] = source
    folders = [folder for folder, members in by_folder.items() if "config.json" in members] or list(by_folder)
    depth = min(folder.count("/") for folder in folders)
    topmost = [folder for folder in folders if folder.count("/") == depth]
    if len(topmost) > 1 and all("config.json" in by_folder[folder] for folder in topmost):
        raise ModelError(f"{len(topmost)} models: {', '.join(sorted(topmost))}; wanted one folder")
    return topmost[0].rsplit("/", 1)[-1], by_folder[topmost[0]]


async def _read_text(source: ByteSource, problems: list[str]) -> str:
    try:
        return bytes(await source.read(0, source.size_bytes)).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problems.append(f"{base_name(source)} is not UTF-8: {error}")
        return ""


async def _read_json(source: ByteSource | None, problems: list[str]) -> dict[str, Any]:
    """Return a JSON object; empty when there is no such file or it is not one (then a problem is noted)."""
    if source is None:
        return {}
    before = len(problems)
    text = await _read_text(source, problems)
    if len(problems) > before:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:  # not JSON, or a number of thousands of digits
        problems.append(f"{base_name(source)} is not JSON: {error}")
        return {}
    if not isinstance(value, dict):
        problems.append(f"{base_name(source)} holds {str(value)[:40]!r}; wanted a JSON object")
        return {}
    return value


async def _folder_tensors(by_name: Mapping[str, ByteSource], problems: list[str]) -> dict[str, StoredTensor]:
    """Read the headers of model.safetensors, or of the shards that the index names."""
    if WHOLE_FILE in by_name:
        return await _read_shard(by_name[WHOLE_FILE], problems)
    if INDEX_FILE not in by_name:
        weights = sorted(name for name in by_name if name.endswith((".safetensors", ".bin", ".pt", ".pth")))
        found = f"; found {', '.join(weights)}" if weights else ""
        problems.append(f"{WHOLE_FILE} is missing, and so is {INDEX_FILE}{found}")
        return {}
    before = len(problems)
    index = await _read_json(by_name[INDEX_FILE], problems)
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        if len(problems) == before:
            problems.append(f"{INDEX_FILE}: weight_map is missing or not a list of file names by tensor")
        return {}
    shards: dict[str, dict[str, StoredTensor]] = {}
    for file in dict.fromkeys(weight_map.values()):
        if file in by_name:
            shards[file] = await _read_shard(by_name[file], problems)
        else:
            count = sum(1 for used in weight_map.values() if used == file)
            problems.append(f"{file} is missing; {INDEX_FILE} says that it holds {count} tensors")
    for name, file in weight_map.items():
        if shards.get(file) and name not in shards[file]:
            problems.append(f"{name} is not in {file}, where {INDEX_FILE} says it is")
    # A tensor whose shard cannot be read is not called missing a second time.
    if len(problems) > before:
        return {}
    return {name: shards[file][name] for name, file in weight_map.items()}


async def _read_shard(source: ByteSource, problems: list[str]) -> dict[str, StoredTensor]:
    try:
        return (await safetensors.read_header(source))[0]
    except FileFormatError as error:
        problems.append(str(error))
        return {}


def needed_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor that a Llama of these settings has, in the order in which data passes them."""
    hidden = config.hidden_size
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config.vocab_size, hidden)}
    for index in range(config.num_layers):
        shapes[f"model.layers.{index}.input_layernorm.weight"] = (hidden,)
        for name in LINEAR_LAYERS:
            if name == "gate_proj":
                shapes[f"model.layers.{index}.post_attention_layernorm.weight"] = (hidden,)
            shapes[f"{module_path(index, name)}.weight"] = config.linear_shape(name)
    shapes["model.norm.weight"] = (hidden,)
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, hidden)
    return shapes


def _tensor_problems(tensors: Mapping[str, StoredTensor], config: ModelConfig) -> list[str]:
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
    harmless = {"lm_head.weight"} if config.tie_word_embeddings else set()
    extra = sorted(name for name in tensors if name not in shapes and name not in harmless and "rotary_emb" not in name)
    if extra:
        more = f" and {len(extra) - 5} more" if len(extra) > 5 else ""
        problems.append(f"{', '.join(extra[:5])}{more}: no such tensor in a Llama of {config.num_layers} layers")
    return problems


def _token_problems(tokenizer_json: Mapping[str, Any], config: ModelConfig) -> list[str]:
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


def _with_tokenizer_eos(config: ModelConfig, tokenizer: TokenizerFiles) -> tuple[int, ...]:
    """Add the tokenizer's eos_token: chat models end a turn with it even where config.json names another token."""
    eos = tokenizer.special_tokens.get("eos_token")
    ids = [entry["id"] for entry in tokenizer.tokenizer_json.get("added_tokens") or [] if entry["content"] == eos]
    return tuple(dict.fromkeys([*config.eos_token_ids, *ids]))
