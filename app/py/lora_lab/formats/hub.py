"""What a repository on the hub holds: the models in its list of files, and those that cannot be read, with the reason.

    https://huggingface.co/api/models/OWNER/NAME?blobs=true
      -> read_repository -> HubRepository -> its models: a GGUF each, or the safetensors of its root folder

Both hosts ask the hub in their own way and give the answer to `read_repository`. Nothing here asks anything.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import HubError
from .hub_names import HUB, HUB_HOSTS, HubName, file_path, is_hub_name, parse_hub_name, path_problem
from .hub_words import STARTERS, bad_answer, size_words
from .tensors import FORMS

__all__ = [
    "HUB",
    "HUB_HOSTS",
    "STARTERS",
    "HubFile",
    "HubModel",
    "HubName",
    "HubRepository",
    "choose_model",
    "file_path",
    "is_hub_name",
    "parse_hub_name",
    "read_repository",
    "size_words",
]

MAX_FILE_BYTES = 1 << 40  # no model of one GPU has a file of more than a tebibyte

# What model/folder.py reads beside the weights.
INDEX_FILE = "model.safetensors.index.json"
WHOLE_FILE = "model.safetensors"
NEEDED_FILES = ("config.json", "tokenizer.json")
SMALL_FILES = (
    *NEEDED_FILES, "tokenizer_config.json", "generation_config.json", "chat_template.jinja", "special_tokens_map.json",
    "added_tokens.json",
)  # fmt: skip

_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<ending>\.gguf|\.safetensors)\Z")
# A GGUF's form, as llama.cpp names them, between the delimiters of a file's name: Q4_K_M, IQ2_XXS, F16, ….
_FORM = re.compile(
    r"(?:(?<=[-._/])|\A)(?P<form>I?Q\d(?:_[A-Z0-9]+)*|TQ\d_\d|MXFP4(?:_MOE)?|BF16|F16|FP16|F32|FP32)(?=[-._/]|\Z)",
    re.IGNORECASE,
)
UNREAD_FORMS = ("IQ1_", "IQ2_", "IQ3_", "TQ1_", "TQ2_", "MXFP4")
_NO_MODELS = re.compile(r"(?:^|[-._/])(?:mmproj|imatrix)", re.IGNORECASE)  # what lies beside a GGUF and is none

# Files of weights that are never opened: what they are, and why not.
_REFUSED = (
    ("pickle", (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"), "a pickle, which runs code when it is opened"),
    ("ONNX", (".onnx", ".onnx_data"), "for ONNX"),
    ("TensorFlow", (".h5", ".pb", ".tflite"), "for TensorFlow"),
    ("Flax", (".msgpack",), "for Flax"),
    ("Core ML", (".mlmodel", ".mlpackage"), "for Core ML"),
    ("rust-bert", (".ot",), "for rust-bert"),
    ("LiteRT", (".task", ".litertlm"), "for LiteRT"),
    ("MLX", (".npz",), "for MLX"),
)
Kind = Literal["gguf", "safetensors", "other"]


@dataclass(frozen=True)
class HubFile:
    """One file of a repository."""

    path: str  # with / between folders; it stays inside the repository
    size_bytes: int
    sha256: str | None  # the hub states it of large files only (those in its large file storage)


@dataclass(frozen=True)
class HubModel:
    """A model in a repository: what has to be fetched to open it."""

    title: str  # a GGUF's path without parts and ending, or the repository's name
    kind: Kind
    form: str  # "Q4_K_M", "BF16"; empty where nothing tells; for kind "other" what the files are for
    files: tuple[HubFile, ...]
    size_bytes: int
    refused: str | None = None  # why it cannot be opened


@dataclass(frozen=True)
class HubRepository:
    """A repository at one commit."""

    name: str  # OWNER/NAME as the hub writes it, which is not what was asked for where it was renamed
    revision: str  # the commit; files are asked for by it, so that all of them are of one time
    licence: str | None
    gated: bool  # files are given to those only who have accepted the owner's terms
    base_model: str | None  # the model that its card says it was made from, where that is one
    models: tuple[HubModel, ...]  # those that can be opened first, the smallest first

    def peft_base(self, model: HubModel) -> str:
        """Return what an adapter trained on `model` names as its base: what PEFT can load, so no GGUF's repository."""
        return self.base_model or self.name if model.kind == "gguf" else self.name


