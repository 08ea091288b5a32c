"""Each family's tiny model, written once for all tests of exports."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.export_cases import Case, make_case


class Cases:
    """Writes a family's model when it is first asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.made: dict[str, Case] = {}

    def __getitem__(self, family: str) -> Case:
        if family not in self.made:
            self.made[family] = make_case(self.root, family)
        return self.made[family]


@pytest.fixture(scope="package")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Cases:
    return Cases(tmp_path_factory.mktemp("families"))
