"""Every source of a build is pinned with its hash: wheels, npm packages, what pip installs, GitHub's actions."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from build_tools import locks, parts
from build_tools.base import ROOT
from build_tools.environment import LOCKS
from build_tools.fetch import Part, PypiMember, PypiMembers, PypiWheel

SHA256 = re.compile(r"[0-9a-f]{64}")


def unpinned_actions(text: str) -> list[str]:
    """Return what a workflow uses by anything else than a commit, beside which its version stands."""
    used = re.findall(r"^\s*-?\s*uses:\s*(.+)$", text, re.MULTILINE)
    return [one for one in used if not re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)*", one)]


def test_actions_are_pinned_by_their_commit() -> None:
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert len(workflows) >= 2
    for path in workflows:
        assert "uses:" in path.read_text()
        assert unpinned_actions(path.read_text()) == [], path.name
    assert unpinned_actions("steps:\n  - uses: actions/checkout@v4\n") == ["actions/checkout@v4"]  # the control


def locked_packages(text: str) -> dict[str, tuple[str, list[str]]]:
    """Return name -> (version, hashes) of a lock. ValueError for a line that pins nothing."""
    found: dict[str, tuple[str, list[str]]] = {}
    for block in re.split(r"\n(?=\S)", text.strip()):
        head = re.match(r"([a-z0-9][a-z0-9.-]*)==([^\s;]+)", block)
        hashes = re.findall(r"--hash=sha256:([0-9a-f]{64})\b", block)
        if head is None or not hashes:
            raise ValueError(block.splitlines()[0])
        found[head[1]] = head[2], hashes
    return found


def plain_name(requirement: str) -> str:
    return re.split(r"[=\s;<>!\[]", requirement)[0].lower().replace("_", "-")


@pytest.mark.parametrize("name", sorted(locks.wanted()))
def test_a_lock_has_what_is_wanted_and_a_hash_for_each(name: str) -> None:
    found = locked_packages((LOCKS / f"{name}.txt").read_text())
    for requirement in locks.wanted()[name]:
        package = plain_name(requirement)
        if package == "torch":
            assert package not in found  # which of its builds is taken is a matter of the machine
            continue
        version = re.split(r"==|\s*;", requirement)[1].strip()
        assert found[package][0] == version, f"{requirement}: run `python3 build.py lock`"


def test_a_lock_without_a_hash_is_noticed() -> None:
    """The control."""
    whole = "numpy==2.0.0 \\\n    --hash=sha256:" + "a" * 64 + "\n"
    assert locked_packages(whole) == {"numpy": ("2.0.0", ["a" * 64])}
    for text in ("numpy==2.0.0\n", whole.replace("==", ">="), whole + "jinja2==3.0\n"):
        with pytest.raises(ValueError, match=r"numpy|jinja2"):
            locked_packages(text)


def test_torch_and_what_only_its_cuda_build_needs_stay_out() -> None:
    sympy, torch, nccl = (f"{name}==1 \\\n    --hash=sha256:a\n" for name in ("sympy", "torch", "nvidia-nccl"))
    assert locks.without_torch(sympy + torch + nccl) == sympy


def test_what_pip_is_asked_for_at_once_is_a_lock() -> None:
    """Every `pip install` of the build takes a lock, this package itself, or torch."""
    called = []
    for path in sorted((ROOT / "build_tools").glob("*.py")):
        called += re.findall(r"(?<!def )pip_install\((.+?),? [\"']", path.read_text())
    assert len(called) >= 7
    for arguments in called:
        own = arguments.startswith('["--no-deps"')
        assert own or arguments == "torch" or arguments.startswith("locked("), arguments


def wheels_of(part: Part) -> list[str]:
    """Return the sha256 of each wheel that a part may come from."""
    found = []
    for source in part.sources:
        pieces = source.pieces if isinstance(source, PypiMembers) else (source,)
        found += [piece.wheel.sha256 for piece in pieces if isinstance(piece, PypiMember | PypiWheel)]
    return found


def test_parts_and_the_wheels_that_they_come_in_have_a_hash(node_modules: Path) -> None:
    every = [parts.JINJA2, parts.MODEL, parts.GEMMA, *parts.pyodide_packages(node_modules / "pyodide")]
    for part in every:
        assert SHA256.fullmatch(part.sha256), part.name
        assert wheels_of(part), part.name
        assert all(SHA256.fullmatch(sha256) for sha256 in wheels_of(part)), part.name


def test_every_npm_package_has_a_hash() -> None:
    packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    without = [name for name, entry in packages.items() if not entry.get("integrity", "").startswith("sha512-")]
    assert without == [""]  # the project itself
