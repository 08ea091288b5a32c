"""docs/reliability.md: every promise names a test, and every test that is named is there."""

from __future__ import annotations

import re

from build_tools.base import ROOT

PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
FILES = {str(path.relative_to(ROOT).as_posix()): path for path in (ROOT / "tests").rglob("test_*.py")}


def names() -> set[str]:
    """Return the names of all tests."""
    return {name for path in FILES.values() for name in re.findall(r"^def (test_\w+)\(", path.read_text(), re.M)}


def missing(page: str) -> list[str]:
    """Return what the page names that is no test; a name may be cut with an ellipsis."""
    tests = names()
    wanted = re.findall(r"`(tests/[\w/]+\.py|test_\w+(?:…|\.py)?)`", page)
    return [
        name
        for name in wanted
        if not (
            name in FILES
            or name in tests
            or any(path.endswith(f"/{name}") for path in FILES)
            or (name.endswith("…") and any(test.startswith(name[:-1]) for test in tests))
        )
    ]


def promises(page: str) -> list[str]:
    """Return the lines of the tables of promises."""
    tables = re.findall(r"^\| promise \| test \|\n\| --- \| --- \|\n((?:\|.*\n)+)", page, re.M)
    return [line for table in tables for line in table.splitlines()]


def test_every_promise_names_a_test_that_is_there() -> None:
    found = promises(PAGE)
    assert len(found) > 50
    same = "the same"  # as in the line above
    assert [line for line in found if not re.search(r"`[^`]*test_|" + same, line.rpartition(" | ")[2])] == []
    assert missing(PAGE) == []


def test_a_test_that_is_not_there_is_found() -> None:
    """The control."""
    found = missing("`test_nothing_like_this`, `tests/unit/test_no.py` and `test_a_test_that_is_not_there_is_found`")
    assert found == ["test_nothing_like_this", "tests/unit/test_no.py"]