def read_repository(answer: object, asked: str = "the repository") -> HubRepository:
    """Read the JSON of /api/models/OWNER/NAME?blobs=true. HubError (reason "answer") when it is not of that shape."""
    if not isinstance(answer, dict):
        raise bad_answer(asked, f"it is {_shown(answer)}; wanted an object")
    name, sha = answer.get("id"), answer.get("sha")
    try:
        known = isinstance(name, str) and parse_hub_name(name) == HubName(name)
    except HubError:
        known = False
    if not known:
        raise bad_answer(asked, f"id is {_shown(name)}; wanted OWNER/NAME")
    assert isinstance(name, str)
    if not isinstance(sha, str) or not re.fullmatch(r"[0-9a-f]{40,64}", sha):
        raise bad_answer(name, f"sha is {_shown(sha)}; wanted a commit")
    siblings = answer.get("siblings")
    if not isinstance(siblings, list):
        raise bad_answer(name, f"siblings is {_shown(siblings)}; wanted a list of files")
    files = {}
    for entry in siblings:
        file = _read_file(entry, name)
        if file.path in files:
            raise bad_answer(name, f"{file.path} is there twice")
        files[file.path] = file
    card = answer.get("cardData")
    card = card if isinstance(card, dict) else {}
    models = [*_gguf_models(files), *_folder_models(files, name, answer), *_other_models(files)]
    models.sort(key=lambda model: (model.refused is not None, model.size_bytes, model.title))
    return HubRepository(
        name, sha, _licence(card), answer.get("gated") not in (None, False, "false"), _base_model(card), tuple(models)
    )


def choose_model(repository: HubRepository, wanted: str | None) -> HubModel:
    """Return the model that `wanted` names: a file's path, or a form like Q4_K_M; None: the only one there is.

    HubError lists what there is (reason "choose" or "file"), or says why that one is not read ("refused").
    """
    models = repository.models
    if wanted is None:
        found = [model for model in models if model.refused is None]
        if not found and models:
            told = "\n".join(f"  {model.refused}" for model in models)
            raise HubError(f"{repository.name} holds no model that can be opened:\n{told}", "refused")
        reason, said = "choose", f"{repository.name} holds {len(found)} models; name one of them:"
    else:
        found = [model for model in models if any(file.path == wanted for file in model.files)]
        found = found or [model for model in models if wanted in (f"{model.title}.gguf", model.title)]
        found = found or [model for model in models if model.form and model.form.lower() == wanted.lower()]
        reason, said = "choose", f"{repository.name} holds {len(found)} models of the form {wanted}; name one of them:"
    if not models:
        raise HubError(f"{repository.name} holds no model: no GGUF file and no safetensors", "refused")
    if not found:
        reason, found = "file", [model for model in models if model.refused is None]
        said = f"{repository.name} has no file or form {wanted}" + ("; it holds:" if found else "")
    elif len(found) == 1:
        if found[0].refused is not None:
            raise HubError(f"{repository.name}: {found[0].refused}", "refused")
        return found[0]
    raise HubError("\n".join([said, *(f"  {_listed(repository, model)}" for model in found)]), reason)


def _listed(repository: HubRepository, model: HubModel) -> str:
    file = model.files[0].path  # the first part of a model in several
    form = f", {model.form}" if model.form else ""
    return f"{HubName(repository.name, file)}  ({size_words(model.size_bytes)}{form})"


def _read_file(entry: object, name: str) -> HubFile:
    path = entry.get("rfilename") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(path, str):
        raise bad_answer(name, f"a file is {_shown(entry)}; wanted an object with rfilename")
    if problem := path_problem(path):
        raise bad_answer(name, f"a file's path {problem}")
    lfs = entry.get("lfs")
    if lfs is not None and not isinstance(lfs, dict):
        raise bad_answer(name, f"{path}: lfs is {_shown(lfs)}; wanted an object")
    size = entry.get("size")
    for value in (size, lfs.get("size", size) if lfs else size):
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_FILE_BYTES or value != size:
            raise bad_answer(name, f"{path}: its size is {_shown(value)}; wanted bytes, 0 to {MAX_FILE_BYTES:,}")
    assert isinstance(size, int)
    sha256 = lfs.get("sha256") if lfs else None
    if lfs and (not isinstance(sha256, str) or not re.fullmatch(r"[0-9a-f]{64}", sha256)):
        raise bad_answer(name, f"{path}: its sha256 is {_shown(sha256)}; wanted 64 hexadecimal digits")
    return HubFile(path, size, sha256)


