"""What rows can be read as is proposed by the first of them, by the names of all: the first may lack any column."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import pytest

from lora_lab.data import DataSource, read_table

ROWS: list[dict[str, Any]] = [
    {"chosen": "Yes.", "rejected": "No.", "prompt": "Well?", "system": "Be short."},
    {"chosen": "Yes.", "rejected": "No.", "context": "Human: hello\n\nAssistant: hi\n\nHuman: well?"},
    {"prompt": "Well?", "completion": "Yes.", "context": "Here.", "history": [["a", "b"]], "rating": 4},
    {"instruction": "Do.", "output": "Done.", "input": "it", "history": []},
    {"text": "Fog again.", "response": "Third night.", "label": True},
    {"question": "Well?", "answer": "Yes.", "score": 3},
]


def readings(rows: list[dict[str, Any]]) -> list[str]:
    table = asyncio.run(read_table([DataSource.from_bytes("\n".join(map(json.dumps, rows)).encode())]))
    table.unused_columns()
    return [reading.title for reading in table.readings()]


@pytest.mark.parametrize("first", range(len(ROWS)))
@pytest.mark.parametrize("second", range(len(ROWS)))
def test_the_first_row_may_lack_any_column(first: int, second: int) -> None:
    keys = list(ROWS[first])
    for count in range(1, len(keys) + 1):
        for kept in itertools.combinations(keys, count):
            readings([{key: ROWS[first][key] for key in kept}, ROWS[second]])


def test_a_prompt_that_the_first_row_lacks_is_proposed() -> None:
    found = readings([{"chosen": "Yes.", "rejected": "No."}, ROWS[0]])
    assert any("chosen" in title for title in found), found
