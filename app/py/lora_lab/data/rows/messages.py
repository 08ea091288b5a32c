"""The messages of a conversation: OpenAI's (`role`, `content`, `weight`) and ShareGPT's (`from`, `value`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lora_lab.data.problems import RowError, json_kind, shown
from lora_lab.data.rows.flags import FLAG_KEYS, wish
from lora_lab.data.rows.parts import Unused, check_text, joined

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
    excluded: bool = (
        False  # the row itself says `"weight": 0` or `"train": false`: not trained even where everything else is
    )

    def as_dict(self) -> dict[str, Any]:
        """Return the message as chat templates want it."""
        return {"role": self.role, "content": self.content, **self.extra}


def refuse_tools(value: dict[str, Any]) -> None:
    """Raise RowError for a row that brings tools."""
    for key in ("tools", "functions"):
        if value.get(key):
            raise RowError(f'the row has "{key}"', _NO_TOOLS, "tools")


def read_messages(value: Any, name: str, unused: Unused, sharegpt: bool = False) -> tuple[Message, ...]:
    """Return the messages of a list. `sharegpt`: `from` and `value` may stand for `role` and `content`.

    What of a message is neither its words nor its role nor a wish about training is noted in `unused`.
    """
    if not isinstance(value, list):
        hint = 'it must be a list of messages: [{"role": …, "content": …}, …]'
        raise RowError(f'"{name}" is {json_kind(value)}', hint, "wrong-type")
    if not value:
        hint = "it must hold at least one user and one assistant message"
        raise RowError(f'"{name}" is an empty list', hint, "no-assistant")
    return tuple(
        read_message(message, f"{name}[{index}]", f"{name}[]", unused, sharegpt) for index, message in enumerate(value)
    )


def read_message(value: Any, name: str, path: str, unused: Unused, sharegpt: bool = False) -> Message:
    """Return one message. `path` is its place among the columns. Raises RowError naming what is wrong with it."""
    if not isinstance(value, dict):
        hint = 'a message must be an object: {"role": …, "content": …}'
        raise RowError(f"{name} is {json_kind(value)}", hint, "wrong-type")
    role_key, content_key = message_keys(value, sharegpt)
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
    content = joined(value[content_key], f"{name}.{content_key}", f"{path}.{content_key}", unused)
    asked = wish(value, name) if len(value) > 2 else None
    trained = asked is not False
    # An empty system turn is meaningful (it stands in place of a template's default); other empty turns are not.
    check_text(content, f"{name}.{content_key} ({role})", may_be_empty=role == "system" or not trained)
    if len(value) == 2:
        return Message(role, content, trained, {}, not trained)
    known = (role_key, content_key, *FLAG_KEYS)
    extra = {key: item for key, item in value.items() if key not in known and item is not None}
    unused.rest(extra, (), f"{path}.")
    if asked and role != "assistant":  # a wish that the masking does not fulfil
        unused.rest({key: value[key] for key in FLAG_KEYS & value.keys()}, (), f"{path}.")
    return Message(role, content, trained, extra, not trained)


def message_keys(value: dict[str, Any], sharegpt: bool) -> tuple[str, str]:
    """Return the keys of a message's role and words."""
    return ("from", "value") if sharegpt and "role" not in value and "from" in value else ("role", "content")


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
