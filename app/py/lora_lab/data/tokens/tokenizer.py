"""Text <-> token numbers, the same in both hosts, and text out of a stream of tokens.

CPython uses `tokenizers` on the model's tokenizer.json as it is; Pyodide uses `@huggingface/tokenizers`, which the
worker has put on `globalThis.loraLabTokenizers`, on a rewritten one (see tokenizer_json.py) and on texts made ready for
it (see javascript_text.py), and for the model type Unigram Python itself (see unigram_text.py). Tests hold the two
hosts against each other on thousands of hostile strings.
"""

from __future__ import annotations

import codecs
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from lora_lab.data.tokens.javascript_text import JavaScriptText
from lora_lab.data.tokens.token_table import TokenTable
from lora_lab.data.tokens.tokenizer_check import check_tokenizer_json
from lora_lab.data.tokens.tokenizer_json import rewrite_for_javascript
from lora_lab.data.tokens.unigram import is_unigram
from lora_lab.data.tokens.unigram_text import UnigramText
from lora_lab.errors import ModelError
from lora_lab.formats.tokenizer_files import TokenizerFiles

# For tokenizers of whose tokens no bytes can be told; a window this long is cut even at a broken character.
_STREAM_WINDOW = 64


class Tokenizer(Protocol):
    """What the rest of the program knows of a tokenizer."""

    vocab_size: int
    special_ids: frozenset[int]
    end_of_text_id: int | None  # the model's eos_token, which ends a `text` row

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Return the text's tokens; special tokens written in the text are recognised."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """Return the tokens' text; bytes that are no UTF-8 become U+FFFD."""

    def token_to_id(self, token: str) -> int | None:
        """Return the number of a token, None when there is none of that name."""

    def id_to_token(self, token_id: int) -> str | None:
        """Return the name of a token in the vocabulary's own spelling, None when there is none."""

    def token_bytes(self, token_id: int) -> bytes | None:
        """Return the bytes a token stands for, a space in front included; None when one token alone does not tell."""

    def lost_bytes(self, text: str) -> bytes:
        """Return the bytes of a text for which there is no token: encoding drops them."""

    def token_ends(self, text: str, ids: Sequence[int]) -> np.ndarray | None:
        """Return (T,) int64, the byte of the UTF-8 text at which each token ends; None when that cannot be told."""


def load_tokenizer(files: TokenizerFiles) -> Tokenizer:
    """Return the tokenizer of a model's files. Raises ModelError when it is of a kind that is not supported."""
    if sys.platform == "emscripten":
        return browser_tokenizer(files)
    return _RustTokenizer(files)


def browser_tokenizer(files: TokenizerFiles) -> Tokenizer:
    """Return what `load_tokenizer` returns in the browser; of Unigram that runs anywhere."""
    return _UnigramTokenizer(files) if is_unigram(files.tokenizer_json) else _JavaScriptTokenizer(files)


class _BaseTokenizer(ABC):
    """Everything that is read from tokenizer.json alone and hence the same in both hosts."""

    def __init__(self, files: TokenizerFiles) -> None:
        check_tokenizer_json(files.tokenizer_json)
        self._table = TokenTable(files.tokenizer_json)
        self.vocab_size = self._table.vocab_size
        named = (self._table.token_ids.get(token) for token in files.special_tokens.values())
        self.special_ids = self._table.special_ids | {token_id for token_id in named if token_id is not None}
        self.end_of_text_id = self._table.token_ids.get(files.special_tokens.get("eos_token") or "")

    @abstractmethod
    def _encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """Return a well-formed text's tokens: the host's part."""

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return self._encode(_well_formed(text), add_special_tokens)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        return self._table.decode([int(i) for i in ids if not (skip_special_tokens and i in self.special_ids)])

    def token_to_id(self, token: str) -> int | None:
        return self._table.token_ids.get(token)

    def id_to_token(self, token_id: int) -> str | None:
        return self._table.tokens[token_id] if 0 <= token_id < self.vocab_size else None

    def token_bytes(self, token_id: int) -> bytes | None:
        return self._table.token_bytes(token_id)

    def lost_bytes(self, text: str) -> bytes:
        return self._table.lost_bytes(_well_formed(text))

    def token_ends(self, text: str, ids: Sequence[int]) -> np.ndarray | None:
        return self._table.token_ends(_well_formed(text), ids)