def _shown(value: object) -> str:
    """Return a value for an error, short whatever it is: repr of a deep or huge one is never made."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = repr(value) if not isinstance(value, int) or abs(value) < 1 << 80 else "a number of many digits"
    return text if len(text) <= 60 else f"{text[:57]}…"


def _model(title: str, kind: Kind, form: str, files: Sequence[HubFile], refused: str | None = None) -> HubModel:
    return HubModel(title, kind, form, tuple(files), sum(file.size_bytes for file in files), refused)


# ---------------------------------------------------------------------------------------------------- GGUF


def _gguf_models(files: Mapping[str, HubFile]) -> list[HubModel]:
    by_title: dict[str, list[HubFile]] = defaultdict(list)
    for path, file in files.items():
        if path.lower().endswith(".gguf") and not _NO_MODELS.search(path):
            shard = _SHARD.match(path)
            by_title[shard["stem"] if shard else path[: -len(".gguf")]].append(file)
    models = []
    for title, members in by_title.items():
        whole = [file for file in members if not _SHARD.match(file.path)]
        parts = sorted((file for file in members if file not in whole), key=lambda file: file.path)
        models += [_gguf_model(title, [file], None) for file in whole]
        if parts:
            models.append(_gguf_model(title, parts, missing_shards(parts)))
    return models


def _gguf_model(title: str, files: Sequence[HubFile], refused: str | None) -> HubModel:
    forms = _FORM.findall(title)
    form = str(forms[-1]).upper() if forms else ""
    form = {"FP16": "F16", "FP32": "F32"}.get(form, form)
    if refused is None and form.startswith(UNREAD_FORMS):
        refused = f"{files[0].path}: the form {form} is not read"
    return _model(title, "gguf", form, files, refused)


def missing_shards(shards: Sequence[HubFile]) -> str | None:
    """Return which parts of a model in several files are not there, None when all of them are."""
    matches = [match for file in shards if (match := _SHARD.match(file.path))]
    counts = {match["count"] for match in matches}
    if len(counts) != 1:
        return f"{matches[0]['stem']}: its files do not agree how many they are ({', '.join(sorted(counts))})"
    found, count = {int(match["number"]) for match in matches}, int(matches[0]["count"])
    if found == set(range(1, count + 1)):
        return None
    return f"{matches[0]['stem']}: {len(found)} of {count} files are there"


# ---------------------------------------------------------------------------------------------------- safetensors


def _folder_models(files: Mapping[str, HubFile], name: str, answer: dict[str, Any]) -> list[HubModel]:
    """Return the model of the root folder, and safetensors elsewhere as refused."""
    weights = [file for path, file in files.items() if path.endswith(".safetensors")]
    root = [file for file in weights if "/" not in file.path]
    chosen = [file for file in root if file.path == WHOLE_FILE]
    shards = [file for file in root if (match := _SHARD.match(file.path)) and match["stem"] == "model"]
    problems = []
    if not chosen and shards:
        chosen = sorted(shards, key=lambda file: file.path)
        problems += [problem for problem in [missing_shards(chosen)] if problem]
        problems += [] if INDEX_FILE in files else [f"{INDEX_FILE} is missing"]
        chosen += [files[INDEX_FILE]] if INDEX_FILE in files else []
    models = []
    if chosen:
        problems += [f"{needed} is missing" for needed in NEEDED_FILES if needed not in files]
        form, form_problem = _safetensors_form(answer)
        problems += [form_problem] if form_problem else []
        small = [files[path] for path in SMALL_FILES if path in files]
        title = name.split("/")[1]
        refused = f"{title}: {'; '.join(problems)}" if problems else None
        models.append(_model(title, "safetensors", form, [*chosen, *small], refused))
    others = [file for file in weights if file not in chosen and not (file in shards and WHOLE_FILE in files)]
    if others:
        names = _some([file.path for file in others])
        adapter = " (a LoRA adapter)" if any(file.path.endswith("adapter_model.safetensors") for file in others) else ""
        refused = f"{names}{adapter}: wanted {WHOLE_FILE}, or its shards, in the repository's root"
        models.append(_model("other safetensors", "other", "safetensors", others, refused))
    return models


def _safetensors_form(answer: dict[str, Any]) -> tuple[str, str | None]:
    """Return the type that most weights have, as the hub counted them ("" where it did not), and what is wrong."""
    counted = answer.get("safetensors")
    parameters = counted.get("parameters") if isinstance(counted, dict) else None
    if not isinstance(parameters, dict):
        return "", None
    counts = {
        str(form)[:20]: count
        for form, count in parameters.items()
        if isinstance(count, int) and not isinstance(count, bool)
    }
    if not counts:
        return "", None
    form = max(counts, key=lambda form: counts[form])
    known = form.lower() in FORMS
    return form, None if known else f"its weights are {form}; wanted F32, F16 or BF16, or a GGUF file"


# ---------------------------------------------------------------------------------------------------- the rest


def _other_models(files: Mapping[str, HubFile]) -> list[HubModel]:
    models = []
    for form, endings, what in _REFUSED:
        members = [file for path, file in files.items() if path.lower().endswith(endings)]
        members = [file for file in members if not _NO_MODELS.search(file.path)]
        if members:
            are = "is" if len(members) == 1 else "are"
            refused = f"{_some([file.path for file in members])} {are} {what}; wanted GGUF or safetensors"
            models.append(_model(form, "other", form, members, refused))
    return models


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _licence(card: dict[str, Any]) -> str | None:
    for key in ("license_name", "license"):  # the first where the second is "other"
        value = card.get(key)
        value = value[0] if isinstance(value, list) and value else value
        if isinstance(value, str) and value.strip():
            return value.strip()[:100]
    return None


def _base_model(card: dict[str, Any]) -> str | None:
    value = card.get("base_model")
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    try:
        return parse_hub_name(value).repository if isinstance(value, str) else None
    except HubError:
        return None
