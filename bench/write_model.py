"""Writes a GGUF of a published model's shape, of random weights, row by row: it may be larger than the memory.

    python3 -m bench.write_model --out FILE.gguf --shape qwen3-4b [--form q4_k] [--embedding-form q6_k] [options]

For what depends on a model's size and not on what it says: its loading, its memory, its speed. Its tokenizer has as
many tokens and merges as a real one, of words that nobody writes. `--sparse` writes the first and the last rows of each
tensor only: what lies between is zeros that take no room on the disk.
"""

from __future__ import annotations

import argparse
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from bench.shapes import SHAPES
from bench.synthetic import TINY, published_shape, random_rows
from lora_lab.config import ModelConfig
from lora_lab.data.tokens.chat_formats import CHATML
from lora_lab.errors import LoraLabError
from lora_lab.formats.gguf import DEFAULT_ALIGNMENT, MAGIC, TENSOR_TYPES
from lora_lab.formats.tensors import FORMS, row_size_bytes
from lora_lab.model.checks import EMBEDDING, LM_HEAD, needed_shapes
from lora_lab.model.families import family_of

CHUNK_BYTES = 32 << 20
SPARSE_ROWS = 4  # written at both ends of a tensor
TYPE_NUMBERS = {name: number for number, (name, _, _) in TENSOR_TYPES.items()}
END_OF_TURN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
U32, F32, BOOL, STRING, ARRAY, I32, U16 = 4, 6, 7, 8, 9, 5, 2


@dataclass(frozen=True)
class Planned:
    """One tensor: GGUF's name and what it is."""

    name: str
    shape: tuple[int, ...]
    form: str

    @property
    def row_bytes(self) -> int:
        return row_size_bytes(self.form, self.shape[-1])

    @property
    def rows(self) -> int:
        return int(np.prod(self.shape[:-1]))

    @property
    def size_bytes(self) -> int:
        return self.rows * self.row_bytes


