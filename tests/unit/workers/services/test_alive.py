"""What a worker says beforehand that it will be busy with: no more than one thing at a time, and for long enough."""

from __future__ import annotations

import asyncio
import json

import pytest

from lora_lab.data import DataSource, read_table
from lora_lab.workers.protocol import Command, PreviewMapping, SaveCleaned
from lora_lab.workers.services.alive import busy
from lora_lab.workers.services.datasets import READ_WITHIN_S, ROW_BYTES_PER_S, row_by_row
from lora_lab.workers.services.rows import Rows
from tests.unit.workers.helpers import Page
from tests.unit.workers.services.helpers import FakeModels
from tests.unit.workers.services.test_rows import OneDataset, answer


def test_the_longest_of_what_is_under_way_is_told() -> None:
    page, other = Page(), Page()
    with busy(page, "outer", 60):
        with pytest.raises(ZeroDivisionError), busy(page, "inner", 5):
            1 / 0  # noqa: B018
        with busy(other, "another worker", 7), busy(page, "longer", 90):
            pass
    assert list(zip(page.busy, page.busy_s, strict=True)) == [
        ("outer", 60), ("outer", 60), ("outer", 60), ("longer", 90), ("outer", 60), ("", 0),
    ]  # fmt: skip
    assert other.busy == ["another worker", ""]
    first, second = busy(page, "first", 9), busy(page, "second", 3)
    for step in (first.__enter__, second.__enter__, lambda: first.__exit__(None, None, None)):
        step()
    assert (page.busy[-1], page.busy_s[-1]) == ("second", 3)  # the one that is left, not none
    second.__exit__(None, None, None)
    assert page.busy[-1] == ""


@pytest.mark.parametrize("command", [PreviewMapping({"prompt": "a", "reply": "b"}), SaveCleaned()])
@pytest.mark.parametrize("size", [10, 3_000_000])
def test_a_long_row_has_its_time(command: Command, size: int) -> None:
    page = Page()
    rows = Rows(page, FakeModels(), OneDataset([{"prompt": "a", "completion": "b" * size}]))
    answer(page, rows, command)
    assert page.busy_s[0] == pytest.approx(READ_WITHIN_S + size / ROW_BYTES_PER_S, rel=1e-3)
    assert page.busy[0] and page.busy[-1] == ""


def test_the_longest_row_counts() -> None:
    page = Page()
    data = "\n".join(json.dumps({"text": "a" * size}) for size in (3, 500_000, 20))
    table = asyncio.run(read_table([DataSource.from_bytes(data.encode())]))
    assert table.longest_row_bytes == pytest.approx(500_000, rel=1e-3)
    with row_by_row(page, table, "counting"):
        pass
    assert page.busy_s[0] == pytest.approx(READ_WITHIN_S + 500_000 / ROW_BYTES_PER_S, rel=1e-3)
    # In seconds, too: a row of 10 MB has ten times the 25 s that two idle cores take for its tokens.
    table.longest_row_bytes = 10_000_000
    with row_by_row(page, table, "counting"):
        pass
    assert page.busy_s[2] >= 250
