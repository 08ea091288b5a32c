"""A tokenizer.json as GGUF's metadata: the inverse of gguf_tokenizer.py, for the two kinds that it reads.

llama.cpp splits text by rules that it has names for; a tokenizer that splits otherwise cannot be said in GGUF and is
refused, for a model with another splitting would see other tokens and say nothing of it.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from .pre_tokenizers import PRE_TOKENIZERS
from .spm_tokenizer import SPACE
from .tokenizer_files import TokenizerFiles

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6
# How published files write what pre_tokenizers.py spells out.
_ANY_CASE = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPELLED_OUT = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"


def vocabulary(files: TokenizerFiles, vocab_size: int) -> tuple[dict[str, Any], list[str]]:
    """Return the entries `tokenizer.ggml.*` and `tokenizer.chat_template`, or the problems that stand in their way."""
    found = files.tokenizer_json
    model, problems = found.get("model") or {}, []
    if model.get("type") != "BPE" or not isinstance(model.get("vocab"), dict):
        return {}, [f"tokenizer.json: the model is {model.get('type')!r}; in GGUF only BPE can be written here"]
    kind, pre = _kind(found)
    if kind is None:
        problems.append(
            "tokenizer.json splits text in a way that llama.cpp has no name for; known are "
            f"{', '.join(PRE_TOKENIZERS)} and SentencePiece's"
        )
        return {}, problems
    tokens, types = _tokens(found, model["vocab"], vocab_size, kind == "llama")
    entries: dict[str, Any] = {"tokenizer.ggml.model": kind, "tokenizer.ggml.pre": pre}
    entries |= {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types}
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model.get("merges") or []]
    if kind == "gpt2":
        entries["tokenizer.ggml.merges"] = merges
    else:
        entries["tokenizer.ggml.scores"] = _scores(tokens, merges)
        entries["tokenizer.ggml.add_space_prefix"] = '"Prepend"' in json.dumps(found.get("normalizer"))
    bos = files.special_tokens.get("bos_token")
    entries["tokenizer.ggml.add_bos_token"] = bos is not None and _begins_with(found, bos)
    entries["tokenizer.ggml.add_eos_token"] = False
    ids = {token: number for number, token in enumerate(tokens)}
    for name, key in (("bos_token", "bos"), ("eos_token", "eos"), ("unk_token", "unknown"), ("pad_token", "padding")):
        if (token := files.special_tokens.get(name)) in ids:
            entries[f"tokenizer.ggml.{key}_token_id"] = ids[token]
    if files.chat_template is not None:
        entries["tokenizer.chat_template"] = files.chat_template
    return entries, problems


def _kind(found: dict[str, Any]) -> tuple[str | None, str]:
    """Return `tokenizer.ggml.model` and `.pre`; None where llama.cpp has neither."""
    model, splitting = found["model"], found.get("pre_tokenizer")
    if model.get("byte_fallback") and f'"{SPACE}"' in json.dumps(found.get("normalizer"), ensure_ascii=False):
        return "llama", "default"
    if found.get("normalizer") not in (None, {"type": "NFC"}):
        return None, ""
    for name, known in PRE_TOKENIZERS.items():
        if _essence(splitting) == _essence(known.as_json()) and bool(model.get("ignore_merges")) == known.whole_words:
            return "gpt2", name
    return None, ""


def _essence(splitting: Any) -> str:
    """Return a pre-tokenizer without what changes nothing: offsets, and other spellings of the same."""
    steps = splitting.get("pretokenizers", [splitting]) if isinstance(splitting, dict) else [splitting]
    kept = []
    for step in steps:
        if not isinstance(step, dict):
            return ""
        if (step.get("behavior"), step.get("invert")) == ("Removed", True):  # these patterns leave nothing between
            step = {**step, "behavior": "Isolated"}
        step = {key: value for key, value in step.items() if key not in ("trim_offsets", "invert")}
        if step.get("type") == "ByteLevel":
            step = {"use_regex": True, "add_prefix_space": False, **step}
        kept.append(step)
    return json.dumps(kept, sort_keys=True).replace(json.dumps(_ANY_CASE)[1:-1], json.dumps(_SPELLED_OUT)[1:-1])


def _tokens(
    found: dict[str, Any], vocab: dict[str, int], vocab_size: int, bytes_are_tokens: bool
) -> tuple[list[str], np.ndarray]:
    """Return a token and its type for each row of the embedding; rows that no token has are padding."""
    tokens = [f"[PAD{number}]" for number in range(vocab_size)]
    types = np.full(vocab_size, _UNUSED, np.int32)
    for token, number in vocab.items():
        tokens[number], types[number] = token, _NORMAL
        if bytes_are_tokens and len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            types[number] = _BYTE
    for added in found.get("added_tokens") or []:
        number, special = added["id"], bool(added.get("special"))
        # llama.cpp cuts user-defined tokens out of the text as it was typed.
        spelled = bytes_are_tokens and not special
        tokens[number] = added["content"].replace(SPACE, " ") if spelled else added["content"]
        types[number] = _CONTROL if special else _USER_DEFINED
    unknown = found["model"].get("unk_token")
    if bytes_are_tokens and unknown in vocab:
        types[vocab[unknown]] = _UNKNOWN
    return tokens, types


def _scores(tokens: list[str], merges: list[str]) -> np.ndarray:
    """Return scores by which llama.cpp merges in the order of `merges`: what is made first has the highest.

    It joins the two neighbours whose text has the highest score, whatever they are; merges that make the same token
    stand together in files that came from SentencePiece, and where they do not, the first of them counts.
    """
    first: dict[str, int] = {}
    for number, merge in enumerate(merges):
        first.setdefault(merge.replace(" ", "", 1), number)
    worst = len(merges)
    return np.array([-float(first.get(token, worst)) for token in tokens], np.float32)


def _begins_with(found: dict[str, Any], bos: str) -> bool:
    """Whether the tokenizer puts the begin-of-text token first."""
    post = found.get("post_processor") or {}
    steps = post.get("processors", [post])
    for step in steps:
        first = (step.get("single") or [{}])[0] if step.get("type") == "TemplateProcessing" else {}
        if first.get("SpecialToken", {}).get("id") == bos:
            return True
    return False
