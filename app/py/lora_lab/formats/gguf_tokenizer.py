"""A GGUF file's tokenizer as the tokenizer.json that Hugging Face's tokenizers read.

GGUF keeps the tokens and their types. A byte-level BPE vocabulary ("gpt2") comes with its merges and with the name of
the rule that splits text before merging (see pre_tokenizers.py), a SentencePiece one ("llama") with scores (see
spm_tokenizer.py). The rules are those of llama.cpp's vocabulary loader.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import spm_tokenizer
from .pre_tokenizers import PRE_TOKENIZERS, SAME_AS, find_pre_tokenizer

# Token types.
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED = 1, 2, 3, 4, 5

# Tokens that llama.cpp takes as the end of a turn or a text when a file has them, whatever its eos_token_id says.
END_TOKENS = (
    "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>",
    "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<EOT>", "_<EOT>", "<end_of_utterance>",
)  # fmt: skip
# … and those that are one only as control tokens: Gemma has `</s>` as a word of HTML.
_END_CONTROL_TOKENS = ("</s>", "<eos>", "<｜end▁of▁sentence｜>")

# The numbers that llama.cpp assumes where a SentencePiece file names none.
_SPM_IDS = {"bos": 1, "eos": 2, "unknown": 0}


def build_tokenizer_json(metadata: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return tokenizer.json's content, or the problems that stand in its way.

    Control tokens become special added tokens, user-defined ones added tokens that are not special. Tokens that are
    marked unused (padding of the embedding) are left out: no text may turn into them.
    """
    kind = _kind(metadata)
    if kind not in ("gpt2", "llama"):
        found = kind if kind == "missing" else repr(kind)
        problem = f"tokenizer.ggml.model is {found}; wanted 'gpt2' (byte-level BPE) or 'llama' (SentencePiece)"
        return {}, [problem, *_list_problems(metadata, "tokens")]
    pre = str(metadata.get("tokenizer.ggml.pre", "default"))
    problems = []
    if kind == "gpt2" and find_pre_tokenizer(pre) is None:
        names = ", ".join([*PRE_TOKENIZERS, *SAME_AS])
        problems.append(f"tokenizer.ggml.pre is {pre!r}, a way to split text that is not supported; wanted {names}")
    problems += _list_problems(metadata, *(["tokens", "merges"] if kind == "gpt2" else ["tokens"]))
    if problems:
        return {}, problems
    tokens = metadata["tokenizer.ggml.tokens"]
    types = metadata.get("tokenizer.ggml.token_type")
    if types is None:
        types = np.full(len(tokens), _NORMAL, dtype=np.int32)
    if not isinstance(types, np.ndarray) or len(types) != len(tokens):
        found = f"has {len(types)} entries" if isinstance(types, np.ndarray | list) else f"is {types!r}"
        return {}, [f"tokenizer.ggml.token_type {found}; wanted {len(tokens)} numbers, one for each token"]

    vocab = dict(zip(tokens, range(len(tokens)), strict=True))
    unused = np.flatnonzero(types == _UNUSED).tolist()
    for token_id in unused:
        vocab.pop(tokens[token_id], None)
    if len(vocab) + len(unused) != len(tokens):
        return {}, [f"tokenizer.ggml.tokens holds {len(tokens) - len(unused) - len(vocab)} tokens more than once"]
    build = _byte_level_parts if kind == "gpt2" else _spm_parts
    parts, problems = build(metadata, tokens, types, vocab)
    tokenizer_json = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(metadata, tokens, types),
        **parts,
    }
    return tokenizer_json, problems


def _kind(metadata: dict[str, Any]) -> str:
    return str(metadata.get("tokenizer.ggml.model", "missing"))  # a damaged file may have anything there


def _list_problems(metadata: dict[str, Any], *names: str) -> list[str]:
    return [
        f"tokenizer.ggml.{name} is missing; wanted a list of strings"
        for name in names
        if not isinstance(metadata.get(f"tokenizer.ggml.{name}"), list)
    ]


def _added_tokens(metadata: dict[str, Any], tokens: list[str], types: np.ndarray) -> list[dict[str, Any]]:
    # Whether white space behind a token belongs to it stands in no GGUF; llama.cpp goes by the model's name, as here.
    name = str(metadata.get("general.name", "")).lower()
    is_phi3 = _kind(metadata) == "llama" and ("phi-3" in name or "phi3" in name)
    return [
        {
            "id": token_id,
            "content": tokens[token_id],
            "single_word": False,
            "lstrip": False,
            "rstrip": is_phi3 and tokens[token_id] not in ("<unk>", "<s>", "<|endoftext|>"),
            "normalized": False,
            "special": int(types[token_id]) != _USER_DEFINED,
        }
        for token_id in np.flatnonzero(np.isin(types, (_UNKNOWN, _CONTROL, _USER_DEFINED))).tolist()
    ]


