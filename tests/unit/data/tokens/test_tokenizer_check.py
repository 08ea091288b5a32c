"""A tokenizer.json of a stranger's: a closed list of parts, bounded in number and effect; nothing else is raised."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from lora_lab.data.tokens.regex_shape import RegexError, least_match
from lora_lab.data.tokens.tokenizer import _no_panic, load_tokenizer
from lora_lab.data.tokens.tokenizer_check import check_tokenizer_json
from lora_lab.errors import ModelError
from lora_lab.formats.pre_tokenizers import PRE_TOKENIZERS
from lora_lab.formats.tokenizer_files import TokenizerFiles
from tests.unit.data.helpers import published_files

PUBLISHED = ("gemma3", "gpt4o", "llama2", "llama3_2", "mistral_nemo", "qwen3")


@pytest.fixture(scope="module")
def good(tiny_model_folder: Path) -> dict[str, Any]:
    return json.loads((tiny_model_folder / "tokenizer.json").read_text("utf-8"))


def _replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _byte_level(count: int) -> dict[str, Any]:
    part = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {"type": "Sequence", "pretokenizers": [part] * count}


def _template(*pieces: Any, specials: Any = None) -> dict[str, Any]:
    return {"type": "TemplateProcessing", "single": list(pieces), "pair": [], "special_tokens": specials or {}}


TEXT = {"Sequence": {"id": "A", "type_id": 0}}
SPOILED: dict[str, tuple[tuple[str, ...], Any, str]] = {
    "a model that is a list": (("model",), [1], "wanted an object"),
    "no vocabulary": (("model", "vocab"), {}, "vocab"),
    "a number that is a word": (("model", "vocab", "a"), "x", "vocab"),
    "a number of billions": (("model", "vocab", "a"), 10**12, "vocab"),
    "a number below zero": (("model", "vocab", "a"), -1, "vocab"),
    "scores that are none": (("model", "vocab"), [["a", float("nan")]], "scores"),
    "dropout": (("model", "dropout"), 0.5, "dropout"),
    "a prefix of words": (("model", "continuing_subword_prefix"), "é##", "prefix"),
    "an unknown token that is none": (("model", "unk_token"), "nothing", "unk_token"),
    "added tokens that are an object": (("added_tokens",), {"a": 1}, "added_tokens"),
    "an added token of another's number": (("added_tokens",), [{"id": 31, "content": "\u0120x"}], "which is"),
    "an added token without content": (("added_tokens",), [{"id": 1}], "id and content"),
    "a pre-tokenizer that is a list": (("pre_tokenizer",), [1], "part"),
    "an unknown pre-tokenizer": (("pre_tokenizer",), {"type": "Evil"}, "wanted one of"),
    "parts that are no list": (("pre_tokenizer",), {"type": "Sequence", "pretokenizers": 5}, "wanted a list"),
    "fifty times ByteLevel": (("pre_tokenizer",), _byte_level(50), "at most 24"),
    "twice ByteLevel": (("pre_tokenizer",), _byte_level(2), "wanted one"),
    "an empty text replaced": (("normalizer",), _replace({"String": ""}, "zz"), "matches nothing"),
    "an empty pattern replaced": (("normalizer",), _replace({"Regex": "a*"}, "zz"), "matches nothing"),
    "a text that grows": (
        ("normalizer",), {"type": "Sequence", "normalizers": [_replace({"String": "a"}, "aa")] * 20}, "times as long",
    ),
    "a decoder that grows": (
        ("decoder",), {"type": "Sequence", "decoders": [_replace({"String": "a"}, "aa")] * 20}, "times as long",
    ),
    "a decoder without end": (("decoder",), {"type": "Strip", "content": "", "start": 10**18, "stop": 0}, "Strip"),
    "a pattern that explodes": (
        ("pre_tokenizer",),
        {"type": "Split", "pattern": {"Regex": "(a+)+b"}, "behavior": "Isolated", "invert": False}, "repeat",
    ),
    "a damaged table": (("normalizer",), {"type": "Precompiled", "precompiled_charsmap": "////"}, "table"),
    "the second text alone": (("post_processor",), _template({"Sequence": {"id": "B", "type_id": 0}}), "once"),
    "the text twice": (("post_processor",), _template(TEXT, TEXT), "once"),
    "a special token that is none": (
        ("post_processor",), _template({"SpecialToken": {"id": "x", "type_id": 0}}), "once",
    ),
    "a number beyond the vocabulary": (
        ("post_processor",),
        _template(TEXT, specials={"x": {"id": "x", "ids": [10**6], "tokens": ["x"]}}), "special_tokens",
    ),
    "sequences in sequences": (
        ("normalizer",),
        {"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": [
            {"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": [{"type": "Sequence",
             "normalizers": [{"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": [
                 {"type": "Sequence", "normalizers": []}]}]}]}]}]}]}]}]},
        "wanted one of",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", SPOILED)
def test_what_is_not_taken_is_named(good: dict[str, Any], kind: str) -> None:
    load_tokenizer(TokenizerFiles(good, None, {}))  # the control
    path, value, said = SPOILED[kind]
    spoiled = copy.deepcopy(good)
    inner = spoiled
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(ModelError, match=said) as caught:
        load_tokenizer(TokenizerFiles(spoiled, None, {}))
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_tokenizers_are_taken(name: str) -> None:
    check_tokenizer_json(published_files(name).tokenizer_json)


def test_published_patterns_are_taken() -> None:
    steps = [step for one in PRE_TOKENIZERS.values() for step in one.steps if step["type"] == "Split"]
    assert len(steps) > 5
    assert all(least_match(step["pattern"]["Regex"]) >= 0 for step in steps if "Regex" in step["pattern"])


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+", "(a|a)*", "(a|b)+c", "((a{1,9}){1,9}){1,9}", "(?:a?){50}", "(a*)*", "a{5000}", "a{1,99999}", r"(a)\1",
     r"\k<x>", "(?R)", r"\g<1>", "(*FAIL)", "(?{x})", "(?~a)", "(", ")", "[a", "a**", "\\", "(" * 30 + ")" * 30,
     "a*a*a*a*a*", "x" * 5000, "a?" * 200],
)  # fmt: skip
def test_patterns_that_may_take_for_ever_are_refused(pattern: str) -> None:
    with pytest.raises(RegexError):
        least_match(pattern)


@pytest.mark.parametrize(
    ("pattern", "least"),
    [("", 0), ("abc", 3), ("a|bc", 1), ("a|", 0), ("a*", 0), ("a+b?", 1), ("(?:ab){3}", 6), ("(?=abc)", 0),
     (r"\s+(?!\S)", 1), (r"\p{L}{2,3}", 2), ("[]a]", 1), ("[^]a]b", 2), (r"[\]a]", 1), ("[a[b]&&[^c]]+", 1),
     ("(?i:'s|'t)", 2), (r"\bx$", 1), ("(?i)ab", 2), ("a{,3}", 0), ("(?<=ab)c", 1)],
)  # fmt: skip
def test_the_least_that_a_pattern_matches(pattern: str, least: int) -> None:
    assert least_match(pattern) == least


def test_a_panic_is_a_model_error() -> None:
    class PanicException(BaseException):
        """What pyo3 raises: no Exception."""

    with pytest.raises(ModelError, match="said: panicked"), _no_panic("said"):
        raise PanicException("panicked")
    with pytest.raises(KeyboardInterrupt), _no_panic("said"):
        raise KeyboardInterrupt
