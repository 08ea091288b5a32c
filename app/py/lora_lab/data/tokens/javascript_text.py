"""What Python does to a text before the JavaScript tokenizer reads it, where the two libraries would do it differently.

- NFC: they know different versions of Unicode, hence different combining marks. Here it is done as Rust's library does.
- White space beside an added token with `lstrip` or `rstrip`: JavaScript strips U+FEFF too, and U+0085 not.

Both happen between the added tokens that stand in the text, which are found first and kept as they are.
"""

from __future__ import annotations

import re
from typing import Any

from lora_lab.data.tokens.token_table import WHITE_SPACE
from lora_lab.data.tokens.unicode_forms import nfc
from lora_lab.errors import ModelError

_LEADING, _TRAILING = re.compile(f"^[{WHITE_SPACE}]+"), re.compile(f"[{WHITE_SPACE}]+$")


class JavaScriptText:
    """Makes a text ready for the tokenizer that `rewrite_for_javascript` describes."""

    def __init__(self, tokenizer_json: dict[str, Any]) -> None:
        added = [token for token in tokenizer_json.get("added_tokens") or [] if token["content"]]
        self._composes, _ = split_normalizer(tokenizer_json.get("normalizer"))
        self._left = {token["content"] for token in added if token.get("lstrip")}
        self._right = {token["content"] for token in added if token.get("rstrip")}
        self._is_needed = self._composes or bool(self._left or self._right)
        # The longest first: of two tokens at one place Rust takes the longer one.
        names = sorted((re.escape(token["content"]) for token in added), key=len, reverse=True)
        self._added = re.compile(f"({'|'.join(names)})") if names and self._is_needed else None

    def __call__(self, text: str) -> str:
        """Return the text with NFC done and white space stripped, as far as the tokenizer asks for either."""
        if not self._is_needed:
            return text
        parts = self._added.split(text) if self._added else [text]  # text, token, text, …, token, text
        for index in range(0, len(parts), 2):
            part = parts[index]
            if index > 0 and parts[index - 1] in self._right:
                part = _LEADING.sub("", part)
            if index + 1 < len(parts) and parts[index + 1] in self._left:
                part = _TRAILING.sub("", part)
            parts[index] = nfc(part) if self._composes else part
        return "".join(parts)


def split_normalizer(node: dict[str, Any] | None) -> tuple[bool, dict[str, Any] | None]:
    """Return whether NFC comes first, and the normalizer without it. Raises ModelError for what is not supported."""
    if node is None:
        return False, None
    parts = node.get("normalizers") or [] if node.get("type") == "Sequence" else [node]
    composes = bool(parts) and parts[0].get("type") == "NFC"
    rest = [_checked(part) for part in parts[composes:]]
    if node.get("type") != "Sequence":
        return composes, rest[0] if rest else None
    return composes, {"type": "Sequence", "normalizers": rest} if rest else None


def _checked(node: dict[str, Any]) -> dict[str, Any]:
    kind = node.get("type")
    if kind == "Sequence":
        return {"type": "Sequence", "normalizers": [_checked(part) for part in node.get("normalizers") or []]}
    if kind == "Prepend":
        return node
    if kind == "Replace" and "String" in node.get("pattern", {}):
        return {**node, "content": node["content"].replace("$", "$$")}  # `$` has a meaning in JavaScript
    raise ModelError(f"the tokenizer's normalizer is not supported: {str(node)[:200]}")
