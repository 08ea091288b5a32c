"""The messages of a conversation: OpenAI's (`role`, `content`, `weight`) and ShareGPT's (`from`, `value`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lora_lab.data.problems import RowError, json_kind, shown

ROLES = ("system", "user", "assistant")
# Words of other formats for the three roles.
OTHER_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "chatbot": "assistant",
    "developer": "system",
}
_TOOL_ROLES = ("tool", "function", "function_call", "ipython", "observation")
_TOOL_KEYS = ("tool_calls", "function_call", "tool_call_id")
_ROLES_SAID = 'it must be "system", "user" or "assistant"'
_NO_TOOLS = "tool calls are not supported, remove them or the row"


@dataclass(frozen=True)
class Message:
    """One turn. `trained` is false for an assistant turn that is context only (`"weight": 0`, or part of a prompt)."""

    role: str
    content: str
    trained: bool = True
    # Further keys of the message (`name`, `reasoning_content`, …): templates may read them.
    extra: dict[str, Any] = field(default_factory=dict)
    excluded: bool = False  # the row itself says `"weight": 0`: not trained even where everything else is

    def as_dict(self) -> dict[str, Any]:
        """Return the message as chat templates want it."""
        return {"role": self.role, "content": self.content, **self.extra}


def refuse_tools(value: dict[str, Any]) -> None:
    """Raise RowError for a row that brings tools."""
    for key in ("tools", "functions"):
        if value.get(key):
            raise RowError(f'the row has "{key}"', _NO_TOOLS, "tools")


def read_messages(value: Any, name: str, sharegpt: bool = False) -> tuple[Message, ...]:
    """Return the messages of a list. `sharegpt`: `from` and `value` may stand for `role` and `content`."""
    if not isinstance(value, list):
        hint = 'it must be a list of messages: [{"role": …, "content": …}, …]'
        raise RowError(f'"{name}" is {json_kind(value)}', hint, "wrong-type")
    if not value:
        hint = "it must hold at least one user and one assistant message"
        raise RowError(f'"{name}" is an empty list', hint, "no-assistant")
    return tuple(read_message(message, f"{name}[{index}]", sharegpt) for index, message in enumerate(value))


def read_message(value: Any, name: str, sharegpt: bool = False) -> Message:
    """Return one message. Raises RowError naming what is wrong with it."""
    if not isinstance(value, dict):
        hint = 'a message must be an object: {"role": …, "content": …}'
        raise RowError(f"{name} is {json_kind(value)}", hint, "wrong-type")
    role_key, content_key = ("role", "content")
    if sharegpt and "role" not in value and "from" in value:
        role_key, content_key = ("from", "value")
    for key in _TOOL_KEYS:
        if value.get(key):
            raise RowError(f'{name} has "{key}"', _NO_TOOLS, "tools")
    if role_key not in value:
        hint = f'{_ROLES_SAID}; ShareGPT\'s "from" is called "role" here' if "from" in value else _ROLES_SAID
        raise RowError(f'{name} has no "role"', hint, "missing-role")
    role = _role(value[role_key], f"{name}.{role_key}", name, lenient=role_key == "from" or sharegpt)
    if content_key not in value:
        hint = 'it must be a string; ShareGPT\'s "value" is called "content" here' if "value" in value else (
            "it must be a string")  # fmt: skip
        raise RowError(f'{name} ({role}) has no "{content_key}"', hint, "missing-content")
    content, weight = value[content_key], value.get("weight")
    if weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
        hint = "it must be 0 (do not train this turn) or 1"
        raise RowError(f"{name}.weight is {shown(repr(weight), 40)}", hint, "weight")
    trained = weight is None or weight != 0
    # An empty system turn is meaningful (it stands in place of a template's default); other empty turns are not.
    check_text(content, f"{name}.{content_key} ({role})", may_be_empty=role == "system" or not trained)
    known = (role_key, content_key, "weight")
    extra = {key: item for key, item in value.items() if key not in known and item is not None}
    return Message(role, content, trained, extra, not trained)


def _role(role: Any, place: str, name: str, lenient: bool) -> str:
    if not isinstance(role, str):
        raise RowError(f"{place} is {json_kind(role)}", _ROLES_SAID, "unknown-role")
    if role in ROLES:
        return role
    plain = role.strip().lower()
    if plain in _TOOL_ROLES:
        hint = "which are not supported; remove them or the row"
        raise RowError(f'{name}: the role "{shown(role, 40)}" belongs to tool calls', hint, "tools")
    other = plain if plain in ROLES else OTHER_ROLES.get(plain)
    if lenient and other:
        return other
    hint = 'roles are "system", "user" and "assistant"' + (f'; write "{other}"' if other else "")
    raise RowError(f'{name}: unknown role "{shown(role, 40)}"', hint, "unknown-role")


def check_text(value: Any, name: str, may_be_empty: bool = False) -> None:
    """Raise RowError unless the value is a text that can be trained on."""
    if isinstance(value, str):
        if not may_be_empty and (not value or value.isspace()):
            raise RowError(f"{name} is empty", "fill it in or remove the row", "empty-content")
        if not value.isascii():
            _check_characters(value, name)
        return
    if isinstance(value, list) and any(
        isinstance(part, dict) and part.get("type") not in (None, "text") for part in value
    ):
        raise RowError(f"{name} is a list with pictures or other media", "only text is supported", "media")
    kind = "missing-content" if value is None else "wrong-type"
    raise RowError(f"{name} is {json_kind(value)}", "it must be a string", kind)


def _check_characters(value: str, name: str) -> None:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        half = ord(value[error.start])
        message = f"{name} holds half a character (\\u{half:04x} at character {error.start + 1})"
        raise RowError(message, "write both halves or none", "half-character") from None
