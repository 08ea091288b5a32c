"""Dataclasses out of JSON that anybody may have written: each field of its kind, none besides them, all bounded."""

from __future__ import annotations

import math
import types
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from lora_lab.data.problems import well_formed

MAX_CHARACTERS, MAX_ITEMS = 20_000, 20_000
LARGEST_INT = 2**53 - 1  # that JavaScript can count


class ClosedError(ValueError):
    """A value is not what it has to be. The message says where, what was found and what was wanted."""


def to_plain(value: Any) -> Any:
    """Return dataclasses as dicts and lists that JSON takes. Half characters become U+FFFD."""
    if is_dataclass(value):
        return {one.name: to_plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    return well_formed(value) if isinstance(value, str) else value


def from_plain(kind: Any, value: Any, path: str) -> Any:
    """Return `value` as `kind` (an annotation), or raise ClosedError. `path` is what it is called."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        options = [option for option in arguments if option is not type(None)]
        return None if value is None and len(options) < len(arguments) else from_plain(options[0], value, path)
    if origin is Literal:
        return _want(isinstance(value, str) and value in arguments, value, f"one of {', '.join(arguments)}", path)
    if origin is tuple:
        _want(isinstance(value, list), value, "a list", path)
        _want(len(value) <= MAX_ITEMS, f"{len(value):,} items", f"at most {MAX_ITEMS:,}", path)
        return tuple(from_plain(arguments[0], item, f"{path}[{place}]") for place, item in enumerate(value))
    if origin is dict:
        _want(isinstance(value, dict), value, "an object", path)
        _want(len(value) <= MAX_ITEMS, f"{len(value):,} items", f"at most {MAX_ITEMS:,}", path)
        return {_text(key, f"{path}, a name"): from_plain(arguments[1], item, f"{path}.{key:.60}")
                for key, item in value.items()}  # fmt: skip
    if isinstance(kind, type) and is_dataclass(kind):
        return _dataclass(kind, value, path)
    if kind is str:
        return _text(value, path)
    if kind is bool:
        return _want(isinstance(value, bool), value, "true or false", path)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        good = is_number and abs(value) <= LARGEST_INT and value == int(value)
        return int(_want(good, value, "a whole number", path))
    assert kind is float, f"{path}: {kind} cannot be read"
    return float(_want(is_number and abs(value) < math.inf, value, "a number", path))


def _dataclass(kind: type[Any], value: Any, path: str) -> Any:
    _want(isinstance(value, dict), value, "an object", path)
    hints = get_type_hints(kind)
    if unknown := sorted(set(value) - set(hints)):
        raise ClosedError(f"{path} has {', '.join(map(_shown, unknown[:5]))}, which has no place there")
    needed = [one.name for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING]
    if missing := [name for name in needed if name not in value]:
        raise ClosedError(f"{path} has no {', '.join(missing)}")
    return kind(**{name: from_plain(hints[name], item, f"{path}.{name}") for name, item in value.items()})


def _text(value: Any, path: str) -> str:
    _want(isinstance(value, str), value, "text", path)
    _want(len(value) <= MAX_CHARACTERS, f"{len(value):,} characters", f"at most {MAX_CHARACTERS:,}", path)
    return well_formed(value)


def _want(good: bool, value: Any, wanted: str, path: str) -> Any:
    if not good:
        raise ClosedError(f"{path} is {_shown(value)}; wanted {wanted}")
    return value


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value):,}"
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
