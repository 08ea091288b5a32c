"""Which weights a model has, without reading all of them: for telling whether a run can go on with this model."""

from __future__ import annotations

import hashlib

from .model_files import ModelFiles

SAMPLE_BYTES = 256


async def model_fingerprint(files: ModelFiles) -> str:
    """Return a digest of every tensor's name, shape, form, and of a few bytes from its middle.

    A model that was trained further, merged or quantized otherwise differs in nearly all tensors.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(files.tensors):
        tensor = files.tensors[name]
        count = min(SAMPLE_BYTES, tensor.size_bytes)
        sample = await tensor.source.read(tensor.offset + (tensor.size_bytes - count) // 2, count)
        digest.update(f"{name} {tensor.form} {tensor.shape} {tensor.times} {tensor.plus}\0".encode())
        digest.update(sample)
    return digest.hexdigest()
