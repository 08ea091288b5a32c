"""The logits of a given text, for comparisons and for scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..gpu.pool import Pool
from ..model.lora import Adapter
from ..model.transformer import Model
from .text_pass import TextPass


async def logits(model: Model, adapter: Adapter | None, token_ids: Sequence[int], strength: float = 1.0) -> np.ndarray:
    """Return float32 (T, V): row t is the model's prediction after token t. Raises LoraLabError for no tokens."""
    pool = Pool(model.device, "logits")
    try:
        text = await TextPass.run(model, adapter, token_ids, strength, pool)
        try:
            result = np.empty((text.length, model.config.vocab_size), np.float32)
            for start in range(0, text.length, text.chunk_rows):
                count = min(text.chunk_rows, text.length - start)
                result[start : start + count] = await text.logits(start, count)
            return result
        finally:
            text.close()
    finally:
        pool.close()
