"""The model card of an adapter: what it is of, and how to load it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from ..config import LoraConfig
from .json_reader import read_json
from .peft_config import CONFIG_FILE

CARD_FILE = "README.md"

_UNNAMED = """
The base model's name on the Hugging Face hub was not known when this was written. Put OWNER/NAME of the model that the
adapter was trained on, or the path of its folder, in the place of BASE_MODEL; on any other model it does nothing good.
"""


def model_card(lora: LoraConfig, base_model_name: str | None) -> str:
    """Return README.md for an adapter of a model that is called so on the hub, or by no name that is known."""
    model = f"`{base_model_name}`" if base_model_name else "the base model"
    front_matter = "\n".join(_front_matter(base_model_name))
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


def _front_matter(base_model_name: str | None) -> list[str]:
    lines = ["library_name: peft", "pipeline_tag: text-generation", "tags:", "- lora"]
    if base_model_name:
        lines = [f"base_model: {json.dumps(base_model_name)}", *lines]
        lines.append(f"- {json.dumps('base_model:adapter:' + base_model_name)}")
    return lines
