"""The logits of a given text, for comparisons and for scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import LoraLabError
from ..gpu.plan import Tensor
from ..gpu.pool import Pool
from ..model.block import scores_of
from ..model.lora import Adapter
from ..model.transformer import Model, transformer
from ..ops.attention import attention
from ..ops.cross_entropy import cap_logits
from ..ops.elementwise import copy
from ..ops.linear import product
from ..ops.step import StepBuffer, StepValues
from ..ops.tape import Tape

CHUNK_ROWS = 128  # rows of logits on the GPU at a time


async def logits(model: Model, adapter: Adapter | None, token_ids: Sequence[int], strength: float = 1.0) -> np.ndarray:
    """Return float32 (T, V): row t is the model's prediction after token t. Raises LoraLabError for no tokens."""
    config, device, length = model.config, model.device, len(token_ids)
    if not 0 < length <= config.max_position_embeddings:
        raise LoraLabError(f"the text has {length} tokens; {config.name} takes 1 to {config.max_position_embeddings}")
    pool, step = Pool(device, "logits"), StepBuffer(device, "logits")
    buffers, plans = [step.buffer], []
    try:
        tokens = device.upload(np.asarray(token_ids, np.uint32), "tokens")
        positions = device.upload(np.arange(length, dtype=np.uint32), "positions")
        table = model.rope_table(length)
        hidden_buffer = device.create_buffer(4 * length * config.hidden_size, "hidden states")
        most = device.limits.max_storage_buffer_binding_size // (4 * config.vocab_size)
        rows_out = max(1, min(CHUNK_ROWS, length, most))
        out_buffer = device.create_buffer(4 * rows_out * config.vocab_size, "logits")
        buffers += [tokens.buffer, positions.buffer, table.buffer, hidden_buffer, out_buffer]
        step.write(StepValues(strength=strength))

        tape = Tape(device, step.tensor, grad_enabled=False)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            heads, kv_heads, scores = config.num_heads, config.num_kv_heads, scores_of(config, layer)
            return attention(tape, q, k, v, positions, length, heads, kv_heads, scores=scores)

        hidden = transformer(tape, model, tokens, positions, table, attend, adapter.pairs() if adapter else {})
        copy(tape, hidden, Tensor(hidden.shape, hidden_buffer, 0, "hidden states"))
        plans.append(await device.build(tape, pool, "hidden states"))
        await device.submit_measured(plans[-1])

        result = np.empty((length, config.vocab_size), np.float32)
        for start in range(0, length, rows_out):
            count = min(rows_out, length - start)
            tape = Tape(device, step.tensor, grad_enabled=False)
            rows = Tensor((count, config.hidden_size), hidden_buffer, 4 * start * config.hidden_size, "hidden states")
            out = Tensor((count, config.vocab_size), out_buffer, 0, "logits")
            product(tape, rows, model.lm_head, out)
            if config.logit_softcap:
                cap_logits(tape, out, config.logit_softcap)
            plans.append(await device.build(tape, pool, "logits"))
            await device.submit_measured(plans[-1])
            result[start : start + count] = await device.download(out)
        return result
    finally:
        for plan in plans:
            plan.close()
        for buffer in buffers:
            buffer.destroy()
        pool.close()
