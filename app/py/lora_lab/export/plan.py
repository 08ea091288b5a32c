"""What can be exported, in which forms, and the files that each of them is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..config import LoraConfig
from ..errors import LoraLabError
from ..formats.gguf_adapter import write_gguf_adapter
from ..formats.mlx_adapter import write_mlx
from ..formats.peft import write_adapter
from ..formats.peft_card import merged_card
from ..formats.run_facts import RunFacts
from ..model.families import family_of, gguf_architectures
from .base import Base
from .gguf_model import SAME, merged_gguf
from .hf_folder import merged_folder
from .merge import Adapted
from .sink import NewFile

# What goes out: (one file or a folder, its forms, the first is what is taken where none is said).
FORMS: dict[str, tuple[str, ...]] = {
    "peft": ("f32",),
    "gguf-adapter": ("f32", "f16"),
    "mlx": ("f32",),
    "merged": ("bf16", "f16", "f32"),
    "gguf": (SAME, "f16", "q8_0", "bf16", "f32"),
    "ollama": (SAME, "f16", "q8_0", "bf16", "f32"),
}
KINDS = tuple(FORMS)
ONE_FILE = frozenset({"gguf-adapter", "gguf"})
GGUF_NAME = "model.gguf"


@dataclass(frozen=True)
class Going:
    """An adapter that is to go out. `template` is its own, where it brings one; `base_name` OWNER/NAME or None."""

    lora: LoraConfig
    tensors: Mapping[str, np.ndarray]
    base_name: str | None = None
    template: str | None = None
    run: RunFacts | None = None


@dataclass(frozen=True)
class Export:
    """The files of an export, in the order in which they are written, and what a person should hear of it.

    `requantised`: numbers change on the way, by as much as a measurement on rows can tell.
    """

    files: tuple[NewFile, ...]
    remarks: tuple[str, ...] = ()
    requantised: bool = False

    @property
    def size_bytes(self) -> int:
        """What they take together."""
        return sum(file.size_bytes for file in self.files)


def check_form(kind: str, form: str | None) -> str:
    """Return the form that is meant. LoraLabError names what would do."""
    if kind not in FORMS:
        raise LoraLabError(f"{kind!r} is nothing that can be exported; wanted one of {', '.join(KINDS)}")
    if form is None:
        return FORMS[kind][0]
    if form not in FORMS[kind]:
        raise LoraLabError(f"{kind} cannot be {form}; wanted {' or '.join(FORMS[kind])}")
    return form


async def plan_export(
    base: Base, going: Going, kind: str, form: str | None = None, file_name: str = GGUF_NAME, system: str | None = None
) -> Export:
    """Return the files of an export; nothing is computed before their pieces are asked for.

    `file_name` is that of a single file; `system` the system prompt of an Ollama folder. LoraLabError, ModelError and
    AdapterError name what cannot be done.
    """
    form = check_form(kind, form)
    if kind in ("peft", "gguf-adapter", "mlx"):
        return Export(tuple(_alone(base, going, kind, form, file_name)))
    adapted = Adapted(going.lora, going.tensors)
    if kind == "merged":
        card = merged_card(going.lora, going.base_name, base.licence, going.run).encode()
        requantised = any(tensor.form != form and form != "f32" for tensor in base.files.tensors.values())
        return Export(tuple(merged_folder(base, adapted, form, going.template, card)), (), requantised)
    name = file_name if kind == "gguf" else GGUF_NAME
    merged, remarks = await merged_gguf(base, adapted, form, name, going.template)
    stored = {tensor.form for tensor in base.files.tensors.values()}
    requantised = form != "f32" and not (form == SAME and stored == {"f32"})
    if kind == "gguf":
        return Export((merged,), remarks, requantised)
    from .ollama import ollama_files  # it brings jinja2, which nothing else here needs

    others, more = ollama_files(base, going.template, GGUF_NAME, system)
    return Export((*others, merged), (*remarks, *more), requantised)


def _alone(base: Base, going: Going, kind: str, form: str, file_name: str) -> list[NewFile]:
    config, family = base.config, family_of(base.config)
    if kind == "gguf-adapter":
        architecture = gguf_architectures(family)[0]
        content = write_gguf_adapter(going.tensors, going.lora, architecture, family.gguf_names(config), form)
        return [NewFile.of(file_name, content)]
    if kind == "mlx":
        files = write_mlx(going.tensors, going.lora, config, going.base_name)
    else:
        template = going.template if going.template is not None else base.files.tokenizer.chat_template
        files = write_adapter(going.tensors, going.lora, config, going.base_name, template, going.run, base.licence)
    return [NewFile.of(name, content) for name, content in files.items()]
