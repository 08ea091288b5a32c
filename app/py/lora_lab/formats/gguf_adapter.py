"""llama.cpp's adapter: a GGUF file of the type `adapter`, as convert_lora_to_gguf writes it.

Tensors NAME.lora_a and NAME.lora_b, where NAME is the model's own tensor, are PEFT's A (r, in) and B (out, r). The
scale is adapter.lora.alpha / r. Where the model's q and k have their heads' rows interleaved, so have those of their B.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping

import numpy as np

from ..config import LoraConfig, ModelConfig
from ..errors import AdapterError
from .adapter_fit import Place, other_model, settle
from .adapter_names import peft_places
from .byte_source import BytesSource, FileFormatError
from .gguf import read_gguf
from .gguf_model import GgufNames
from .gguf_writer import NewTensor, entry, header, padding
from .quantize import quantize
from .tensors import FORMS, StoredTensor, permute_rows, unpermute_rows

# One way to write each number, and none of thousands of digits.
_TENSOR = re.compile(r"blk\.(0|[1-9][0-9]{0,5})\.([\w.]+)\.weight\.lora_([ab])")


async def read_gguf_adapter(
    data: bytes, name: str, model: ModelConfig, architectures: Collection[str], names: GgufNames
) -> tuple[LoraConfig, dict[Place, np.ndarray]]:
    """Return the settings and the matrices as PEFT has them, in Hugging Face's order of rows.

    `architectures` and `names` are the model's family's. AdapterError lists every problem.
    """
    try:
        gguf = await read_gguf(BytesSource(data, name))
    except FileFormatError as error:
        raise AdapterError(str(error)) from error
    said = gguf.scalars
    if said.get("general.type") != "adapter":
        raise AdapterError(
            f"{name}: general.type is {said.get('general.type')!r}; wanted 'adapter', a LoRA in GGUF form"
        )
    architecture, alpha = said.get("general.architecture"), said.get("adapter.lora.alpha")
    places, tensors = {}, {}
    strange = []
    for tensor in gguf.tensors.values():
        match = _TENSOR.fullmatch(tensor.name)
        if match is None or match[2] not in names.layer:
            strange.append(tensor.name)
            continue
        place = (int(match[1]), names.layer[match[2]], match[3].upper())
        places[place], tensors[place] = tensor.shape, tensor
    sentence = other_model(places, model)
    if architecture not in architectures:
        wanted = " or ".join(map(repr, architectures))
        raise AdapterError(
            sentence or f"the adapter was made for the architecture {architecture!r}; this model is {wanted}"
        )
    if sentence is not None:
        raise AdapterError(sentence)
    rank, targets, problems = settle(places, model)
    problems += [f"{name} is no LoRA matrix of a layer" for name in strange]
    if said.get("adapter.type") != "lora":
        problems.append(f"adapter.type is {said.get('adapter.type')!r}; wanted 'lora'")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        problems.append(f"adapter.lora.alpha is {alpha!r}; wanted a number")
    if "adapter.alora.invocation_tokens" in gguf.metadata:
        problems.append("adapter.alora.invocation_tokens is there; an adapter that waits for words is not supported")
    problems += [
        f"{t.name} is {t.form}; wanted one of {', '.join(FORMS)}" for t in tensors.values() if t.form not in FORMS
    ]
    if problems:
        raise AdapterError("\n".join(f"{name}: {problem}" for problem in problems))
    permuted = {names.layer[key]: heads for key, heads in names.permuted.items()}
    found = {place: await _matrix(tensor, place, permuted) for place, tensor in tensors.items()}
    assert isinstance(alpha, int | float), "looked at above"
    return LoraConfig(rank=rank, alpha=int(alpha) if float(alpha).is_integer() else alpha, targets=targets), found


def write_gguf_adapter(
    tensors: Mapping[str, np.ndarray], lora: LoraConfig, architecture: str, names: GgufNames, form: str = "f32"
) -> bytes:
    """Return llama.cpp's file of an adapter. `tensors` are float32 under PEFT's keys; `form` is "f32" or "f16".

    GGUF knows no rsLoRA: the alpha that is written gives the same scale, alpha / r.
    """
    entries = [
        entry("general.type", "adapter"),
        entry("general.architecture", architecture),
        entry("adapter.type", "lora"),
        entry("adapter.lora.alpha", float(lora.scale * lora.rank)),
        entry("general.file_type", 1 if form == "f16" else 0),
    ]
    own = {module: name for name, module in names.layer.items()}
    news, data = [], []
    for key, (layer, module, half) in sorted(peft_places(tensors)[0].items(), key=lambda item: item[1]):
        values, heads = tensors[key], names.permuted.get(own[module])
        if half == "B" and heads is not None:
            values = permute_rows(values, heads)
        news.append(NewTensor(f"blk.{layer}.{own[module]}.weight.lora_{half.lower()}", values.shape, form))
        if form == "f16" and np.abs(values).max(initial=0) > np.finfo(np.float16).max:
            raise AdapterError(f"{key} holds values that f16 does not reach; wanted f32")
        raw = quantize(form, values).tobytes()
        data += [raw, bytes(padding(len(raw)))]
    return b"".join([header(entries, news), *data])


async def _matrix(tensor: StoredTensor, place: Place, permuted: dict[str, int]) -> np.ndarray:
    values = await tensor.to_f32()
    _, module, half = place
    return unpermute_rows(values, permuted[module]) if half == "B" and module in permuted else values
