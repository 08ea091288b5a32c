"""Hugging Face's config.json, read field by field, and its neighbours, as transformers 4 and 5 write them."""

from __future__ import annotations

import json
from typing import Any

from .rope_scaling import is_positive, read_hf_rope


class HfConfig:
    """config.json and generation_config.json. What is wrong with them is gathered in `problems`; nothing is raised."""

    def __init__(self, config: dict[str, Any], generation_config: dict[str, Any]) -> None:
        self.config, self.generation_config = config, generation_config
        self.problems: list[str] = []

    def get(self, field: str, default: Any = None) -> Any:
        """Return a field as it stands; the default where it is not there."""
        return self.config.get(field, default)

    def wrong(self, field: str, wanted: str) -> None:
        """Note that a field is not what was wanted."""
        self.problems.append(f"config.json: {field} is {self.get(field)!r}; wanted {wanted}")

    def size(self, field: str, default: int | None = None) -> int:
        """Return a whole number of at least 1; 1, and a problem, where it is none."""
        value = self.get(field)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            self.wrong(field, "a whole number of at least 1")
            return 1
        return value

    def positive(self, field: str, default: float) -> float:
        """Return a number above 0; the default, and a problem, where it is none."""
        value = self.get(field, default)
        if not is_positive(value):
            self.wrong(field, "a positive number")
            return default
        return float(value)

    def flag(self, field: str, default: bool) -> bool:
        """Return true or false; the default, and a problem, where it is neither."""
        value = self.get(field, default)
        if not isinstance(value, bool):
            self.wrong(field, "true or false")
            return default
        return value

    def rope(self, max_positions: int) -> tuple[float, dict[str, Any] | None]:
        """Return RoPE's theta and scaling, None for plain RoPE."""
        theta, scaling, problems = read_hf_rope(self.config, max_positions)
        self.problems += problems
        return theta, scaling

    def eos_token_ids(self, vocab_size: int) -> tuple[int, ...]:
        """Return the tokens that end a text: those of generation_config.json, then those of config.json."""
        found = _token_ids(self.generation_config, "eos_token_id", "generation_config.json", vocab_size, self.problems)
        found += _token_ids(self.config, "eos_token_id", "config.json", vocab_size, self.problems)
        return tuple(dict.fromkeys(found))

    def bos_token_id(self, vocab_size: int) -> int | None:
        """Return the token that begins a text, if there is one."""
        ids = _token_ids(self.config, "bos_token_id", "config.json", vocab_size, self.problems)
        return ids[0] if ids else None

    def refuse_other_class(self, wanted: str) -> None:
        """Note when the model is of another class than transformers' causal language model of its family."""
        if (architectures := self.get("architectures")) and architectures != [wanted]:
            self.problems.append(f"config.json: architectures is {architectures!r}; wanted [{wanted!r}]")

    def refuse_biases(self, *fields: str) -> None:
        """Note linear layers with a bias."""
        self.problems += [
            f"config.json: {field} is {self.get(field)!r}; linear layers with a bias are not supported"
            for field in fields
            if self.get(field)
        ]

    def refuse_quantization(self) -> None:
        """Note weights that another program has quantised in a way of its own."""
        if quantization := self.get("quantization_config"):
            method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization
            self.problems.append(
                f"config.json: quantization_config is of the method {method!r}, which is not supported; "
                "wanted F32, F16 or BF16 weights, or a GGUF file"
            )


def _token_ids(config: dict[str, Any], field: str, file: str, vocab_size: int, problems: list[str]) -> list[int]:
    """Return a field that may be a token id, a list of them, or nothing."""
    value = config.get(field)
    ids = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(i, int) and not isinstance(i, bool) and 0 <= i < vocab_size for i in ids):
        problems.append(f"{file}: {field} is {value!r}; wanted token ids from 0 to {vocab_size - 1}")
        return []
    return ids


def special_tokens(tokenizer_config: dict[str, Any], special_tokens_map: dict[str, Any]) -> dict[str, str]:
    """Return bos_token, eos_token, unk_token and pad_token as strings, those that are there."""
    found = {}
    for name in ("bos_token", "eos_token", "unk_token", "pad_token"):
        value = tokenizer_config.get(name)
        value = special_tokens_map.get(name) if value is None else value
        if isinstance(value, dict):  # an AddedToken with its flags
            value = value.get("content")
        if isinstance(value, str):
            found[name] = value
    return found


def chat_template(tokenizer_config: dict[str, Any], template_file: str | None) -> tuple[str | None, list[str]]:
    """Return the template of chat_template.jinja if there is one, else of tokenizer_config.json, and the problems.

    The latter may be a string or a list of named templates, of which "default" (or the only one) is taken.
    """
    if template_file is not None:
        return template_file, []
    value = tokenizer_config.get("chat_template")
    if value is None or isinstance(value, str):
        return value, []
    by_name = {}
    if isinstance(value, list):
        by_name = {str(entry.get("name")): entry.get("template") for entry in value if isinstance(entry, dict)}
    template = by_name.get("default") if len(by_name) != 1 else next(iter(by_name.values()))
    if not isinstance(template, str):
        names = ", ".join(by_name) or json.dumps(value)[:80]
        return None, [f"tokenizer_config.json: chat_template has {names}; wanted a template named default"]
    return template, []
