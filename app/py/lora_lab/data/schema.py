"""A row's JSON object -> a conversation or a text, with everything that cannot be trained on refused by name.

Known rows: `messages`, `prompt` + `completion` (strings or lists of messages), `text`. Another kind of row becomes
one more entry of `_READERS` and one function that returns a `Conversation` or a `TextRow`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from lora_lab.data.jsonl import Problem, RawRow, RowError, json_kind

ROLES = ("system", "user", "assistant")
# Words of other formats for the three roles, and what is said about each.
_OTHER_ROLES = {
    "human": '"user"',
    "gpt": '"assistant"',
    "bot": '"assistant"',
    "model": '"assistant"',
    "ai": '"assistant"',
    "chatbot": '"assistant"',
    "developer": '"system"',
}
_TOOL_KEYS = ("tool_calls", "function_call", "tool_call_id")


@dataclass(frozen=True)
class Message:
    """One turn. `trained` is false for an assistant turn that is context only (`"weight": 0`, or part of a prompt)."""

    role: str
    content: str
    trained: bool = True
    # Further keys of the message (`name`, `reasoning_content`, …): templates may read them.
    extra: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the message as chat templates want it."""
        return {"role": self.role, "content": self.content, **self.extra}


@dataclass(frozen=True)
class Conversation:
    """Turns that go through the chat template; the assistant's are trained."""

    line: int
    messages: tuple[Message, ...]
    kind: str = "messages"

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(message.content for message in self.messages)


@dataclass(frozen=True)
class TextRow:
    """Text that is trained as it stands, with the end-of-text token after it."""

    line: int
    text: str
    kind: str = "text"

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.text,)


Row = Conversation | TextRow


def read_row(raw: RawRow) -> Row | Problem:
    """Return the row that a JSON object stands for, or what is wrong with it. Raises nothing."""
    try:
        for keys, reader in _READERS:
            # A null counts as absent: tables exported as JSON carry every column in every row.
            if all(raw.value.get(key) is not None for key in keys):
                return reader(raw.line, raw.value)
        raise RowError(_unknown_row(raw.value))
    except RowError as error:
        return Problem(raw.line, str(error))


def read_rows(raw_rows: list[RawRow]) -> tuple[list[Row], list[Problem]]:
    """Return the readable rows and the problems of the others, both in order."""
    rows: list[Row] = []
    problems: list[Problem] = []
    for raw in raw_rows:
        result = read_row(raw)
        if isinstance(result, Problem):
            problems.append(result)
        else:
            rows.append(result)
    return rows, problems


def _read_messages_row(line: int, value: dict[str, Any]) -> Conversation:
    _refuse_tools(value)
    messages = _read_messages(value["messages"], "messages")
    _want_assistant(messages, "messages")
    return Conversation(line, messages)


def _read_prompt_completion(line: int, value: dict[str, Any]) -> Conversation:
    _refuse_tools(value)
    # What stands in the prompt is context, also the assistant's earlier turns.
    before = [replace(message, trained=False) for message in _read_side(value, "prompt", "user")]
    after = _read_side(value, "completion", "assistant")
    _want_assistant(after, "completion")
    return Conversation(line, (*before, *after), "prompt-completion")


def _read_side(value: dict[str, Any], name: str, role: str) -> tuple[Message, ...]:
    """Read a prompt or a completion: a string, which is one turn of that role, or a list of messages."""
    side = value[name]
    if isinstance(side, list):
        return _read_messages(side, name)
    if not isinstance(side, str):
        raise RowError(f'"{name}" is {json_kind(side)}; it must be a string or a list of messages')
    _check_text(side, name)
    return (Message(role, side),)


def _read_text(line: int, value: dict[str, Any]) -> TextRow:
    _check_text(value["text"], "text")
    return TextRow(line, value["text"])


# The first whose keys are all present is taken: rows with `messages` often carry a `prompt` or a `text` besides.
_READERS: tuple[tuple[tuple[str, ...], Callable[[int, dict[str, Any]], Row]], ...] = (
    (("messages",), _read_messages_row),
    (("prompt", "completion"), _read_prompt_completion),
    (("text",), _read_text),
)


