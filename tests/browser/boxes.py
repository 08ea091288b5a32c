"""Thirty rows for the preview, and what lora_lab.data says of them in CPython."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lora_lab.data import Dataset, DataSource, encode_table, read_table
from lora_lab.data.row_view import RowView, view_row
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import load_tokenizer
from lora_lab.formats.byte_source import sources_from_path
from lora_lab.model.files import open_model

HOSTILE = "<img src=x onerror=alert(1)> & \u202eback\u202c שלום 👩‍🚀 \0 a\tb\r\n\n  end\u00a0."
LENGTH = 200


def turns(*said: tuple[str, str]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in said]}


def rows() -> list[dict[str, Any]]:
    """Thirty rows: of two answers, hostile, long, short, one that stands there twice, one with a system prompt."""
    made = [
        turns(("user", f"What is in box {n}?"), ("assistant", f"Rope {n}, and a lamp."), ("user", "More?"),
              ("assistant", "No more."))
        for n in range(24)
    ]  # fmt: skip
    made.append(turns(("user", HOSTILE), ("assistant", HOSTILE)))
    made.append(turns(("user", "Tell me all."), ("assistant", "And the tide went out again.\n" * 12)))
    made.append(turns(("user", "?"), ("assistant", "Yes.")))
    made.append(turns(("system", "You are a keeper."), ("user", "Who?"), ("assistant", "The keeper of the zebra.")))
    made.append(made[3])
    made.append(turns(("user", "And more?"), ("assistant", "It ends late, " * 14)))
    return made


def in_thread(work: Callable[[], Any]) -> Any:
    """Do something that has an event loop of its own: Playwright's runs here."""
    with ThreadPoolExecutor() as threads:
        return threads.submit(work).result()


class Oracle:
    """The same rows by lora_lab.data in CPython, with the other tokenizer."""

    def __init__(self, path: Path, model: Path) -> None:
        self.path = path
        files = in_thread(lambda: asyncio.run(open_model(sources_from_path(model)))).tokenizer
        assert files.chat_template is not None
        self.tokenizer, self.template = load_tokenizer(files), ChatTemplate(files.chat_template, files.special_tokens)

    def dataset(self, masking: str = "assistant", length: int = LENGTH) -> Dataset:
        async def read() -> Dataset:
            table = await read_table([DataSource.from_path(self.path)])
            return await encode_table(table, self.tokenizer, self.template, length, masking=masking)  # type: ignore[arg-type]

        return in_thread(lambda: asyncio.run(read()))

    def view(self, index: int, masking: str = "assistant", length: int = LENGTH) -> RowView:
        return view_row(self.dataset(masking, length), index, self.tokenizer, self.template, length)
