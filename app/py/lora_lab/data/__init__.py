"""From the bytes of a JSONL file to examples: tokens, and which of them are trained."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from lora_lab.data.batches import Example, encode_row
from lora_lab.data.jsonl import Problem, Progress, RawRow, iter_rows, to_bytes
from lora_lab.data.report import DatasetReport, ReportBuilder
from lora_lab.data.schema import Row, read_row
from lora_lab.data.template import ChatTemplate
from lora_lab.data.tokenizer import Tokenizer
from lora_lab.errors import DatasetError

__all__ = ["Dataset", "DatasetReport", "Example", "Problem", "read_dataset"]

# The event loop gets its turn after this many rows or this long, whichever comes first: Stop must not wait.
_ROWS_PER_TURN = 256
_TURN_S = 0.05


@dataclass(frozen=True)
class Dataset:
    """The good rows of a file in its order: `examples[i]` comes from `rows[i]`. Bad rows: `report.problems`."""

    examples: list[Example]
    report: DatasetReport
    rows: list[Row]

    def require(self, skip_bad_rows: bool) -> None:
        """Raise DatasetError (with the problems) unless all rows are good, or the good ones suffice."""
        problems = self.report.problems
        if problems and not skip_bad_rows:
            count = len(problems)
            raise DatasetError(f"{count} bad row{'s' if count != 1 else ''}\n{self.report.as_text()}", problems)
        if not self.examples:
            raise DatasetError(f"no row can be trained on\n{self.report.as_text()}", problems)


async def read_dataset(
    raw: bytes | str,
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
    max_length: int,
    on_progress: Progress | None = None,
) -> Dataset:
    """Read, check, template, tokenize and mask a JSONL file. Bad rows are reported, never raised.

    `template` is None for a model that has no chat template. `on_progress(done_bytes, total_bytes)` is called now and
    then; the event loop gets its turn as often, so that a long file can be cancelled.
    """
    data = to_bytes(raw)
    builder = ReportBuilder(tokenizer, max_length)
    examples: list[Example] = []
    rows: list[Row] = []
    async for item in _in_turns(data, on_progress):
        row = read_row(item) if isinstance(item, RawRow) else item
        result = row if isinstance(row, Problem) else encode_row(row, tokenizer, template, max_length)
        if isinstance(row, Problem) or isinstance(result, Problem):
            builder.add_problem(result if isinstance(result, Problem) else row)  # type: ignore[arg-type]
            continue
        builder.add_row(row, result)
        examples.append(result.example)
        rows.append(row)
    return Dataset(examples, builder.build(), rows)


async def _in_turns(data: bytes, on_progress: Progress | None) -> AsyncIterator[RawRow | Problem]:
    """Yield the file's lines that are not blank, letting the event loop run in between."""
    count, turn_began = 0, time.monotonic()
    for item, done_bytes in iter_rows(data):
        if item is not None:
            yield item
        count += 1
        if count >= _ROWS_PER_TURN or time.monotonic() - turn_began > _TURN_S:
            if on_progress is not None:
                on_progress(done_bytes, len(data))
            await asyncio.sleep(0)
            count, turn_began = 0, time.monotonic()
    if on_progress is not None:
        on_progress(len(data), len(data))
