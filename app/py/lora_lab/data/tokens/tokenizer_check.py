"""What a tokenizer.json may be: a closed list of parts, each field of its kind, their number and effect bounded.

The libraries that read it trust it: Rust's panics, JavaScript's raises TypeErrors, and parts in a row (an empty pattern
replaced by two letters, twenty times) make terabytes of a word. So it is looked at here, before anything reads it.
Whether a part is supported in a host is asked later, where it is used.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

from lora_lab.data.tokens.precompiled import read_charsmap
from lora_lab.data.tokens.regex_shape import RegexError, least_match
from lora_lab.data.tokens.unigram import is_unigram, unigram_problems
from lora_lab.errors import ModelError

MAX_TOKENS = 1 << 22
MAX_ADDED_TOKENS = 20_000
MAX_PARTS = 24  # of the normalizer, the pre-tokenizer, …
MAX_DEPTH = 8
MAX_GROWTH = 64  # times a text's length, by what is replaced
MAX_WORD = 1_000  # characters of a token, of what is put in for another text
MAX_SHOWN_PROBLEMS = 20

_Check = Callable[[Any], bool]


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_WORD


def _is_character(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 1


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_WORD


def _is_pattern(value: Any) -> bool:
    if not isinstance(value, dict) or len(value) != 1:
        return False
    return isinstance(value.get("Regex"), str) or _is_word(value.get("String"))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and _is_word(value[0]) and _is_token(value[1])


def _is_token(value: Any) -> bool:
    return type(value) is int and 0 <= value < MAX_TOKENS


def _is_one_of(*words: str) -> _Check:
    return lambda value: isinstance(value, str) and value in words


_BEHAVIORS = _is_one_of("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")
_SCHEMES = _is_one_of("always", "first", "never")
_BYTE_LEVEL: dict[str, _Check] = {"add_prefix_space": _is_flag, "trim_offsets": _is_flag, "use_regex": _is_flag}
_METASPACE: dict[str, _Check] = {
    "replacement": _is_character, "str_rep": _is_word, "add_prefix_space": _is_flag, "prepend_scheme": _SCHEMES,
    "split": _is_flag,
}  # fmt: skip
_REPLACE: dict[str, _Check] = {"pattern": _is_pattern, "content": _is_word}
# Of each section: how a Sequence calls its parts; the parts with their fields. A "*" marks fields that must be there.
_PARTS: dict[str, tuple[str, dict[str, dict[str, _Check]]]] = {
    "normalizer": ("normalizers", {
        "NFC": {}, "NFD": {}, "NFKC": {}, "NFKD": {}, "Lowercase": {}, "Nmt": {}, "StripAccents": {}, "ByteLevel": {},
        "Strip": {"strip_left": _is_flag, "strip_right": _is_flag},
        "Prepend": {"*prepend": _is_word},
        "Replace": {"*" + name: check for name, check in _REPLACE.items()},
        "Precompiled": {"*precompiled_charsmap": _is_text},
        "BertNormalizer": {},
    }),
    "pre_tokenizer": ("pretokenizers", {
        "ByteLevel": _BYTE_LEVEL, "Metaspace": _METASPACE,
        "Split": {"*pattern": _is_pattern, "*behavior": _BEHAVIORS, "*invert": _is_flag},
        "Digits": {"individual_digits": _is_flag}, "Punctuation": {"behavior": _BEHAVIORS},
        "Whitespace": {}, "WhitespaceSplit": {}, "BertPreTokenizer": {}, "UnicodeScripts": {},
        "CharDelimiterSplit": {"*delimiter": _is_character},
    }),
    "post_processor": ("processors", {
        "ByteLevel": _BYTE_LEVEL, "TemplateProcessing": {},
        "RobertaProcessing": {
            "*sep": _is_pair, "*cls": _is_pair, "trim_offsets": _is_flag, "add_prefix_space": _is_flag,
        },
        "BertProcessing": {"*sep": _is_pair, "*cls": _is_pair},
    }),
    "decoder": ("decoders", {
        "ByteLevel": _BYTE_LEVEL, "ByteFallback": {}, "Fuse": {}, "Metaspace": _METASPACE,
        "Replace": {"*" + name: check for name, check in _REPLACE.items()},
        "Strip": {"*content": _is_character, "*start": _is_count, "*stop": _is_count},
    }),
}  # fmt: skip
_TOKEN_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def check_tokenizer_json(tokenizer_json: Any) -> None:
    """Raise ModelError, with every problem, unless a tokenizer.json is of the form that the libraries expect."""
    if not isinstance(tokenizer_json, dict):
        raise ModelError(f"tokenizer.json holds {_short(tokenizer_json)}; wanted an object")
    problems = list(_model_problems(tokenizer_json))
    if not problems:
        problems += _added_problems(tokenizer_json)
    for section in _PARTS:
        problems += _section_problems(section, tokenizer_json.get(section))
    if not problems:
        problems += _template_problems(tokenizer_json)
    if problems:
        more = len(problems) - MAX_SHOWN_PROBLEMS
        shown = problems[:MAX_SHOWN_PROBLEMS] + ([f"and {more} more"] if more > 0 else [])
        raise ModelError("\n".join(f"tokenizer.json: {problem}" for problem in shown))


def _model_problems(tokenizer_json: dict[str, Any]) -> Iterator[str]:
    model = tokenizer_json.get("model")
    if not isinstance(model, dict):
        yield f"model is {_short(model)}; wanted an object"
        return
    vocab = model.get("vocab")
    if is_unigram(tokenizer_json):
        yield from unigram_problems(model)
        if isinstance(vocab, list) and len(vocab) > MAX_TOKENS:
            yield f"model.vocab has {len(vocab):,} tokens; wanted at most {MAX_TOKENS:,}"
    elif isinstance(vocab, dict):
        if not vocab or len(vocab) > MAX_TOKENS or not all(map(_is_token, vocab.values())):
            yield f"model.vocab is {_short(vocab)}; wanted numbers from 0 to {MAX_TOKENS - 1:,} by token"
    else:
        yield f"model.vocab is {_short(vocab)}; wanted numbers by token, or (Unigram) tokens with their scores"
    # Dropout would make other tokens each time; a prefix or suffix of words makes Rust cut tokens where none ends.
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            yield f"model.{name} is {_short(model[name])}; wanted null"
    for name in ("fuse_unk", "ignore_merges", *(() if is_unigram(tokenizer_json) else ("byte_fallback",))):
        if not isinstance(model.get(name), (bool, type(None))):
            yield f"model.{name} is {_short(model[name])}; wanted true or false"
    unknown = model.get("unk_token")
    if unknown is not None and not (isinstance(unknown, str) and (not isinstance(vocab, dict) or unknown in vocab)):
        yield f"model.unk_token is {_short(unknown)}; wanted a token of the vocabulary"
    merges = model.get("merges")
    if merges is not None and not isinstance(merges, list):
        yield f"model.merges is {_short(merges)}; wanted a list"


def _added_problems(tokenizer_json: dict[str, Any]) -> Iterator[str]:
    added = tokenizer_json.get("added_tokens")
    if added is None:
        return
    if not isinstance(added, list) or len(added) > MAX_ADDED_TOKENS:
        yield f"added_tokens is {_short(added)}; wanted a list of at most {MAX_ADDED_TOKENS:,}"
        return
    vocab = tokenizer_json["model"]["vocab"]
    by_name = vocab if isinstance(vocab, dict) else {}
    by_id = {token_id: name for name, token_id in by_name.items()}
    for index, token in enumerate(added):
        if not isinstance(token, dict) or not _is_token(token.get("id")) or not _is_word(token.get("content")):
            yield f"added_tokens[{index}] is {_short(token)}; wanted an object with id and content"
            continue
        for name in _TOKEN_FLAGS:
            if not isinstance(token.get(name), (bool, type(None))):
                yield f"added_tokens[{index}].{name} is {_short(token[name])}; wanted true or false"
        # The libraries would give it another number than the one that stands here.
        name, token_id = token["content"], token["id"]
        other = by_id.setdefault(token_id, name)
        if other != name:
            yield f"added_tokens[{index}], {_short(name)}, has the number {token_id}, which is {_short(other)}'s"
        elif by_name.get(name, token_id) != token_id:
            yield f"added_tokens[{index}], {_short(name)}, is {token_id}, but {by_name[name]} in the vocabulary"


def _section_problems(section: str, node: Any) -> list[str]:
    if node is None:
        return []
    try:
        leaves = list(_leaves(section, node, 0))
    except ValueError as error:
        return [str(error)]
    if len(leaves) > MAX_PARTS:
        return [f"{section} has {len(leaves)} parts; wanted at most {MAX_PARTS}"]
    problems = [problem for leaf in leaves for problem in _part_problems(section, leaf)]
    kinds = [leaf["type"] for leaf in leaves]
    for kind in ("ByteLevel", "Precompiled"):  # each spells its own output anew
        if kinds.count(kind) > 1 and section in ("normalizer", "pre_tokenizer"):
            problems.append(f"{section} has {kinds.count(kind)} parts {kind}; wanted one")
    if not problems and section in ("normalizer", "decoder"):
        growth = 1
        for leaf in leaves:
            growth *= _growth(leaf)
        if growth > MAX_GROWTH:
            problems.append(f"{section} makes a text {growth:,} times as long; wanted at most {MAX_GROWTH} times")
    return problems


def _leaves(section: str, node: Any, depth: int) -> Iterator[dict[str, Any]]:
    """Yield a section's parts, those of sequences one by one. ValueError for what is no part."""
    listed, known = _PARTS[section]
    kind = node.get("type") if isinstance(node, dict) else None
    if kind == "Sequence" and depth < MAX_DEPTH:
        parts = node.get(listed)
        if not isinstance(parts, list) or len(parts) > MAX_PARTS:
            raise ValueError(f"{section}: {listed} is {_short(parts)}; wanted a list of at most {MAX_PARTS} parts")
        for part in parts:
            yield from _leaves(section, part, depth + 1)
    elif isinstance(kind, str) and kind in known:
        yield node
    else:
        raise ValueError(f"{section} has the part {_short(node)}; wanted one of {', '.join(known)}")


