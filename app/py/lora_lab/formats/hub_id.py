"""What a model is called on the Hugging Face hub: OWNER/NAME, or nothing. Never a path, a file or a guess."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# What the hub allows in the two parts of a name.
_PART = r"(?!.*(?:--|\.\.))[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
_ID = re.compile(rf"{_PART}/{_PART}")
_PAGE = re.compile(
    r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/(?P<id>[^/?#]+/[^/?#]+)(?:[/?#].*)?", re.IGNORECASE
)
_OTHER_PAGES = ("datasets", "spaces", "papers", "collections", "docs", "api", "models", "blog")
_FILE = re.compile(r"\.(?:gguf|safetensors|bin|zip|json|pt|pth)$", re.IGNORECASE)
# A repository of GGUF files: what PEFT should load is the model that they were made of.
_CONVERTED = re.compile(r"[-_.]gguf$", re.IGNORECASE)
_QUANTISED = re.compile(r"[-_. ](?:ud-)?(?:i?q[1-8](?:_[a-z0-9]+)*|f16|f32|bf16|mxfp4)$", re.IGNORECASE)
_OWN_SOURCE = ("general.source.huggingface.repository", "general.source.repo_url", "general.repo_url")


def hub_id(text: Any) -> str | None:
    """Return OWNER/NAME if the text is that, or the address of such a page; None for paths, files and all else."""
    if not isinstance(text, str):
        return None
    name = text.strip()
    if page := _PAGE.fullmatch(name):
        name = page["id"]
        if name.split("/")[0].lower() in _OTHER_PAGES:
            return None
    return name if _ID.fullmatch(name) and not _FILE.search(name) else None


def hub_id_of_gguf(metadata: Mapping[str, Any], name: str) -> str | None:
    """Return the id of the model that a GGUF was made of, as its metadata say it. `name` is the file's, without .gguf.

    `general.source.*` and `general.repo_url` are the model itself, unless they lead to a repository of GGUF files.
    `general.base_model.0` is what the model was tuned from (an Instruct's base), or what it was quantised from: it is
    taken only where it is called as the model is, for an adapter must not be laid upon its model's parent.
    """
    for key in _OWN_SOURCE:
        found = hub_id(metadata.get(key))
        if found and not _CONVERTED.search(found):
            return found
    if metadata.get("general.base_model.count", 1) != 1:
        return None  # a merge
    found = hub_id(metadata.get("general.base_model.0.repo_url"))
    parts = [metadata.get(f"general.{part}") for part in ("basename", "size_label", "finetune", "version")]
    own = [metadata.get("general.name"), name, "".join(str(part) for part in parts if part)]
    stated = metadata.get("general.finetune")
    if found is None or (isinstance(stated, str) and _letters(stated) not in _letters(found)):
        return None
    return found if _letters(found.partition("/")[2]) in {_letters(_stem(str(one))) for one in own if one} else None


def _stem(name: str) -> str:
    """Return a file's name without what says how it was quantised."""
    return _CONVERTED.sub("", _QUANTISED.sub("", name))


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
