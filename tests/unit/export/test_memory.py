"""A model of 2.5 GB is merged in less than 300 MB: natively, in a process of its own, as the system counts it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from build_tools.base import ROOT
from lora_lab.formats import safetensors
from tests.tiny_model import write_tiny_model

MOST_BYTES = 300_000_000
# The dimensions of Llama 3.2 1B: 1.24 billion parameters, 2.47 GB in bf16, a tied embedding of 525 MB.
LARGE = {
    "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
    "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128_256,
}  # fmt: skip
SMALL = {**LARGE, "num_hidden_layers": 2, "vocab_size": 4096}

# Measures what is merged and how much the process has grown by then, above what it had when all was opened.
SCRIPT = """
import asyncio, json, sys
from pathlib import Path
sys.path[:0] = [{root!r}, {package!r}]
from tests.export_cases import Disk, adapter_for, open_path
from lora_lab.export import plan_export, write_files
from lora_lab.export.plan import Going

def status(name):
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name + ":"))
    return int(line.split()[1]) * 1024

base = open_path(Path({model!r}))
lora, tensors = adapter_for(base.config, rank=16)
Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
before, told = status("VmRSS"), []

async def go():
    planned = await plan_export(base, Going(lora, tensors), {kind!r}, {form!r})
    return await write_files(planned.files, Disk(Path({out!r})), lambda done, total: told.append(done / total))

size = asyncio.run(go())
print(json.dumps({{"size": size, "grown": status("VmHWM") - before, "told": len(told), "last": told[-1]}}))
"""


def write_model(folder: Path, dimensions: dict[str, int]) -> Path:
    """Write a random bf16 Llama of these dimensions, its weights one tensor after the other."""
    write_tiny_model(folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | dimensions | {"dtype": "bfloat16"}))
    c, i, kv = dimensions["hidden_size"], dimensions["intermediate_size"], 8 * 64
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (dimensions["vocab_size"], c)}
    for layer in range(dimensions["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        attention = {"q": c, "k": kv, "v": kv, "o": c}
        shapes |= {f"{at}self_attn.{name}_proj.weight": (out, c) for name, out in attention.items()}
        shapes |= {f"{at}mlp.{name}_proj.weight": (i, c) for name in ("gate", "up")}
        shapes[f"{at}mlp.down_proj.weight"] = (c, i)
        shapes |= {f"{at}{name}.weight": (c,) for name in ("input_layernorm", "post_attention_layernorm")}
    shapes["model.norm.weight"] = (c,)
    head, order = safetensors.lay_out({name: ("bf16", shape) for name, shape in shapes.items()}, {"format": "pt"})
    rng = np.random.default_rng(0)
    some = (rng.normal(0, 0.05, 1 << 20).astype(np.float32).view(np.uint32) >> 16).astype("<u2")
    with (folder / "model.safetensors").open("wb") as file:
        file.write(head)
        for name in order:
            left = int(np.prod(shapes[name]))
            while left:
                file.write(some[:left].tobytes())
                left -= min(left, some.size)
    return folder


def merge(root: Path, dimensions: dict[str, int], kind: str, form: str) -> dict[str, Any]:
    model = root / "model"
    if not model.exists():
        write_model(model, dimensions)
    out = root / f"{kind}-{form}"
    names = {"root": str(ROOT), "package": str(ROOT / "app/py"), "model": str(model), "out": str(out)}
    script = SCRIPT.format(**names, kind=kind, form=form)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for path in out.iterdir():
        path.unlink()  # gigabytes
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(kind, form, found)
    return found


@pytest.mark.parametrize("kind, form", [("merged", "bf16"), ("gguf", "q8_0")])
def test_a_smaller_model_stays_far_below(tmp_path: Path, kind: str, form: str) -> None:
    """The short one: 0.25 GB. What it grows by is the same for any size."""
    found = merge(tmp_path, SMALL, kind, form)
    assert found["size"] > 130_000_000
    assert found["grown"] < MOST_BYTES / 2
    assert found["told"] > 20 and found["last"] == pytest.approx(1)


@pytest.mark.long
def test_two_and_a_half_gigabytes_grow_by_less_than_300_mb(tmp_path: Path) -> None:
    for kind, form, least in (("merged", "bf16", 2.4e9), ("gguf", "f16", 2.4e9), ("gguf", "q8_0", 1.3e9)):
        found = merge(tmp_path, LARGE, kind, form)
        assert found["size"] > least
        assert found["grown"] < MOST_BYTES, (kind, form, found)
