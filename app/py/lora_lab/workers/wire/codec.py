"""Messages to plain dicts and back: what crosses between JavaScript and Python, checked field by field."""

from __future__ import annotations

import types
from dataclasses import fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from lora_lab.data.problems import well_formed
from lora_lab.workers.protocol import COMMANDS, Command
from lora_lab.workers.protocol.parts import Message

_COMMANDS = {command.wire_type(): command for command in COMMANDS}


class ProtocolError(Exception):
    """A message that the protocol does not know: a bug in the page or in a worker, not in the person's files."""


def to_wire(message: Message) -> dict[str, Any]:
    """Return the message as plain dicts and lists with its `type`; bytes and blobs stay as they are.

    Half characters (lone surrogates), which no JavaScript string can be made of, become U+FFFD.
    """
    return {"type": message.wire_type(), **_plain(message)}


def from_wire(data: dict[str, Any]) -> Command:
    """Return the command that a dict from the page stands for; ProtocolError if it is none."""
    if not isinstance(data, dict):
        raise ProtocolError(f"a message is {data!r:.80}; wanted an object")
    if (command := _COMMANDS.get(str(data.get("type")))) is None:
        raise ProtocolError(f"unknown command {data.get('type')!r}; the worker knows {', '.join(sorted(_COMMANDS))}")
    return _typed(command, {key: value for key, value in data.items() if key != "type"}, command.wire_type())


def from_dict(kind: type[Any], data: dict[str, Any]) -> Any:
    """Return a dataclass of this file made from `_plain` data, e.g. an AdapterInfo read from storage."""
    return _typed(kind, data, kind.__name__)


def to_dict(value: Any) -> dict[str, Any]:
    """The inverse of from_dict."""
    return _plain(value)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return well_formed(value) if isinstance(value, str) else value


def _typed(kind: Any, value: Any, path: str) -> Any:
    """Check `value` against the annotation `kind`, making dataclasses and tuples of dicts and lists."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        options = [option for option in arguments if option is not type(None)]
        return None if value is None and len(options) < len(arguments) else _typed(options[0], value, path)
    if origin is Literal:
        return _checked(value in arguments, value, f"one of {arguments}", path)
    if origin is tuple:
        items = _checked(isinstance(value, (list, tuple)), value, "a list", path)
        kinds = [arguments[0]] * len(items) if arguments[-1] is Ellipsis else list(arguments)
        _checked(len(kinds) == len(items), value, f"{len(kinds)} items", path)
        return tuple(_typed(k, item, f"{path}[{i}]") for i, (k, item) in enumerate(zip(kinds, items, strict=True)))
    if origin is dict:
        _checked(isinstance(value, dict), value, "an object", path)
        return {key: _typed(arguments[1], item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(kind, type) and is_dataclass(kind):
        return _typed_dataclass(kind, _checked(isinstance(value, dict), value, "an object", path), path)
    if kind is bytes:
        return bytes(_checked(isinstance(value, (bytes, bytearray, memoryview)), value, "bytes", path))
    if kind is float:
        return float(_checked(isinstance(value, (int, float)) and value is not True, value, "a number", path))
    if kind is int:
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        return int(_checked(whole and not isinstance(value, bool), value, "a whole number", path))
    return _checked(isinstance(value, kind), value, kind.__name__, path)


def _typed_dataclass(kind: type[Any], data: dict[str, Any], path: str) -> Any:
    hints = get_type_hints(kind)
    if unknown := sorted(set(data) - set(hints)):
        raise ProtocolError(f"{path} has no field {', '.join(unknown)}")
    try:
        return kind(**{name: _typed(hints[name], value, f"{path}.{name}") for name, value in data.items()})
    except TypeError as error:  # a field without a default is missing
        raise ProtocolError(f"{path}: {error}") from error


def _checked(good: bool, value: Any, wanted: str, path: str) -> Any:
    if not good:
        raise ProtocolError(f"{path} is {value!r:.80}; wanted {wanted}")
    return value