class _RustTokenizer(_BaseTokenizer):
    def __init__(self, files: TokenizerFiles) -> None:
        import tokenizers

        super().__init__(files)
        plain = {**files.tokenizer_json, "truncation": None, "padding": None}
        with _no_panic("tokenizer.json cannot be read"):
            self._rust = tokenizers.Tokenizer.from_str(json.dumps(plain))
        for token in files.tokenizer_json.get("added_tokens") or []:
            if self._rust.token_to_id(token["content"]) not in (token["id"], None):
                raise ModelError(
                    f"tokenizer.json: the added token {token['content'][:80]!r} has the number {token['id']}, but "
                    f"{self._rust.token_to_id(token['content'])} in the order of the others"
                )

    def _encode(self, text: str, add_special_tokens: bool) -> list[int]:
        with _no_panic("the tokenizer fails on a text"):
            return list(self._rust.encode(text, add_special_tokens=add_special_tokens).ids)


@contextmanager
def _no_panic(said: str) -> Iterator[None]:
    """Turn what the library raises, bare Exceptions and Rust's panics, which are none, into a ModelError."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ModelError(f"{said}: {error}") from error


class _JavaScriptTokenizer(_BaseTokenizer):
    def __init__(self, files: TokenizerFiles) -> None:
        import js
        from pyodide.ffi import JsException

        super().__init__(files)
        # A string crosses into JavaScript in one piece; a Python dict of 50,000 tokens would cross key by key.
        rewritten = json.dumps(rewrite_for_javascript(files.tokenizer_json))
        try:
            self._js = js.loraLabTokenizers.Tokenizer.new(js.JSON.parse(rewritten), js.JSON.parse("{}"))
        except JsException as error:
            raise ModelError(f"tokenizer.json cannot be read: {error}") from error
        self._ready = JavaScriptText(files.tokenizer_json)
        self._plain = js.JSON.parse('{"add_special_tokens": false}')
        self._special = js.JSON.parse('{"add_special_tokens": true}')

    def _encode(self, text: str, add_special_tokens: bool) -> list[int]:
        import js
        from pyodide.ffi import JsException

        try:
            ids: Any = self._js.encode(self._ready(text), self._special if add_special_tokens else self._plain).ids
        except JsException as error:
            raise ModelError(f"the tokenizer fails on a text: {error}") from error
        # In one piece: an array of JavaScript's own numbers would cross number by number.
        numbers: list[int] = js.Int32Array.from_(ids).to_py().tolist()
        return numbers


class _UnigramTokenizer(_BaseTokenizer):
    def __init__(self, files: TokenizerFiles) -> None:
        super().__init__(files)
        self._unigram = UnigramText(files.tokenizer_json)

    def _encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return self._unigram.encode(text, add_special_tokens)


def _well_formed(text: str) -> str:
    """Return the text with half characters (lone surrogates) replaced by U+FFFD, as browsers do."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


class StreamDecoder:
    """Turns tokens that come one by one into text, holding bytes back until their character is complete.

    The pieces joined are `decode` of all tokens. One token costs the same however long the text already is.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skipped = tokenizer.special_ids if skip_special_tokens else frozenset()
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._is_first = True
        self._window: list[int] = []  # only for tokenizers of whose tokens no bytes can be told
        self._shown = 0  # tokens at the window's start whose text is out already

    def push(self, token_id: int) -> str:
        """Return the text that this token completes; "" while a character is incomplete."""
        if token_id in self._skipped:
            return ""
        data = self._tokenizer.token_bytes(token_id)
        if data is not None:
            is_first, self._is_first = self._is_first, False
            if is_first and data.startswith(b" "):
                # A space that encoding puts in front of a text is none of the text's.
                text = self._tokenizer.decode([token_id])
                data = data if text == data.decode("utf-8", "replace") else text.encode("utf-8")
            return self._utf8.decode(data)
        self._window.append(token_id)
        return self._new_text(final=False)

    def finish(self) -> str:
        """Return what is still held back: an incomplete character becomes U+FFFD."""
        return self._utf8.decode(b"", final=True) + self._new_text(final=True)

    def _new_text(self, final: bool) -> str:
        if self._shown == len(self._window):
            return ""
        # Whether a space belongs before a token depends on the token before it, hence the look back.
        before = self._tokenizer.decode(self._window[: self._shown])
        text = self._tokenizer.decode(self._window)
        if not final and text.endswith("\ufffd") and len(self._window) < _STREAM_WINDOW:
            return ""
        self._window = self._window[self._shown :]
        self._shown = len(self._window)
        return text[len(before) :]
