"""The rooms of the package are kept: the contracts of pyproject.toml hold, and each fails on an import against it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from build_tools.base import ROOT
from lora_lab.model.families import FAMILIES

# contract: (the module that gets an import it must not have, that import)
PLANTED = {
    "rooms": ("ops/rope.py", "from lora_lab.model import Adapter"),
    "data": ("data/files/json_text.py", "from lora_lab.data.rows import schema"),
    "tokens": ("data/tokens/mask.py", "from lora_lab.data.files import source"),
    "families": ("model/transformer.py", "from lora_lab.model.families import llama"),
    "seam": ("train/trainer.py", "def planted():\n    import wgpu"),
    "browser": ("workers/services/datasets.py", "def planted():\n    from pyodide.ffi import to_js"),
    "workers": ("workers/protocol/parts.py", "from lora_lab.workers.wire import codec"),
}
RUN = "import sys; from importlinter.cli import lint_imports_command as run; sys.argv[0] = 'lint-imports'; run()"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project as far as the contracts are concerned."""
    folder = tmp_path_factory.mktemp("rooms")
    shutil.copytree(ROOT / "app/py/lora_lab", folder / "lora_lab", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def check(folder: Path, contract: str | None = None) -> subprocess.CompletedProcess[str]:
    chosen = ["--contract", contract] if contract else []
    command = [sys.executable, "-c", RUN, "--no-cache", *chosen]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env={"PYTHONPATH": str(folder)})


def test_the_rooms_are_kept(package: Path) -> None:
    done = check(package)
    assert done.returncode == 0, done.stdout
    assert f"{len(PLANTED)} kept, 0 broken" in done.stdout


def test_every_contract_has_a_planted_import() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    assert [contract["id"] for contract in contracts] == list(PLANTED)


def test_every_family_is_among_those_that_nobody_names() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    (contract,) = (contract for contract in contracts if contract["id"] == "families")
    assert sorted(contract["forbidden_modules"]) == sorted(family.__name__ for family in FAMILIES)  # type: ignore[attr-defined]


@pytest.mark.parametrize("contract", PLANTED)
def test_a_planted_import_is_found(package: Path, contract: str) -> None:
    name, line = PLANTED[contract]
    path = package / "lora_lab" / name
    before = path.read_text(encoding="utf-8")
    path.write_text(f"{before}\n\n{line}\n", encoding="utf-8")
    try:
        done = check(package, contract)
    finally:
        path.write_text(before, encoding="utf-8")
    assert done.returncode != 0
    assert "0 kept, 1 broken" in done.stdout
