"""A GGUF file's byte-level BPE tokenizer, as the tokenizer.json that Hugging Face's tokenizers read.

GGUF keeps the tokens, their types and the merges, and names the rule that splits text before merging
(`tokenizer.ggml.pre`). The rules here are those of llama.cpp's vocabulary loader.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# Token types.
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED = 1, 2, 3, 4, 5

# Tokens that llama.cpp takes as the end of a turn or a text when a file has them, whatever its eos_token_id says.
END_TOKENS = (
    "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>",
    "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<EOT>", "_<EOT>", "<end_of_utterance>",
)  # fmt: skip

_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_BYTE_LEVEL_ONLY = {**_BYTE_LEVEL, "use_regex": False}  # text is split already


def _split(regex: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


_GPT2_REGEX = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3_REGEX = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# tokenizer.ggml.pre: the steps that split text. A file without one is split by "default".
_PRE_TOKENIZERS: dict[str, list[dict[str, Any]]] = {
    "smollm": [{"type": "Digits", "individual_digits": True}, _BYTE_LEVEL],
    "gpt-2": [_BYTE_LEVEL],
    "llama-bpe": [_split(_LLAMA3_REGEX), _BYTE_LEVEL_ONLY],
    "default": [
        _split(r"[\p{P}\$\+<=>\^~\|]+"), _split(_GPT2_REGEX), _split(r"\p{N}+"), _split(r"[0-9][0-9][0-9]"),
        _BYTE_LEVEL_ONLY,
    ],
}  # fmt: skip
_SAME_AS = {"llama3": "llama-bpe", "llama-v3": "llama-bpe"}


def build_tokenizer_json(metadata: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return tokenizer.json's content, or the problems that stand in its way.

    Control tokens become special added tokens, user-defined ones added tokens that are not special. Tokens that are
    marked unused (padding of the embedding) are left out: no text may turn into them.
    """
    problems = []
    kind = str(metadata.get("tokenizer.ggml.model", "missing"))
    if kind != "gpt2":
        known = {"llama": "SentencePiece ('llama')", "missing": "missing"}.get(kind, repr(kind))
        problems.append(f"tokenizer.ggml.model is {known}; wanted 'gpt2', a byte-level BPE tokenizer")
    pre = str(metadata.get("tokenizer.ggml.pre", "default"))
    pre = _SAME_AS.get(pre, pre)
    if pre not in _PRE_TOKENIZERS:
        names = ", ".join([*_PRE_TOKENIZERS, *_SAME_AS])
        problems.append(f"tokenizer.ggml.pre is {pre!r}, a way to split text that is not supported; wanted {names}")
    tokens, merges = metadata.get("tokenizer.ggml.tokens"), metadata.get("tokenizer.ggml.merges")
    for name, value in (("tokens", tokens), ("merges", merges)):
        if not isinstance(value, list):
            problems.append(f"tokenizer.ggml.{name} is missing; wanted a list of strings")
    if problems or tokens is None or merges is None:
        return {}, problems
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
    added = [
        {
            "id": token_id,
            "content": tokens[token_id],
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": int(types[token_id]) != _USER_DEFINED,
        }
        for token_id in np.flatnonzero(np.isin(types, (_UNKNOWN, _CONTROL, _USER_DEFINED))).tolist()
    ]
    steps = _PRE_TOKENIZERS[pre]
    tokenizer_json = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": steps[0] if len(steps) == 1 else {"type": "Sequence", "pretokenizers": steps},
        "post_processor": _post_processor(metadata, tokens, pre),
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": pre == "llama-bpe",  # a word that is a token is taken whole
            "vocab": vocab,
            "merges": merges,
        },
    }
    return tokenizer_json, _merge_problems(merges, vocab)


def _merge_problems(merges: list[str], vocab: dict[str, int]) -> list[str]:
    """Find merges that are not two tokens which join to a third; the libraries fail on them without saying which."""
    for number, merge in enumerate(merges):
        left, separator, right = merge.partition(" ")
        if not separator or left not in vocab or right not in vocab or left + right not in vocab:
            return [f"tokenizer.ggml.merges: number {number} is {merge!r}; wanted two tokens that join to a third"]
    return []


def _post_processor(metadata: dict[str, Any], tokens: list[str], pre: str) -> dict[str, Any] | None:
    """Return the step that puts the begin-of-text token first when special tokens are asked for, or None."""
    bos_id = token_id(metadata, "bos", len(tokens))
    if bos_id is None or metadata.get("tokenizer.ggml.add_bos_token", pre == "llama-bpe") is not True:
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
    value = metadata.get(f"tokenizer.ggml.{name}_token_id")
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
    added = {entry["content"]: entry["id"] for entry in tokenizer_json.get("added_tokens", [])}
    named += [added.get(token) for token in END_TOKENS]
    return tuple(dict.fromkeys(i for i in named if i is not None))