def _byte_level_parts(
    metadata: dict[str, Any], tokens: list[str], types: np.ndarray, vocab: dict[str, int]
) -> tuple[dict[str, Any], list[str]]:
    pre_tokenizer = find_pre_tokenizer(str(metadata.get("tokenizer.ggml.pre", "default")))
    assert pre_tokenizer is not None, "asked for before"
    merges = metadata["tokenizer.ggml.merges"]
    parts = {
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer.as_json(),
        "post_processor": _post_processor(metadata, tokens, pre_tokenizer.begins_text),
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {**_BPE, "ignore_merges": pre_tokenizer.whole_words, "vocab": vocab, "merges": merges},
    }
    return parts, _merge_problems(merges, vocab)


def _spm_parts(
    metadata: dict[str, Any], tokens: list[str], types: np.ndarray, vocab: dict[str, int]
) -> tuple[dict[str, Any], list[str]]:
    scores, problems = spm_tokenizer.read_scores(metadata, len(tokens))
    if problems:
        return {}, problems
    prefix = metadata.get("tokenizer.ggml.add_space_prefix", True) is True
    unknown = token_id(metadata, "unknown", len(tokens))
    parts = {
        "normalizer": spm_tokenizer.normalizer(prefix),
        "pre_tokenizer": None,
        "post_processor": _post_processor(metadata, tokens, True),
        "decoder": spm_tokenizer.decoder(prefix),
        "model": {
            **_BPE,
            "unk_token": None if unknown is None else tokens[unknown],
            "fuse_unk": True,
            "byte_fallback": spm_tokenizer.has_byte_tokens(vocab),
            "vocab": vocab,
            "merges": spm_tokenizer.merges_by_score(tokens, scores, np.flatnonzero(types == _NORMAL)),
        },
    }
    return parts, []


_BPE = {
    "type": "BPE",
    "dropout": None,
    "unk_token": None,
    "continuing_subword_prefix": None,
    "end_of_word_suffix": None,
    "fuse_unk": False,
    "byte_fallback": False,
    "ignore_merges": False,
}


def _merge_problems(merges: list[str], vocab: dict[str, int]) -> list[str]:
    """Find merges that are not two tokens which join to a third; the libraries fail on them without saying which."""
    for number, merge in enumerate(merges):
        left, separator, right = merge.partition(" ")
        if not separator or left not in vocab or right not in vocab or left + right not in vocab:
            return [f"tokenizer.ggml.merges: number {number} is {merge!r}; wanted two tokens that join to a third"]
    return []


def _post_processor(metadata: dict[str, Any], tokens: list[str], begins_text: bool) -> dict[str, Any] | None:
    """Return the step that puts the begin-of-text token first when special tokens are asked for, or None."""
    bos_id = token_id(metadata, "bos", len(tokens))
    if bos_id is None or metadata.get("tokenizer.ggml.add_bos_token", begins_text) is not True:
        return None
    bos = tokens[bos_id]
    bos_item = {"SpecialToken": {"id": bos, "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [bos_item, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [bos_item, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {bos: {"id": bos, "ids": [bos_id], "tokens": [bos]}},
    }


def _tokens(metadata: dict[str, Any]) -> list[str]:
    tokens = metadata.get("tokenizer.ggml.tokens")
    return tokens if isinstance(tokens, list) else []


def token_id(metadata: dict[str, Any], name: str, num_tokens: int) -> int | None:
    """Return `tokenizer.ggml.<name>_token_id`, None when it is missing or no token has it."""
    assumed = _SPM_IDS.get(name) if _kind(metadata) == "llama" else None
    value = metadata.get(f"tokenizer.ggml.{name}_token_id", assumed)
    return value if type(value) is int and 0 <= value < num_tokens else None


def special_tokens(metadata: dict[str, Any]) -> dict[str, str]:
    """Return bos_token, eos_token, unk_token and pad_token as strings, those that the file names."""
    tokens = _tokens(metadata)
    found = {}
    for name, key in (("bos_token", "bos"), ("eos_token", "eos"), ("unk_token", "unknown"), ("pad_token", "padding")):
        special_id = token_id(metadata, key, len(tokens))
        if special_id is not None:
            found[name] = tokens[special_id]
    return found


def end_token_ids(metadata: dict[str, Any], tokenizer_json: dict[str, Any]) -> tuple[int, ...]:
    """Return the tokens at which generation stops: end of text, of turn and of message, then those of END_TOKENS."""
    num_tokens = len(_tokens(metadata))
    named = [token_id(metadata, name, num_tokens) for name in ("eos", "eot", "eom")]
    added = tokenizer_json.get("added_tokens", [])
    ids = {entry["content"]: entry["id"] for entry in added}
    control_ids = {entry["content"]: entry["id"] for entry in added if entry["special"]}
    named += [ids.get(token) for token in END_TOKENS] + [control_ids.get(token) for token in _END_CONTROL_TOKENS]
    return tuple(dict.fromkeys(i for i in named if i is not None))
