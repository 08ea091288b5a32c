"""Opening the files of a Hugging Face folder: headers and small files are read, the weights stay where they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..config import ModelConfig
from ..errors import ModelError
from ..formats import safetensors
from ..formats.byte_source import ByteSource, FileFormatError, base_name
from ..formats.hf_config import HfConfig, chat_template
from ..formats.hf_config import special_tokens as special_tokens_of
from ..formats.json_reader import JsonError, read_json
from ..formats.tensors import StoredTensor
from ..formats.tokenizer_files import TokenizerFiles
from .checks import needed_shapes, tensor_problems, token_problems, with_gains
from .families import family_of, of_model_type
from .model_files import ModelFiles

INDEX_FILE = "model.safetensors.index.json"
WHOLE_FILE = "model.safetensors"
# Gemma's tokenizer.json has 33 MB, the index of a model of 400 layers 1 MB.
MAX_JSON_BYTES = 32 << 20
MAX_TEXT_BYTES = {"tokenizer.json": 256 << 20, "chat_template.jinja": 1 << 20}


async def open_folder(files: Sequence[ByteSource]) -> ModelFiles:
    """Open the files of a Hugging Face folder. ModelError names every problem."""
    folder_name, by_name = model_folder(files)
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
    template, template_problems = chat_template(tokenizer_config, template_text)
    special_tokens = special_tokens_of(tokenizer_config, json_files["special_tokens_map.json"])
    tokenizer = TokenizerFiles(json_files["tokenizer.json"], template, special_tokens)

    config: ModelConfig | None = None
    if not any(problem.startswith("config.json ") for problem in problems):
        config = _read_config(json_files["config.json"], json_files["generation_config.json"], name, problems)
    problems += template_problems
    tensors = await _folder_tensors(by_name, problems)
    if config is not None:
        if tensors:
            problems += tensor_problems(tensors, config)
        if not any(problem.startswith("tokenizer.json ") for problem in problems):
            wrong_tokens = token_problems(tokenizer.tokenizer_json, config)
            problems += wrong_tokens
            if not wrong_tokens:
                config = replace(config, eos_token_ids=_with_tokenizer_eos(config, tokenizer))
    if config is None or problems:
        raise ModelError("\n".join(problems))
    needed = {key: tensors[key] for key in needed_shapes(config)}
    add_one = family_of(config).NORMS_ADD_ONE
    return ModelFiles(config, with_gains(needed, config, add_one), tokenizer, name)


def _read_config(
    config: dict[str, Any], generation_config: dict[str, Any], name: str, problems: list[str]
) -> ModelConfig | None:
    family = of_model_type(config.get("model_type"))
    if isinstance(family, str):
        problems.append(family)
        return None
    reading = HfConfig(config, generation_config)
    found = family.read_hf(reading, name)
    problems += reading.problems
    return found


def model_folder(files: Sequence[ByteSource]) -> tuple[str, dict[str, ByteSource]]:
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
    most_bytes = MAX_TEXT_BYTES.get(base_name(source), MAX_JSON_BYTES)
    if source.size_bytes > most_bytes:
        problems.append(f"{base_name(source)} has {source.size_bytes:,} bytes; wanted at most {most_bytes:,}")
        return ""
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
        value = read_json(text)
    except JsonError as error:
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


def _with_tokenizer_eos(config: ModelConfig, tokenizer: TokenizerFiles) -> tuple[int, ...]:
    """Add the tokenizer's eos_token: chat models end a turn with it even where config.json names another token."""
    eos = tokenizer.special_tokens.get("eos_token")
    ids = [entry["id"] for entry in tokenizer.tokenizer_json.get("added_tokens") or [] if entry["content"] == eos]
    return tuple(dict.fromkeys([*config.eos_token_ids, *ids]))
