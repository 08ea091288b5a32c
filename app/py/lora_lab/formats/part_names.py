"""What the files of a GGUF model in several parts are called: NAME-00001-of-00003.gguf and so on."""

from __future__ import annotations

import re

_PART_NAME = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)


def part_names(name: str) -> list[str]:
    """Return the names of all parts of the model of which `name` is one by its name; [name] where it is none."""
    match = _PART_NAME.fullmatch(name)
    count = int(match[3]) if match else 0
    if not match or not 1 <= int(match[2]) <= count:
        return [name]
    return [f"{match[1]}-{number:05}-of-{match[3]}.gguf" for number in range(1, count + 1)]


def whole_name(name: str) -> str:
    """Return what a model is called whose file has this name, a part or the whole, without the ending."""
    match = _PART_NAME.fullmatch(name)
    return match[1] if match else re.sub(r"\.gguf$", "", name, flags=re.IGNORECASE)