def _part_problems(section: str, node: dict[str, Any]) -> Iterator[str]:
    for name, check in _PARTS[section][1][node["type"]].items():
        field = name.lstrip("*")
        value = node.get(field)
        if (value is None and name != field) or (value is not None and not check(value)):
            yield f"{section}: {field} of {node['type']} is {_short(value)}"
            return
    pattern = node.get("pattern")
    if isinstance(pattern, dict):
        try:
            least = least_match(pattern["Regex"]) if "Regex" in pattern else len(pattern["String"])
        except RegexError as error:
            yield f"{section}: the regular expression {_short(pattern['Regex'])} is not taken: {error}"
            return
        if not least and node["type"] == "Replace":
            yield f"{section}: {_short(pattern)} matches nothing at all, and is replaced everywhere"
    if node["type"] == "Precompiled":
        try:  # Rust's library ends the whole program over a damaged one, when the first text comes
            read_charsmap(node["precompiled_charsmap"])
        except ModelError as error:
            yield f"{section}: {str(error).removeprefix('tokenizer.json: ')}"


def _growth(node: dict[str, Any]) -> int:
    """Return how many times as long a text may become by one part."""
    if node["type"] == "Replace":
        pattern = node["pattern"]
        least = least_match(pattern["Regex"]) if "Regex" in pattern else len(pattern["String"])
        return max(1, -(-len(node["content"]) // least))
    if node["type"] == "Precompiled":
        return max(1, _longest_replacement(node["precompiled_charsmap"]) // 8)  # NFKC's longest has 33 bytes
    return 1


def _longest_replacement(charsmap: str) -> int:
    """Return the size in bytes of the longest text that a SentencePiece table puts in."""
    data = base64.b64decode(charsmap)
    return max(map(len, data[4 + int.from_bytes(data[:4], "little") :].split(b"\0")))


def _template_problems(tokenizer_json: dict[str, Any]) -> Iterator[str]:
    """What is put around a text: the text itself once, and tokens that there are."""
    vocab = tokenizer_json["model"]["vocab"]
    known = set(vocab.values()) if isinstance(vocab, dict) else set(range(len(vocab)))
    known |= {token["id"] for token in tokenizer_json.get("added_tokens") or []}
    node = tokenizer_json.get("post_processor")
    for leaf in _leaves("post_processor", node, 0) if node is not None else ():
        if leaf["type"] in ("RobertaProcessing", "BertProcessing"):
            if not {leaf["sep"][1], leaf["cls"][1]} <= known:
                yield f"post_processor: {leaf['type']} adds tokens that are not in the vocabulary"
            continue
        if leaf["type"] != "TemplateProcessing":
            continue
        specials = leaf.get("special_tokens")
        if not isinstance(specials, dict) or not all(_is_special(token, known) for token in specials.values()):
            yield f"post_processor: special_tokens is {_short(specials)}; wanted ids and tokens that there are, by name"
            continue
        for name, texts in (("single", ("A",)), ("pair", ("A", "B"))):
            pieces = leaf.get(name)
            if name == "pair" and pieces in (None, []):
                continue
            if not isinstance(pieces, list) or len(pieces) > MAX_PARTS or not _is_template(pieces, texts, specials):
                yield f"post_processor: {name} is {_short(pieces)}; wanted special tokens and the text, once"


def _is_special(token: Any, known: set[int]) -> bool:
    if not isinstance(token, dict) or not _is_word(token.get("id")):
        return False
    ids, tokens = token.get("ids"), token.get("tokens")
    return (
        isinstance(ids, list) and isinstance(tokens, list) and 0 < len(ids) == len(tokens) <= MAX_PARTS
        and all(_is_token(token_id) and token_id in known for token_id in ids) and all(map(_is_word, tokens))
    )  # fmt: skip


def _is_template(pieces: list[Any], texts: tuple[str, ...], specials: dict[str, Any]) -> bool:
    seen = []
    for piece in pieces:
        if not isinstance(piece, dict) or len(piece) != 1:
            return False
        kind, about = next(iter(piece.items()))
        if not isinstance(about, dict) or not _is_count(about.get("type_id")):
            return False
        if kind == "Sequence" and isinstance(about.get("id"), str):
            seen.append(about["id"])
        elif kind != "SpecialToken" or not isinstance(about.get("id"), str) or about["id"] not in specials:
            return False
    return sorted(seen) == list(texts)


def _short(value: Any) -> str:
    if isinstance(value, (dict, list)) and len(value) > 8:
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value):,}"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
