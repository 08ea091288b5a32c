"""Small Unigram tokenizers as people have them, trained here: SentencePiece's with its charsmap, and Rust's own."""

from __future__ import annotations

import base64
import functools
import io
import json
import struct
from typing import Any

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from lora_lab.model.files import TokenizerFiles
from tests.unit.data.helpers import ROOT

SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
BYTE_TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]


def _lines() -> list[str]:
    names = ("README.md", "docs/formats.md", "tests/unit/data/hostile_text.py")
    lines = [line for name in names for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line and not any(token in line for token in SPECIAL)]


@functools.cache
def sentencepiece_model(byte_fallback: bool) -> Any:
    """Return the ModelProto of a small SentencePiece model with the default normalizer, nmt_nfkc."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_lines()), model_writer=written, vocab_size=1100, byte_fallback=byte_fallback,
        control_symbols=SPECIAL[3:], num_threads=1, minloglevel=2,
    )  # fmt: skip
    return sentencepiece_model_pb2.ModelProto.FromString(written.getvalue())


def charsmap() -> str:
    """Return SentencePiece's own table for nmt_nfkc, as tokenizer.json has it."""
    return base64.b64encode(sentencepiece_model(True).normalizer_spec.precompiled_charsmap).decode()


@functools.cache
def spm_files(byte_fallback: bool, scheme: str) -> TokenizerFiles:
    """A SentencePiece model as transformers converts it: T5, XLM-RoBERTa and their kin."""
    proto = sentencepiece_model(byte_fallback)
    scored = [(piece.piece, piece.score) for piece in proto.pieces]
    tokenizer = Tokenizer(models.Unigram(scored, proto.trainer_spec.unk_id, byte_fallback))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap),
            normalizers.Strip(left=False, right=True),
            normalizers.Replace(Regex(" {2,}"), "▁"),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    return _finished(tokenizer, byte_fallback)


@functools.cache
def trained_model(byte_fallback: bool) -> dict[str, Any]:
    """Return `model` of a tokenizer.json that `tokenizers` trained: scores of full precision."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = SPECIAL + (BYTE_TOKENS if byte_fallback else [])
    trainer = trainers.UnigramTrainer(
        vocab_size=600 + len(special), special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(_lines(), trainer)
    return json.loads(tokenizer.to_str())["model"] | {"byte_fallback": byte_fallback}


def trained_files(
    byte_fallback: bool, normalizer: Any = None, pre_tokenizer: Any = None, decoder: Any = None, **added: bool
) -> TokenizerFiles:
    """A tokenizer with the model that `tokenizers` trained, these steps, and these flags of its added tokens."""
    tokenizer = Tokenizer(models.BPE())  # takes the steps; the model is put in below
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoder or decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    files = _finished(tokenizer, byte_fallback)
    tokens = [{**token, "id": number, **added} for number, token in enumerate(files.tokenizer_json["added_tokens"])]
    changes = {"model": trained_model(byte_fallback), "added_tokens": tokens}
    return TokenizerFiles(files.tokenizer_json | changes, None, files.special_tokens)


def nmt_nfkc() -> normalizers.Normalizer:
    """What `tokenizers` itself puts before a Unigram model that it trains."""
    return normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])


def _finished(tokenizer: Tokenizer, byte_fallback: bool) -> TokenizerFiles:
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    tokenizer_json = json.loads(tokenizer.to_str())
    if "byte_fallback" in tokenizer_json["model"]:
        tokenizer_json["model"]["byte_fallback"] = byte_fallback
    return TokenizerFiles(tokenizer_json, None, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})


def build_charsmap(replacements: dict[str, str]) -> str:
    """Return a charsmap as SentencePiece writes it, plainly built: each node's children in 256 units of their own."""
    texts, starts = bytearray(), {}
    for text in dict.fromkeys(replacements.values()):
        starts[text] = len(texts)
        texts += text.encode() + b"\0"
    trie: dict[int, Any] = {}
    for key, text in replacements.items():
        node = trie
        for byte in key.encode():
            node = node.setdefault(byte, {})
        node[0] = text
    units = [0] * 256
    leaves: dict[str, int] = {}

    def place_children(node: dict[int, Any]) -> int:
        if list(node) == [0] and node[0] in leaves:
            return leaves[node[0]]
        base = len(units)
        units.extend([0] * 256)
        if list(node) == [0]:
            leaves[node[0]] = base
        if 0 in node:
            units[base] = 1 << 31 | starts[node[0]]
        for byte, child in node.items():
            if byte:
                units[base ^ byte] = byte | (0 in child) << 8 | (base ^ byte ^ place_children(child)) << 10
        return base

    units[0] = place_children(trie) << 10
    return base64.b64encode(struct.pack(f"<I{len(units)}I", 4 * len(units), *units) + bytes(texts)).decode()
