"""WGSL kernels: reading a file, resolving its includes and constants, and knowing its bindings and parameters.

A kernel file is plain WGSL. By convention `params` (one struct of 32-bit scalars, constant in a plan) is at binding 0,
`step` (what varies from step to step, see step.wgsl) at binding 1, and storage buffers follow. Bindings are named: an
op passes tensors by the names that the WGSL uses, and the layout is read from the source, so it is stated only once.
A line `// include: NAME` is replaced by the file NAME; `constants` become `const NAME = value;` lines at the top.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

Constants = tuple[tuple[str, int | float | bool], ...]

_BINDING = re.compile(r"@group\(0\)\s*@binding\((\d+)\)\s*var(?:<([\w, ]+)>)?\s+(\w+)\s*:")
_STRUCT = re.compile(r"struct\s+Params\s*\{(.*?)\}", re.S)
_FIELD = re.compile(r"(\w+)\s*:\s*(u32|i32|f32)")
_INCLUDE = re.compile(r"^// include: (\S+)[ \t]*$", re.M)
_PACK = {"u32": "I", "i32": "i", "f32": "f"}


def _wgsl_folder() -> Path:
    """In a wheel the kernels lie in the package; in a checkout they are in app/wgsl."""
    installed = Path(__file__).parents[1] / "wgsl"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "wgsl"


@cache
def _read(name: str) -> str:
    return (_wgsl_folder() / name).read_text(encoding="utf-8")


@dataclass(frozen=True)
class Binding:
    """One binding of a kernel: `access` is "uniform", "read" or "read_write"."""

    name: str
    index: int
    access: str


@dataclass(frozen=True)
class Kernel:
    """One entry point of one WGSL source with its constants filled in. Equal kernels are the same object."""

    name: str
    entry: str
    source: str = field(repr=False)
    bindings: Mapping[str, Binding] = field(repr=False)
    param_fields: tuple[tuple[str, str], ...] = field(repr=False)

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def pack_params(self, values: Mapping[str, int | float]) -> bytes:
        """Return the bytes of `Params`. Every field must be given, and nothing else: a typo must not become a zero."""
        names = [name for name, _ in self.param_fields]
        if set(names) != set(values):
            raise ValueError(f"{self.name}.{self.entry} takes the parameters {names}, found {sorted(values)}")
        form = "<" + "".join(_PACK[kind] for _, kind in self.param_fields)
        return struct.pack(form, *(values[name] for name in names))


@cache
def kernel(name: str, entry: str, constants: Constants = (), includes: tuple[str, ...] = ()) -> Kernel:
    """Return entry point `entry` of `name`.wgsl. `includes` are put before it (a weight form's loader, say)."""
    text = "\n".join([*(_read(f"{include}.wgsl") for include in includes), _read(f"{name}.wgsl")])
    while _INCLUDE.search(text):
        text = _INCLUDE.sub(lambda match: _read(match.group(1)), text)
    head = "".join(f"const {key} = {_literal(value)};\n" for key, value in constants)
    bindings: dict[str, Binding] = {}
    for index, space, binding in _BINDING.findall(text):
        access = "uniform" if space == "uniform" else ("read_write" if "read_write" in space else "read")
        bindings[binding] = Binding(binding, int(index), access)
    body = _STRUCT.search(text)
    fields = tuple(_FIELD.findall(re.sub(r"//.*", "", body.group(1)))) if body else ()
    variant = "".join(f" {key}={value}" for key, value in constants) + "".join(f" {include}" for include in includes)
    return Kernel(name + variant, entry, head + text, bindings, fields)


def _literal(value: int | float | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value}u" if isinstance(value, int) else f"f32({value!r})"
