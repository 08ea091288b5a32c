"""How a byte-level GGUF vocabulary splits text before it merges: every `tokenizer.ggml.pre` that is known here.

The names, the steps and what a name implies besides (whole words first, a begin-of-text token) are llama.cpp's
(`llama-vocab.cpp`). Where its pattern is an adaption of a published tokenizer.json's, for want of some feature in its
own regular expressions, the published one stands here: `gpt-4o` and `tekken`, whose classes of upper and lower case
letters take in combining marks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_BYTE_LEVEL_ONLY = {**_BYTE_LEVEL, "use_regex": False}  # text is split already


@dataclass(frozen=True)
class PreTokenizer:
    """The steps that split text, and what llama.cpp takes for granted with them."""

    steps: tuple[dict[str, Any], ...]
    whole_words: bool = False  # a word that is a token is taken whole, whatever the merges say
    begins_text: bool = False  # the begin-of-text token stands first unless `add_bos_token` says otherwise

    def as_json(self) -> dict[str, Any]:
        """Return tokenizer.json's `pre_tokenizer`."""
        return self.steps[0] if len(self.steps) == 1 else {"type": "Sequence", "pretokenizers": list(self.steps)}


def _split(regex: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


def _patterns(*regexes: str, **more: bool) -> PreTokenizer:
    return PreTokenizer((*map(_split, regexes), _BYTE_LEVEL_ONLY), **more)


_GPT2_REGEX = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CONTRACTIONS = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_REST = r"\s*[\r\n]+|\s+(?!\S)|\s+"  # line breaks, white space
_LLAMA3_REGEX = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_REST}"
_QWEN2_REGEX = _LLAMA3_REGEX.replace(r"\p{N}{1,3}", r"\p{N}")
# Marks belong to the letters before them.
_QWEN35_REGEX = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_REST}"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


def _cased(contractions: str, digits: str) -> str:
    """Words are cut where small letters end and capitals begin: o200k's (GPT-4o) rule, and Mistral's after it."""
    before = r"[^\r\n\p{L}\p{N}]?"
    words = f"{before}{_UPPER}*{_LOWER}+{contractions}|{before}{_UPPER}+{_LOWER}*{contractions}"
    return rf"{words}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_REST}"


PRE_TOKENIZERS: dict[str, PreTokenizer] = {
    "smollm": PreTokenizer(({"type": "Digits", "individual_digits": True}, _BYTE_LEVEL)),
    "gpt-2": PreTokenizer((_BYTE_LEVEL,)),
    "llama-bpe": _patterns(_LLAMA3_REGEX, whole_words=True, begins_text=True),
    "dbrx": _patterns(_LLAMA3_REGEX),
    "qwen2": _patterns(_QWEN2_REGEX),
    "qwen35": _patterns(_QWEN35_REGEX),
    "tekken": _patterns(_cased("", r"\p{N}"), whole_words=True, begins_text=True),
    "gpt-4o": _patterns(_cased(f"{_CONTRACTIONS}?", r"\p{N}{1,3}")),
    "deepseek-coder": _patterns(r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}"),
    # What a file without a name is split by.
    "default": _patterns(r"[\p{P}\$\+<=>\^~\|]+", _GPT2_REGEX, r"\p{N}+", r"[0-9][0-9][0-9]"),
}
SAME_AS = {
    "llama3": "llama-bpe", "llama-v3": "llama-bpe", "falcon3": "llama-bpe", "falcon-h1": "llama-bpe",
    "pixtral": "llama-bpe", "midm-2.0": "llama-bpe", "lfm2": "llama-bpe",
    "smaug-bpe": "dbrx", "chatglm-bpe": "dbrx", "glm4": "dbrx",
    "starcoder": "smollm", "refact": "smollm", "command-r": "smollm", "codeshell": "smollm", "exaone": "smollm",
    "minerva-7b": "smollm",
    "phi-2": "gpt-2", "mpt": "gpt-2", "olmo": "gpt-2", "jais": "gpt-2", "trillion": "gpt-2", "gigachat": "gpt-2",
    "exaone4": "gpt-2", "granite-docling": "gpt-2", "mellum": "gpt-2", "a.x-4.0": "gpt-2",
    "stablelm2": "qwen2", "deepseek-r1-qwen": "qwen2", "megrez": "qwen2", "hunyuan": "qwen2", "kormo": "qwen2",
    "llama4": "gpt-4o", "kanana2": "gpt-4o",
}  # fmt: skip


def find_pre_tokenizer(name: str) -> PreTokenizer | None:
    """Return what `tokenizer.ggml.pre` stands for, None when the name is not known."""
    return PRE_TOKENIZERS.get(SAME_AS.get(name, name))
