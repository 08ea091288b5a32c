"""What Python does to a text before the JavaScript tokenizer reads it, where the two libraries would do it differently.

- NFC: they know different versions of Unicode, hence different combining marks. Here it is done as Rust's library does.
- White space beside an added token with `lstrip` or `rstrip`: JavaScript strips U+FEFF too, and U+0085 not.

Both happen between the added tokens that stand in the text, which are found first and kept as they are.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from lora_lab.data.tokens.token_table import WHITE_SPACE
from lora_lab.errors import ModelError

# What newer versions of Unicode, up to 17, have more than the one that `tokenizers` 0.23.3 knows: combining marks, and
# the parts of new compositions. To it they are like letters: nothing moves past them and nothing melts into them.
_TOO_NEW = re.compile(
    "([\u07fd\u0897-\u089f\u08ca-\u08d3\u09fe\u0c3c\u0d3b\u0d3c\u0eba\u1715\u1abf-\u1add\u1ae0-\u1aeb\u1df6-\u1dfa"
    "\ua82c\U000105c9\U000105d2\U000105da\U000105e4\U00010d24-\U00010d27\U00010d69-\U00010d6d\U00010eab\U00010eac"
    "\U00010efa\U00010efb\U00010efd-\U00010eff\U00010f46-\U00010f50\U00010f82-\U00010f85\U00011070\U0001133b"
    "\U00011383\U00011385\U0001138e\U00011391\U000113b8\U000113bb\U000113c2\U000113c5\U000113c7-\U000113c9"
    "\U000113ce-\U000113d0\U0001145e\U00011839\U0001183a\U00011930\U00011938\U0001193d\U0001193e\U00011943"
    "\U000119e0\U00011a34\U00011a47\U00011a99\U00011d42\U00011d44\U00011d45\U00011d97\U00011f41\U00011f42"
    "\U0001611e-\U00016129\U0001612f\U00016d67-\U00016d6a\U00016ff0\U00016ff1\U0001e08f\U0001e130-\U0001e136"
    "\U0001e2ae\U0001e2ec-\U0001e2ef\U0001e4ec-\U0001e4ef\U0001e5ee\U0001e5ef\U0001e6e3\U0001e6e6\U0001e6ee"
    "\U0001e6ef\U0001e6f5])"
)
_LEADING, _TRAILING = re.compile(f"^[{WHITE_SPACE}]+"), re.compile(f"[{WHITE_SPACE}]+$")


def nfc(text: str) -> str:
    """Return the text in Unicode's composed form, as the library `tokenizers` does it."""
    if unicodedata.is_normalized("NFC", text):
        return text
    return "".join([unicodedata.normalize("NFC", part) for part in _TOO_NEW.split(text)])


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
