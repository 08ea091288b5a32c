"""What the tests of exports share: a tiny model of each family as folder and GGUF, an adapter, a place to write to."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lora_lab.config import LoraConfig, ModelConfig
from lora_lab.export import Base, Export, open_base, plan_export, write_files
from lora_lab.export.plan import Going
from lora_lab.formats.byte_source import sources_from_path
from tests.converted_gguf import convert
from tests.tiny_families import FAMILIES, IN_GGUF, write_tiny_family
from tests.tiny_gguf import write_tiny_gguf
from tests.tiny_model import write_tiny_model

NAMES = ("llama", *FAMILIES)
# llama.cpp has switched Phi-3's window off. A tied tiny Qwen 2 says one token again and again, whatever is done to it.
LIKE_LLAMA_CPP: dict[str, dict[str, Any]] = {
    **IN_GGUF,
    "phi3": {"sliding_window": None},
    "qwen2": {"tie_word_embeddings": False, "seed": 1},
}
# A rank and a scale that no default has, and by which greedy answers change.
LORA = {"rank": 5, "alpha": 10}
B_STD = 0.15


# As llama.cpp mixes them: inside a layer, and where rows are no multiple of 256.
MIXTURE = {
    "model.embed_tokens.weight": "q6_k",
    "model.layers.0.self_attn.q_proj.weight": "q4_k",
    "model.layers.0.self_attn.v_proj.weight": "q6_k",
    "model.layers.0.self_attn.o_proj.weight": "q5_0",
    "model.layers.1.mlp.down_proj.weight": "q3_k",
    "model.layers.1.mlp.up_proj.weight": "iq4_xs",
}


def write_mixed(root: Path) -> Path:
    """Write a Llama whose tensors are of many forms, and return its GGUF."""
    folder = write_tiny_model(root / "folder", hidden=256, intermediate=512, head_dim=64)
    return write_tiny_gguf(folder, root / "mixed.gguf", form="q4_1", forms=MIXTURE)


@dataclass(frozen=True)
class Case:
    """A family's tiny model in both formats: the same numbers, and the same settings as far as GGUF has them."""

    family: str
    folder: Path
    gguf: Path

    def base(self, kind: str) -> Base:
        return open_path(self.folder if kind == "folder" else self.gguf)


def make_case(root: Path, family: str) -> Case:
    """Write a family's model. llama.cpp does things of its own when `phi3` is in a model's name."""
    folder = root / ("fi-three" if family == "phi3" else family)
    if family == "llama":
        write_tiny_model(folder, intermediate=96, layers=3)
    else:
        write_tiny_family(folder, family, **LIKE_LLAMA_CPP.get(family, {}))
    return Case(family, folder, convert(folder, root / f"{folder.name}.gguf"))


def open_path(path: Path) -> Base:
    return asyncio.run(open_base(sources_from_path(path)))


def adapter_for(
    config: ModelConfig, seed: int = 0, b_std: float = B_STD, **lora: Any
) -> tuple[LoraConfig, dict[str, np.ndarray]]:
    """Return an adapter on all linear layers, neither of whose matrices is zero."""
    made = LoraConfig(**{**LORA, "targets": config.linear_names, **lora})
    rng = np.random.default_rng(seed)
    tensors = {}
    for layer in range(config.num_layers):
        own = config.names_in(layer)
        for name in (target for target in made.targets if target in own):
            out_size, in_size = config.linear_shape(layer, name)
            key = f"base_model.model.{config.module_path(layer, name)}"
            bound = in_size**-0.5
            tensors[f"{key}.lora_A.weight"] = rng.uniform(-bound, bound, (made.rank, in_size)).astype(np.float32)
            tensors[f"{key}.lora_B.weight"] = rng.normal(0, b_std, (out_size, made.rank)).astype(np.float32)
    return made, tensors


class Disk:
    """A sink that writes into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.begun: list[Path] = []
        folder.mkdir(parents=True, exist_ok=True)

    async def begin(self, name: str, size_bytes: int) -> None:
        self.begun.append(self.folder / name)
        self.file = self.begun[-1].open("wb")

    async def write(self, piece: bytes) -> None:
        self.file.write(piece)

    async def end(self) -> None:
        self.file.close()

    async def commit(self) -> None: ...

    async def abandon(self) -> None:
        self.file.close()
        for path in self.begun:
            path.unlink(missing_ok=True)


def export(
    base: Base, lora: LoraConfig, tensors: Mapping[str, np.ndarray], kind: str, form: str | None, out: Path,
    **more: Any,
) -> Export:  # fmt: skip
    """Export into the folder `out`, and return what was planned. `more` are Going's and plan_export's."""
    planning = {key: more.pop(key) for key in ("file_name", "system") if key in more}

    async def go() -> Export:
        planned = await plan_export(base, Going(lora, tensors, **more), kind, form, **planning)
        assert await write_files(planned.files, Disk(out)) == planned.size_bytes
        return planned

    return asyncio.run(go())
