"""Models of a given shape with seeded random weights: speed does not depend on the values."""

from __future__ import annotations

import numpy as np

from bench.mixtures import form_of
from bench.shapes import SHAPES
from lora_lab.config import ModelConfig
from lora_lab.formats.byte_source import BytesSource, check_range
from lora_lab.formats.hf_config import HfConfig
from lora_lab.formats.tensors import BLOCK_SIZES, StoredTensor, row_size_bytes
from lora_lab.model.checks import EMBEDDING, LM_HEAD, needed_shapes
from lora_lab.model.families import llama, of_model_type
from lora_lab.model.files import ModelFiles, TokenizerFiles

SMOLLM2_135M = llama.make_config(
    vocab_size=49152, hidden_size=576, intermediate_size=1536, num_layers=30, num_heads=9, num_kv_heads=3, head_dim=64,
    rms_norm_eps=1e-5, rope_theta=100000.0, max_position_embeddings=8192, tie_word_embeddings=True, name="SmolLM2-135M",
    bos_token_id=1, eos_token_ids=(2,),
)  # fmt: skip

# For a try on a software device.
TINY = llama.make_config(
    vocab_size=512, hidden_size=64, intermediate_size=192, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=16,
    rms_norm_eps=1e-5, rope_theta=10000.0, max_position_embeddings=2048, tie_word_embeddings=True, name="tiny",
    bos_token_id=1, eos_token_ids=(2,),
)  # fmt: skip

# What the f16 numbers of a block are, by where they begin, so that its values lie between about -0.03 and 0.03.
SCALES = {
    "q8_0": {0: 0.00027}, "q4_0": {0: 0.0043}, "q4_1": {0: 0.0043, 2: -0.0323}, "q5_0": {0: 0.0021},
    "q5_1": {0: 0.0021, 2: -0.0323}, "iq4_nl": {0: 0.0003}, "q2_k": {80: 0.0015, 82: 0.0022}, "q3_k": {108: 0.0003},
    "q4_k": {0: 7e-5, 2: 5e-4}, "q5_k": {0: 3.4e-5, 2: 5e-4}, "q6_k": {208: 8e-6}, "iq4_xs": {0: 8e-6},
}  # fmt: skip


def published_shape(name: str) -> ModelConfig:
    """Return the settings of a model of bench/shapes.py, read as those of a Hugging Face folder."""
    config = HfConfig({**SHAPES[name]}, {})
    family = of_model_type(config.get("model_type"))
    found = None if isinstance(family, str) else family.read_hf(config, name)
    if found is None or config.problems:
        raise ValueError(f"{name}: {family if isinstance(family, str) else '; '.join(config.problems)}")
    return found


def random_model(config: ModelConfig, mixture: str = "q4_1", seed: int = 0) -> ModelFiles:
    """Return a model whose weights are about N(0, 0.02^2), kept as bench/mixtures.py says, gains being 1."""
    tensors: dict[str, StoredTensor] = {}
    for index, (name, shape) in enumerate(needed_shapes(config).items()):
        if len(shape) == 1:
            raw = np.ones(shape, np.float32).tobytes()
            tensors[name] = StoredTensor(name, shape, "f32", BytesSource(raw, name), 0, len(raw), None)
            continue
        rows, columns = shape
        form = form_of(mixture, name, columns, config.num_layers, embedding=name in (EMBEDDING, LM_HEAD))
        source = RandomSource(name, (rows, columns), form, (seed, index))
        tensors[name] = StoredTensor(name, (rows, columns), form, source, 0, source.size_bytes, None)
    return ModelFiles(config, tensors, TokenizerFiles({}, None, {}), config.name)


class RandomSource:
    """A matrix as a file has it, every quant random: made where it is read, so that a model takes no memory here."""

    CHUNK_ROWS = 256

    def __init__(self, name: str, shape: tuple[int, int], form: str, seed: tuple[int, ...]) -> None:
        self.name, self.shape, self.form, self.seed = name, shape, form, seed
        self.row_bytes = row_size_bytes(form, shape[1])
        self.size_bytes = shape[0] * self.row_bytes

    async def read(self, offset: int, length: int) -> memoryview:
        check_range(self, offset, length)
        chunk_bytes = self.CHUNK_ROWS * self.row_bytes
        first, last = offset // chunk_bytes, -(-(offset + length) // chunk_bytes)
        chunks = [self._chunk(index) for index in range(first, last)]
        start = offset - first * chunk_bytes
        return memoryview(np.concatenate(chunks) if len(chunks) != 1 else chunks[0])[start : start + length]

    def _chunk(self, index: int) -> np.ndarray:
        rows = min(self.CHUNK_ROWS, self.shape[0] - index * self.CHUNK_ROWS)
        return random_rows(np.random.default_rng([*self.seed, index]), (rows, self.shape[1]), self.form)


def random_rows(random: np.random.Generator, shape: tuple[int, int], form: str) -> np.ndarray:
    """Return a matrix as a file has it, uint8, every quant random."""
    rows, columns = shape
    if form in ("f32", "f16", "bf16"):
        values = random.standard_normal(shape, np.float32) * np.float32(0.02)
        if form == "f16":
            values = values.astype(np.float16)
        words = values.view(np.uint16)
        return (words[:, 1::2].copy() if form == "bf16" else words).view(np.uint8).reshape(-1)
    raw = random.integers(0, 256, (rows * row_size_bytes(form, columns),), dtype=np.uint8)
    blocks = raw.reshape(-1, BLOCK_SIZES[form][1])
    for at, value in SCALES[form].items():
        blocks[:, at : at + 2] = np.array([value], np.float16).view(np.uint8)
    return raw