def _unknown_row(value: dict[str, Any]) -> str:
    wanted = 'wanted is "messages", or "prompt" and "completion", or "text"'
    if not value:
        return f"the row is an empty object; {wanted}"
    for key in ("messages", "prompt", "completion", "text"):
        if key in value and value[key] is None:
            return f'"{key}" is null; {wanted}'
    for key, partner in (("prompt", "completion"), ("completion", "prompt")):
        if key in value:
            return f'the row has "{key}" but no "{partner}"; {wanted}'
    if "role" in value and "content" in value:
        return f'the row is a single message; put a conversation\'s turns into one row: {{"messages": [ … ]}}; {wanted}'
    keys = ", ".join(f'"{key}"' for key in list(value)[:6])
    more = ", …" if len(value) > 6 else ""
    return f"the row has the keys {keys}{more}; {wanted}"


def _refuse_tools(value: dict[str, Any]) -> None:
    for key in ("tools", "functions"):
        if value.get(key):
            raise RowError(f'the row has "{key}"; tool calls are not supported, remove them or the row')


def _read_messages(value: Any, name: str) -> tuple[Message, ...]:
    if not isinstance(value, list):
        raise RowError(
            f'"{name}" is {json_kind(value)}; it must be a list of messages: [{{"role": …, "content": …}}, …]'
        )
    if not value:
        raise RowError(f'"{name}" is an empty list; it must hold at least one user and one assistant message')
    return tuple(_read_message(message, f"{name}[{index}]") for index, message in enumerate(value))


def _read_message(value: Any, name: str) -> Message:
    if not isinstance(value, dict):
        raise RowError(f'{name} is {json_kind(value)}; a message must be an object: {{"role": …, "content": …}}')
    role = value.get("role")
    for key in _TOOL_KEYS:
        if value.get(key):
            raise RowError(f'{name} has "{key}"; tool calls are not supported, remove them or the row')
    if "role" not in value:
        hint = '; ShareGPT\'s "from" is called "role" here' if "from" in value else ""
        raise RowError(f'{name} has no "role"; it must be "system", "user" or "assistant"{hint}')
    if not isinstance(role, str):
        raise RowError(f'{name}.role is {json_kind(role)}; it must be "system", "user" or "assistant"')
    if role not in ROLES:
        raise RowError(f"{name}: {_unknown_role(role)}")
    if "content" not in value:
        hint = '; ShareGPT\'s "value" is called "content" here' if "value" in value else ""
        raise RowError(f'{name} ({role}) has no "content"; it must be a string{hint}')
    content = value["content"]
    weight = value.get("weight")
    trained = weight is None or weight != 0
    if weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
        raise RowError(f"{name}.weight is {weight!r}; it must be 0 (do not train this turn) or 1")
    # An empty system turn is meaningful (it stands in place of a template's default); other empty turns are not.
    _check_text(content, f"{name}.content ({role})", may_be_empty=role == "system" or not trained)
    extra = {key: item for key, item in value.items() if key not in ("role", "content", "weight") and item is not None}
    return Message(role, content, trained, extra)


def _unknown_role(role: str) -> str:
    if role in ("tool", "function", "ipython", "observation"):
        return f'the role "{role}" belongs to tool calls, which are not supported; remove them or the row'
    plain = role.strip().lower()
    other = f'"{plain}"' if plain in ROLES else _OTHER_ROLES.get(plain)
    hint = f"; write {other}" if other else ""
    return f'unknown role "{role}"; roles are "system", "user" and "assistant"{hint}'


def _check_text(value: Any, name: str, may_be_empty: bool = False) -> None:
    parts = [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []
    if any(part.get("type") not in (None, "text") for part in parts):
        raise RowError(f"{name} is a list with pictures or other media; only text is supported")
    if not isinstance(value, str):
        raise RowError(f"{name} is {json_kind(value)}; it must be a string")
    if not value.strip() and not may_be_empty:
        raise RowError(f"{name} is empty; fill it in or remove the row")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        half = ord(value[error.start])
        raise RowError(
            f"{name} holds half a character (\\u{half:04x} at character {error.start + 1}); write both halves or none"
        ) from None


def _want_assistant(messages: tuple[Message, ...], name: str) -> None:
    assistant = [message for message in messages if message.role == "assistant"]
    if not assistant:
        raise RowError(
            f'"{name}" has no assistant turn, so nothing could be learned; add {{"role": "assistant", "content": …}}'
        )
    if not any(message.trained for message in assistant):
        raise RowError(f'every assistant turn of "{name}" has weight 0, so nothing could be learned; give one weight 1')
