"""The same sources give the same site, to the byte: built once more in another place, at another time."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from build_tools import parts, site
from build_tools.base import CACHE, ROOT, hash_file
from build_tools.environment import find_node
from build_tools.hub import HubSite
from build_tools.site import build_site
from tests.hub_server import HubServer

# What a build downloads; each is held against its sha256, and so need not be fetched twice. The rest is made anew.
DOWNLOADS = ("numpy-*.whl", "micropip-*.whl", "packaging-*.whl", "jinja2-*.whl", parts.MODEL.name)


def hashes_of(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): hash_file(path) for path in folder.rglob("*") if path.is_file()}


def test_a_second_build_gives_the_same_bytes(
    site_folder: Path, tiny_model_folder: Path, base_model_folder: Path, local_hub: HubServer,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    cache = tmp_path / "a cache elsewhere"
    (cache / "parts").mkdir(parents=True)
    for pattern in DOWNLOADS:
        for path in (CACHE / "parts").glob(pattern):
            shutil.copyfile(path, cache / "parts" / path.name)
    monkeypatch.setattr(site, "CACHE", cache)
    for name, value in {"TZ": "Asia/Tokyo", "LANG": "de_DE.UTF-8", "PYTHONHASHSEED": "5", "USER": "other"}.items():
        monkeypatch.setenv(name, value)
    again = tmp_path / "site"
    added = [("tiny", tiny_model_folder), ("base", base_model_folder)]
    build_site(again, added_models=added, hub=HubSite(local_hub.url, (local_hub.storage_url,)))
    first, second = hashes_of(site_folder), hashes_of(again)
    assert {name for name in first.keys() | second.keys() if first.get(name) != second.get(name)} == set()
    assert {*second} == {*json.loads((again / "manifest.json").read_text()), "manifest.json"}
    assert [name for name in second if name.startswith("start/snapshot-")]


def test_without_the_steady_clock_and_chance_the_memory_would_differ(site_folder: Path, tmp_path: Path) -> None:
    """The control: the same start of Python with this machine's own entropy gives another snapshot."""
    tools = tmp_path / "build_tools"
    (tmp_path / "app" / "web" / "worker").mkdir(parents=True)
    tools.mkdir()
    shutil.copyfile(ROOT / "app/web/worker/python.js", tmp_path / "app/web/worker/python.js")
    shutil.copyfile(ROOT / "build_tools/freeze.mjs", tools / "freeze.mjs")
    (tools / "steady.mjs").write_text('export const ENVIRONMENT = { HOME: "/home/pyodide" };\n')
    wheels = [str(path) for path in sorted((site_folder / "wheels").glob("*.whl"))]
    command = [find_node(), str(tools / "freeze.mjs"), str(site_folder / "pyodide"), str(tmp_path / "out"), *wheels]
    subprocess.run(command, check=True, capture_output=True)
    names = json.loads((site_folder / "start" / "index.json").read_text())
    assert hash_file(tmp_path / "out" / "snapshot.bin") != hash_file(site_folder / "start" / names["snapshot"])
    assert hash_file(tmp_path / "out" / "packages.bin") == hash_file(site_folder / "start" / names["packages"])
