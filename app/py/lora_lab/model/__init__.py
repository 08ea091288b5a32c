"""Models and adapters on the GPU."""

from __future__ import annotations

from .lora import Adapter
from .transformer import Model, fill_model, load_model, plan_model

__all__ = ["Adapter", "Model", "fill_model", "load_model", "plan_model"]
