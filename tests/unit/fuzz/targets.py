"""Every reader of foreign bytes: good inputs to begin with, how they are spoiled, and the errors that it documents."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import random
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lora_lab.config import LoraConfig
from lora_lab.data import DataSource, build_report, read_table
from lora_lab.data.tokens.regex_shape import RegexError, least_match
from lora_lab.data.tokens.template import ChatTemplate, TemplateError
from lora_lab.data.tokens.tokenizer import load_tokenizer
from lora_lab.errors import AdapterError, HubError, LoraLabError, ModelError
from lora_lab.formats import safetensors
from lora_lab.formats.byte_source import BytesSource, FileFormatError
from lora_lab.formats.hub import read_repository
from lora_lab.formats.json_reader import JsonError, read_json
from lora_lab.formats.peft import expected_shapes, read_adapter, read_chat_template, write_adapter
from lora_lab.formats.tokenizer_files import TokenizerFiles
from lora_lab.formats.zipping import pack_adapter, unpack_adapter
from lora_lab.model.families import llama
from lora_lab.model.files import open_model
from lora_lab.settings import SAMPLING, TRAINING
from lora_lab.workers.wire.codec import ProtocolError, from_wire
from tests.unit.data.corpus.cases import CASES
from tests.unit.data.helpers import TEMPLATE_NAMES, read_template
from tests.unit.data.tokens.hostile_templates import HOSTILE, LABORIOUS
from tests.unit.fuzz.mutators import json_bytes, some_json, spoil_bytes, spoil_json, spoil_text

MESSAGES = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Yes."}]
TEXT = "Hello, wörld 123 <|im_start|>\n a\u0301 \u3042"
MODEL = llama.make_config(
    vocab_size=9, hidden_size=8, intermediate_size=12, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=4,
    rms_norm_eps=1e-5, rope_theta=1e4, max_position_embeddings=64, tie_word_embeddings=True,
)  # fmt: skip
_loop = asyncio.new_event_loop()


@dataclass(frozen=True)
class Target:
    """One reader. `case` makes and reads a spoiled input; only `errors` may come out of it. `share` of the cases."""

    case: Callable[[random.Random], object]
    errors: tuple[type[Exception], ...]
    share: int = 1


def _run(coroutine: Any) -> Any:
    return _loop.run_until_complete(coroutine)


def make_targets(model_folder: Path, gguf_path: Path) -> dict[str, Target]:
    """Return the readers by name."""
    folder = {path.name: path.read_bytes() for path in model_folder.iterdir()}
    folder["special_tokens_map.json"] = b'{"bos_token": {"content": "<|im_start|>"}, "pad_token": "<|im_end|>"}'
    return {
        "JSON": Target(_json(folder), (JsonError,), 4),
        "safetensors": Target(_safetensors(), (FileFormatError,), 6),
        "GGUF": Target(_gguf(gguf_path.read_bytes()), (ModelError, FileFormatError), 2),
        "model folder": Target(_folder(folder), (ModelError,), 3),
        "tokenizer.json": Target(_tokenizer(json.loads(folder["tokenizer.json"])), (ModelError,), 3),
        "regular expression": Target(_regex, (RegexError,), 4),
        "adapter": Target(_adapter(), (AdapterError,), 4),
        "zip": Target(_zip(), (AdapterError,), 4),
        "dataset": Target(_dataset(), (), 4),
        "chat template": Target(_template(), (TemplateError,), 2),
        "protocol": Target(_protocol, (ProtocolError,), 4),
        "settings": Target(_settings, (), 3),
        "hub": Target(_hub, (HubError,), 3),
    }


def _json(folder: dict[str, bytes]) -> Callable[[random.Random], object]:
    seeds = [folder["config.json"], b'{"a": [1, 2.5, "x\\u00e9"], "b": null}', b"[[[]]]"]
    return lambda rng: read_json(spoil_bytes(rng.choice(seeds), rng))


def _safetensors() -> Callable[[random.Random], object]:
    tensors = {"a": np.zeros((2, 3), np.float32), "b.weight": np.ones((4,), np.float32)}
    whole = safetensors.write(tensors, {"format": "pt"})
    size = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + size])

    def case(rng: random.Random) -> object:
        if rng.random() < 0.5:
            data = spoil_bytes(whole, rng)
        else:
            text = json_bytes(spoil_json(header, rng), rng)
            data = len(text).to_bytes(8, "little") + text + whole[8 + size :]
        found = safetensors.read_header_of(data, "x.safetensors")
        return _run(safetensors.read_header(BytesSource(data, "x"))), found

    return case


def _gguf(whole: bytes) -> Callable[[random.Random], object]:
    head = 6000  # metadata stands at the beginning; the tokens and the weights are long

    def case(rng: random.Random) -> object:
        data = spoil_bytes(whole[:head], rng) + whole[head:] if rng.random() < 0.7 else spoil_bytes(whole, rng)
        return _run(open_model([BytesSource(data, "x.gguf")]))

    return case


def _folder(folder: dict[str, bytes]) -> Callable[[random.Random], object]:
    small = [name for name in folder if name.endswith(".json") and name != "tokenizer.json"]
    values = {name: json.loads(folder[name]) for name in small}

    def case(rng: random.Random) -> object:
        name = rng.choice([*small, "chat_template.jinja"]) if rng.random() < 0.9 else "model.safetensors"
        if name in values and rng.random() < 0.7:
            data = json_bytes(spoil_json(values[name], rng), rng)
        else:
            data = spoil_bytes(folder.get(name, b"x"), rng)
        files = {**folder, name: data}
        return _run(open_model([BytesSource(data, f"tiny/{name}") for name, data in files.items()]))

    return case


def _tokenizer(good: dict[str, Any]) -> Callable[[random.Random], object]:
    # The vocabulary is most of it: the parts that say what is done get their share.
    parts = [key for key in good if key != "model"]

    def case(rng: random.Random) -> object:
        spoiled = good
        for _ in range(rng.choice((1, 1, 2))):
            if rng.random() < 0.8:
                key = rng.choice(parts)
                spoiled = {**spoiled, key: spoil_json(spoiled[key], rng)}
            else:
                model = spoiled.get("model")
                some = (
                    {**model, "vocab": spoil_json(model["vocab"], rng)}
                    if rng.random() < 0.5
                    else spoil_json(model, rng)
                )
                spoiled = {**spoiled, "model": some if isinstance(some, dict) else {}}
                break
        tokenizer = load_tokenizer(TokenizerFiles(spoiled, None, {"eos_token": "<|im_end|>"}))
        ids = tokenizer.encode(TEXT)
        tokenizer.token_ends(TEXT, ids)
        return tokenizer.decode(ids), tokenizer.lost_bytes(TEXT), tokenizer.encode(TEXT, True)

    return case


_REGEXES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"\d{1,3}(?=(?:\d{3})*\b)|(?>a+)b|(?<!x)[a-z&&[^aeiou]]{2,5}",
)
_REGEX_PIECES = (
    "(",
    ")",
    "[",
    "]",
    "|",
    "*",
    "+",
    "?",
    "{9}",
    "{1,99999}",
    "(?:",
    "(?=",
    "(?<name>",
    r"\1",
    r"\p{L}",
    "\\",
    "^",
)


def _regex(rng: random.Random) -> object:
    return least_match(spoil_text(rng.choice(_REGEXES), rng, _REGEX_PIECES))


def _adapter() -> Callable[[random.Random], object]:
    lora = LoraConfig(rank=2, alpha=4, targets=("q_proj",))
    zeros = {key: np.zeros(shape, np.float32) for key, shape in expected_shapes(lora, MODEL).items()}
    files = write_adapter(zeros, lora, MODEL, "x", chat_template="{{ messages }}")
    config = json.loads(files["adapter_config.json"]) | {"exclude_modules": None, "layer_replication": None}

    def case(rng: random.Random) -> object:
        name = rng.choice(
            ("adapter_config.json", "adapter_config.json", "adapter_model.safetensors", "chat_template.jinja")
        )
        data = spoil_bytes(files[name], rng)
        if name == "adapter_config.json" and rng.random() < 0.8:
            data = json_bytes(spoil_json(config, rng), rng)
        spoiled = {**files, name: data}
        return read_chat_template(spoiled), read_adapter(spoiled, MODEL)

    return case


def _zip() -> Callable[[random.Random], object]:
    files = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"x" * 50, "README.md": b"card"}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(f"one/{name}", data * 40)
    seeds = [pack_adapter(files), packed.getvalue()]
    return lambda rng: unpack_adapter(spoil_bytes(rng.choice(seeds), rng))


def _dataset() -> Callable[[random.Random], object]:
    seeds = [(_raw(case.raw), case.name) for case in CASES if len(_raw(case.raw)) < 4000]
    seeds += [(gzip.compress(raw), f"{name}.gz") for raw, name in seeds[::9]]
    seeds += [
        (raw.decode("utf-8", "replace").encode(code), name) for code in ("utf-16", "utf-32") for raw, name in seeds[::9]
    ]

    def case(rng: random.Random) -> object:
        raw, name = rng.choice(seeds)
        if rng.random() < 0.2:
            name = rng.choice(("", "d.csv", "d.json", "d.jsonl", "d.txt", "d.tsv", "d.jsonl.gz"))
        table = _run(read_table([DataSource.from_bytes(spoil_bytes(raw, rng), name)], use_mended=rng.random() < 0.5))
        report = build_report(table)
        report.as_text().encode()
        json.dumps(report.as_dict())
        return [table.row(index) for index in range(min(len(table), 3))]

    return case


def _raw(raw: bytes | str) -> bytes:
    return raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw


_TEMPLATE_PIECES = (
    "{{ messages }}",
    "{% for m in messages %}",
    "{% endfor %}",
    "{% if loop.last %}",
    "{% endif %}",
    "{% set a = [a, a] %}",
    "{{ a * 999999999 }}",
    "{{ a ** a }}",
    "|join(a)",
    "|replace('', 'xx')",
    "|tojson",
    "{% macro f() %}",
    "{% endmacro %}",
    "{{ f() }}",
    ".format(a)",
    " ~ a",
    " + a",
    "[1:]",
    "(",
    ")",
    "[",
    "]",
    "'",
    "{#",
    "{%-",
    "-%}",
    "{% break %}",
    "range(99999)",
    "{% generation %}",
    "{% endgeneration %}",
    "namespace(a=a)",
    "|list",
    "|map('upper')",
    " in a",
    "not ",
    "{{ 9" + "9" * 4400 + " }}",
    "{% call f() %}",
    "{% endcall %}",
    "raise_exception('x')",
    "strftime_now('%9d')",
    ".__class__",
    "|attr('x')",
    "|sum(start=[])",
)


def _template() -> Callable[[random.Random], object]:
    quick = [
        source for source in (*HOSTILE.values(), *LABORIOUS.values()) if len(source) < 300 and "99999" not in source
    ]
    seeds = [read_template(name) for name in TEMPLATE_NAMES] + quick

    def case(rng: random.Random) -> object:
        template = ChatTemplate(
            spoil_text(rng.choice(seeds), rng, _TEMPLATE_PIECES), {"bos_token": "<s>", "eos_token": "</s>"}
        )
        return template.render(MESSAGES, rng.random() < 0.5)

    return case


_COMMANDS: list[dict[str, Any]] = [
    {"type": "start_training", "settings": {"rank": 8, "steps": 10, "learning_rate": 1e-4}},
    {"type": "read_dataset", "files": [], "text": "x", "sample": None},
    {"type": "rename_adapter", "id": "a", "name": "b"},
    {"type": "generate", "messages": [{"role": "user", "content": "x"}], "sampling": {"temperature": 1.0}},
    {"type": "open_model", "model_id": "x", "files": [{"name": "a", "blob": 5}]},
]


def _protocol(rng: random.Random) -> object:
    return from_wire(spoil_json(rng.choice(_COMMANDS), rng) if rng.random() < 0.95 else {"type": some_json(rng)})


def _settings(rng: random.Random) -> object:
    setting = rng.choice((*TRAINING, *SAMPLING))
    said = setting.problem(some_json(rng), rng.choice((None, None, 5.0)))
    assert said is None or isinstance(said, str)
    return said


_REPOSITORY: dict[str, Any] = {
    "id": "a/b", "sha": "0" * 40, "cardData": {"license": "mit", "base_model": ["x"]}, "gated": False, "tags": ["x"],
    "safetensors": {"parameters": {"F32": 5}, "total": 5}, "config": {"model_type": "llama"},
    "siblings": [
        {"rfilename": "config.json", "size": 5}, {"rfilename": "tokenizer.json", "size": 5},
        {"rfilename": "model.safetensors", "size": 9, "lfs": {"sha256": "0" * 64, "size": 9}},
        {"rfilename": "m-00001-of-00002.gguf", "size": 9, "lfs": {"sha256": "0" * 64, "size": 9}},
    ],
}  # fmt: skip


def _hub(rng: random.Random) -> object:
    return read_repository(spoil_json(_REPOSITORY, rng), "a/b")


__all__ = ["LoraLabError", "Target", "make_targets"]
