"""UTF-16 and UTF-32 that hold what is no character: the row is told of, the others are read, nothing is raised."""

from __future__ import annotations

import json

import pytest

from lora_lab.data import DataSource, build_report, read_table
from lora_lab.workers.wire.codec import to_dict
from tests.unit.data.helpers import run

GOOD = '{"prompt":"a","completion":"b"}\n'


def table_of(raw: bytes, name: str) -> tuple[int, int, list[str]]:
    table = run(read_table([DataSource.from_bytes(raw, name)]))
    report = build_report(table)
    report.as_text().encode()
    # A column's name stays as it is in the file, to be found by; what goes to the page is mended on the way.
    json.dumps(to_dict(report.as_dict()), ensure_ascii=False).encode()
    for index in range(len(table)):
        json.dumps(table.value(index))
    return table.rows, table.good, [str(problem) for problem in table.problems if problem.severity == "error"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("half", ["\ud822", "\udc20", "\udc90", "\udcff"])
def test_half_a_character_costs_its_row_only(encoding: str, half: str) -> None:
    mark = "\ufeff".encode(encoding)
    text = GOOD + GOOD.replace('"b"', f'"b{half}x"') + GOOD
    rows, good, said = table_of(mark + text.encode(encoding, "surrogatepass"), "d.jsonl")
    assert (rows, good) == (3, 2) and len(said) == 1
    assert said[0].startswith("line 2") and "half a character" in said[0]


@pytest.mark.parametrize(
    "place", ['{"x\ud822":1,"prompt":"a","completion":"b"}', '{"x":"\udc20","prompt":"a","completion":"b"}']
)
def test_where_nobody_reads_it_it_does_no_harm(place: str) -> None:
    rows, good, said = table_of((GOOD + place).encode("utf-16", "surrogatepass"), "d.jsonl")
    assert (rows, good, said) == (2, 2, [])


def test_a_table_and_a_text_with_half_a_character() -> None:
    table = "prompt,completion\na,b\na,\ud822x\ud800,c\n\udc90,d\n"
    rows, good, said = table_of(table.encode("utf-16", "surrogatepass"), "d.csv")
    assert rows == 3 and good == 1 and len(said) == 2
    rows, good, said = table_of("one\n\n\udc90two\n\nthree".encode("utf-16", "surrogatepass"), "d.txt")
    assert (rows, good, len(said)) == (3, 2, 1)


def test_a_number_that_is_no_character() -> None:
    raw = "\ufeff".encode("utf-32-le") + GOOD.encode("utf-32-le")
    bad = GOOD.encode("utf-32-le").replace(b"b\0\0\0", b"\xff\xff\xff\x7f", 1)
    rows, good, _ = table_of(raw + bad + GOOD.encode("utf-32-le"), "d.jsonl")
    assert rows == 3 and good >= 2


def test_a_file_that_is_cut_off_is_still_told_of() -> None:
    rows, _, said = table_of((GOOD * 2).encode("utf-16")[:-1], "d.jsonl")
    assert rows == 2 and "not whole UTF-16" in said[-1]
