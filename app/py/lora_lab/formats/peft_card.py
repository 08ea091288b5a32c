"""The model card of an adapter: what it is of, and how to load it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from ..config import LoraConfig
from .json_reader import read_json
from .peft_config import CONFIG_FILE
from .run_facts import RunFacts

CARD_FILE = "README.md"

_UNNAMED = """
The base model's name on the Hugging Face hub was not known when this was written. Put OWNER/NAME of the model that the
adapter was trained on, or the path of its folder, in the place of BASE_MODEL; on any other model it does nothing good.
"""


def model_card(
    lora: LoraConfig, base_model_name: str | None, run: RunFacts | None = None, licence: str | None = None
) -> str:
    """Return README.md for an adapter of a model that is called so on the hub, or by no name that is known.

    `licence` is the base model's; `run` says how the adapter was trained.
    """
    model = f"`{base_model_name}`" if base_model_name else "the base model"
    front_matter = "\n".join(_front_matter(base_model_name, licence))
    return f"""---
{front_matter}
---

# LoRA adapter

A LoRA adapter for {model}, trained with LoRA Lab.

| | |
|---|---|
| rank | {lora.rank} |
| alpha | {lora.alpha:g} |
| scale | {lora.scale:g} ({"alpha / sqrt(rank)" if lora.use_rslora else "alpha / rank"}) |
| layers | {", ".join(lora.targets)} |
{_trained(run, licence)}
## How to load it

Save this folder, then:
{"" if base_model_name else _UNNAMED}
```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained({json.dumps(base_model_name or "BASE_MODEL")})
model = PeftModel.from_pretrained(model, "THIS_FOLDER")
```
"""


def with_base_model(files: Mapping[str, bytes], base_model_name: str) -> dict[str, bytes]:
    """Return an adapter's files that name the model they were made for, where they name none; its card too if ours."""
    config = read_json(files[CONFIG_FILE])
    if config.get("base_model_name_or_path") is not None:
        return dict(files)
    named = json.dumps({**config, "base_model_name_or_path": base_model_name}, indent=2) + "\n"
    card = files.get(CARD_FILE, b"").decode("utf-8", "replace")
    if _UNNAMED in card:
        front = "\n".join(_front_matter(base_model_name))
        card = re.sub(r"\A---\n.*?\n---\n", f"---\n{front}\n---\n", card, count=1, flags=re.DOTALL)
        card = card.replace("adapter for the base model,", f"adapter for `{base_model_name}`,")
        card = card.replace(_UNNAMED, "").replace('"BASE_MODEL"', json.dumps(base_model_name))
        return {**files, CONFIG_FILE: named.encode(), CARD_FILE: card.encode()}
    return {**files, CONFIG_FILE: named.encode()}


def merged_card(lora: LoraConfig, base_model_name: str | None, licence: str | None, run: RunFacts | None) -> str:
    """Return README.md for a model that an adapter was merged into."""
    model = f"`{base_model_name}`" if base_model_name else "a base model"
    lines = [f"base_model: {json.dumps(base_model_name)}", "base_model_relation: finetune"] if base_model_name else []
    if licence:
        lines.append(f"license: {json.dumps(licence)}")
    front_matter = "\n".join([*lines, "library_name: transformers", "pipeline_tag: text-generation"])
    return f"""---
{front_matter}
---

# {model}, merged with a LoRA adapter

The adapter (rank {lora.rank}, scale {lora.scale:g}, layers {", ".join(lora.targets)}) was trained with LoRA Lab and is
part of these weights: nothing but this folder is needed.
{_trained(run, licence)}
## How to load it

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("THIS_FOLDER")
tokenizer = AutoTokenizer.from_pretrained("THIS_FOLDER")
```
"""


def _trained(run: RunFacts | None, licence: str | None) -> str:
    """Return the section on the training, and what the licence is; an empty line where nothing is known."""
    lines = []
    if run is not None:
        files = ", ".join(f"`{name}`" + (f" (sha256 `{sha256}`)" if sha256 else "") for name, sha256 in run.data)
        rows = f"{run.rows:,} rows" if run.rows is not None else ""
        held = f"{run.held_rows:,} more held back" if run.held_rows else ""
        losses = [
            f"{name} {value:.4f}"
            for name, value in (("first step", run.first_loss), ("last step", run.last_loss),
                                ("held-back rows", run.held_loss))
            if value is not None
        ]  # fmt: skip
        settings = ", ".join(f"{name} {_short(value)}" for name, value in run.settings.items() if value is not None)
        found = (
            ("data", "; ".join(part for part in (files, rows, held) if part)),
            ("steps", f"{run.steps:,}" if run.steps is not None else ""),
            ("loss", ", ".join(losses)),
            ("settings", settings),
            ("trained with", run.program),
        )
        lines = [f"| {name} | {' '.join(value.replace('|', ' ').split())} |" for name, value in found if value]
    if licence:
        lines.append(f"| licence of the base model | {licence} |")
    return "\n".join(["", "## Training", "", "| | |", "|---|---|", *lines, ""]) if lines else ""


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _front_matter(base_model_name: str | None, licence: str | None = None) -> list[str]:
    lines = ["library_name: peft", "pipeline_tag: text-generation", "tags:", "- lora"]
    if licence:
        lines = [f"license: {json.dumps(licence)}", *lines]
    if base_model_name:
        lines = [f"base_model: {json.dumps(base_model_name)}", *lines]
        lines.append(f"- {json.dumps('base_model:adapter:' + base_model_name)}")
    return lines