def write_model(
    path: Path, config: ModelConfig, form: str, embedding_form: str, *, sparse: bool = False, parts: int = 1
) -> list[Path]:
    """Write the model as one file, or as `parts` files named as llama-gguf-split names them; return their paths."""
    planned = plan(config, form, embedding_form)
    shares = [planned[len(planned) * i // parts : len(planned) * (i + 1) // parts] for i in range(parts)]
    paths = (
        [path.with_name(f"{path.stem}-{i + 1:05}-of-{parts:05}.gguf") for i in range(parts)] if parts > 1 else [path]
    )
    for number, (one, share) in enumerate(zip(paths, shares, strict=True)):
        entries = metadata(config) if number == 0 else {}
        if parts > 1:
            split = {"no": (U16, number), "count": (U16, parts), "tensors.count": (I32, len(planned))}
            entries |= {f"split.{key}": value for key, value in split.items()}
        with one.open("wb") as file:
            write_gguf(file, entries, share, sparse, seed=number)
    return paths


def plan(config: ModelConfig, form: str, embedding_form: str) -> list[Planned]:
    """Return the tensors that a model of this shape has, by GGUF's names: matrices in `form`, gains in f32."""
    names = family_of(config).gguf_names(config)
    whole = {ours: theirs for theirs, ours in names.whole.items()}
    in_layer = {ours: theirs for theirs, ours in names.layer.items()}
    found = []
    for key, shape in needed_shapes(config).items():
        chosen = "f32" if len(shape) == 1 else embedding_form if key in (EMBEDDING, LM_HEAD) else form
        if key in whole:
            name = whole[key]
        else:
            _, _, layer, rest = key.split(".", 3)
            module, _, ending = rest.rpartition(".")
            name = f"blk.{layer}.{in_layer[module]}.{ending}"
        found.append(Planned(name, shape, chosen))
    return found


def metadata(config: ModelConfig) -> dict[str, tuple[int, Any]]:
    """Return (type, value) by key, as llama.cpp's converter writes them."""
    (arch, *_) = family_of(config).GGUF_ARCHITECTURES
    tokens, merges = vocabulary(config.vocab_size)
    kinds = [1] * (len(tokens) - len(END_OF_TURN)) + [3] * len(END_OF_TURN)
    numbers: dict[str, tuple[int, Any]] = {
        "block_count": (U32, config.num_layers),
        "context_length": (U32, config.max_position_embeddings),
        "embedding_length": (U32, config.hidden_size),
        "feed_forward_length": (U32, config.intermediate_size),
        "attention.head_count": (U32, config.num_heads),
        "attention.head_count_kv": (U32, config.num_kv_heads),
        "attention.key_length": (U32, config.head_dim),
        "attention.value_length": (U32, config.head_dim),
        "attention.layer_norm_rms_epsilon": (F32, config.rms_norm_eps),
        "rope.freq_base": (F32, config.rope_theta),
        "rope.dimension_count": (U32, config.head_dim),
    }
    return {
        "general.architecture": (STRING, arch),
        "general.name": (STRING, f"{config.name}, random weights"),
        **{f"{arch}.{key}": value for key, value in numbers.items()},
        "tokenizer.ggml.model": (STRING, "gpt2"),
        "tokenizer.ggml.pre": (STRING, "qwen2"),
        "tokenizer.ggml.tokens": (ARRAY, (STRING, tokens)),
        "tokenizer.ggml.token_type": (ARRAY, (I32, kinds)),
        "tokenizer.ggml.merges": (ARRAY, (STRING, merges)),
        "tokenizer.ggml.add_bos_token": (BOOL, False),
        "tokenizer.ggml.eos_token_id": (U32, config.vocab_size - 1),
        "tokenizer.chat_template": (STRING, CHATML.source),
    }


def vocabulary(size: int) -> tuple[list[str], list[str]]:
    """Return `size` tokens of byte-level BPE and the merges that make those that are more than a byte.

    Pairs of bytes, then pairs with one byte more, and so on.
    """
    tokens = byte_alphabet()
    merges: list[str] = []
    rounds = iter(pairs_of(tokens))
    while len(tokens) < size - len(END_OF_TURN):
        left, right = next(rounds)
        merges.append(f"{left} {right}")
        tokens.append(left + right)
    return [*tokens[: size - len(END_OF_TURN)], *END_OF_TURN], merges


def pairs_of(tokens: list[str]) -> Iterator[tuple[str, str]]:
    """Yield every token with each of the first 256 behind it, also those that are added meanwhile."""
    alphabet = tokens[:256]
    for left in tokens:
        for right in alphabet:
            yield left, right


def byte_alphabet() -> list[str]:
    """Return the characters that stand for the bytes 0 to 255 in byte-level BPE."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def write_gguf(
    file: BinaryIO, entries: dict[str, tuple[int, Any]], tensors: Sequence[Planned], sparse: bool, seed: int
) -> None:
    """Write a whole GGUF file, version 3, to an empty file."""
    file.write(MAGIC + struct.pack("<IQQ", 3, len(tensors), len(entries)))
    for key, (kind, value) in entries.items():
        file.write(_string(key) + struct.pack("<I", kind) + _value(kind, value))
    offset, places = 0, []
    for tensor in tensors:
        sizes = tensor.shape[::-1]
        file.write(_string(tensor.name) + struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes))
        file.write(struct.pack("<IQ", TYPE_NUMBERS[tensor.form], offset))
        places.append(offset)
        offset += -(-tensor.size_bytes // DEFAULT_ALIGNMENT) * DEFAULT_ALIGNMENT
    start = -(-file.tell() // DEFAULT_ALIGNMENT) * DEFAULT_ALIGNMENT
    file.truncate(start + offset)
    for number, (tensor, place) in enumerate(zip(tensors, places, strict=True)):
        random = np.random.default_rng((seed, number))
        for first, count in row_ranges(tensor, sparse):
            file.seek(start + place + first * tensor.row_bytes)
            file.write(rows_of(random, tensor, count))


def row_ranges(tensor: Planned, sparse: bool) -> Iterator[tuple[int, int]]:
    """Yield (first, count) of the rows that are written, a chunk's worth at a time."""
    if sparse and tensor.rows > 2 * SPARSE_ROWS:
        yield 0, SPARSE_ROWS
        yield tensor.rows - SPARSE_ROWS, SPARSE_ROWS
        return
    at_once = max(1, CHUNK_BYTES // tensor.row_bytes)
    for first in range(0, tensor.rows, at_once):
        yield first, min(at_once, tensor.rows - first)


def rows_of(random: np.random.Generator, tensor: Planned, count: int) -> bytes:
    """Return `count` random rows; a gain is ones."""
    if len(tensor.shape) == 1:
        return np.ones(tensor.shape, "<f4").tobytes()
    return random_rows(random, (count, tensor.shape[-1]), tensor.form).tobytes()


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(kind: int, value: Any) -> bytes:
    if kind == STRING:
        return _string(value)
    if kind == ARRAY:
        inner, values = value
        return struct.pack("<IQ", inner, len(values)) + b"".join(_value(inner, one) for one in values)
    return struct.pack({U16: "<H", U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind], value)


def main() -> int:
    """Write what the command line asks for and say how large it is."""
    parser = argparse.ArgumentParser(prog="bench.write_model", description="Writes a model of random weights.")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the .gguf file to write")
    parser.add_argument("--shape", choices=[*SHAPES, "tiny"], default="qwen3-4b", help="this model's shape")
    parser.add_argument("--form", choices=FORMS, default="q4_k", help="of its linear layers")
    parser.add_argument("--embedding-form", choices=FORMS, default="q6_k", help="of its embedding and output layer")
    parser.add_argument("--sparse", action="store_true", help="write little of it; the rest is a hole in the file")
    parser.add_argument("--parts", type=int, default=1, metavar="N", help="as N files NAME-00001-of-0000N.gguf")
    asked = parser.parse_args()
    config = TINY if asked.shape == "tiny" else published_shape(asked.shape)
    try:
        more = {"sparse": asked.sparse, "parts": asked.parts}
        paths = write_model(asked.out, config, asked.form, asked.embedding_form, **more)
    except LoraLabError as error:
        print(error, file=sys.stderr)
        return 1
    for path in paths:
        print(f"{path}: {path.stat().st_size / 1e9:,.3f} GB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
