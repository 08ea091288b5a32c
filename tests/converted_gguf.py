"""A Hugging Face folder as the GGUF that llama.cpp's own converter makes of it."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import patch


def convert(folder: Path, path: Path) -> Path:
    """Convert a tiny model of tests/tiny_families.py to F32 and return the path.

    The converter refuses tokenizers that it does not know by their hash, and wants SentencePiece for Gemma 2 and Phi-3:
    it is told that the tiny one is a smollm, which it is (digits apart, then byte-level BPE).
    """
    import convert_hf_to_gguf
    from conversion import gemma, phi
    from conversion.base import TextModel

    arguments = ["convert_hf_to_gguf", str(folder), "--outfile", str(path), "--outtype", "f32"]
    with (
        patch.object(TextModel, "get_vocab_base_pre", lambda self, tokenizer: "smollm"),
        patch.object(gemma.Gemma2Model, "set_vocab", lambda self: self._set_vocab_gpt2()),
        patch.object(phi.Phi3MiniModel, "set_vocab", lambda self: self._set_vocab_gpt2()),
        patch.object(sys, "argv", arguments),
    ):
        convert_hf_to_gguf.main()
    return path
