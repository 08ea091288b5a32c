"""The page's script: bundled, and its types held against the protocol's dataclasses, as the lint tier does it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from build_tools.base import ROOT, BuildError
from build_tools.environment import ensure_node_modules
from build_tools.page import COMMON, PREACT, bundle_page, check_types, run_esbuild
from build_tools.protocol_types import make_types
from lora_lab.workers import protocol
from lora_lab.workers.protocol import COMMANDS, EVENTS, StoppedRun


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the page's sources, with the types of the protocol as it is."""
    copy = tmp_path_factory.mktemp("page") / "web"
    shutil.copytree(ROOT / "app" / "web", copy, ignore=shutil.ignore_patterns("worker", "templates", "old"))
    project = json.loads((copy / "tsconfig.json").read_text())
    project["compilerOptions"]["paths"] = {"*": [f"{ensure_node_modules().resolve()}/*"]}
    (copy / "tsconfig.json").write_text(json.dumps(project))
    (copy / "protocol.ts").write_text(make_types())
    return copy


def faults(page: Path, types: str | None = None) -> str:
    """Return what tsc says of the page, with other types of the protocol if they are given; "" for nothing."""
    before = (page / "protocol.ts").read_text()
    try:
        (page / "protocol.ts").write_text(types or before)
        return check_types(page / "tsconfig.json").stdout
    finally:
        (page / "protocol.ts").write_text(before)


def changed(message: type, **fields: object) -> type:
    """Return a message's class with these fields in place of its own."""
    made = dataclasses.make_dataclass(message.__name__, list(fields.items()), bases=message.__bases__, frozen=True)
    made.__module__ = message.__module__
    return made


def hints(message: type, **others: object) -> dict[str, object]:
    """Return the annotations of a message, some of them others; None leaves a field out."""
    found = {**{field.name: field.type for field in dataclasses.fields(message)}, **others}
    return {name: kind for name, kind in found.items() if kind is not None}


def test_the_page_fits_the_protocol(page: Path) -> None:
    assert faults(page) == ""


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (hints(StoppedRun, dataset=None, name_of_data=str), "'dataset' does not exist"),  # renamed
        (hints(StoppedRun, step=str), "'string' is not assignable to parameter of type 'number'"),
    ],
)
def test_a_changed_event_is_found(page: Path, fields: dict, said: str) -> None:
    events = [changed(StoppedRun, **fields) if kind is StoppedRun else kind for kind in EVENTS]
    found = faults(page, make_types(events=events))
    assert said in found and "stopped.tsx" in found


def test_a_changed_command_is_found(page: Path) -> None:
    kept = protocol.GetAdapter
    commands = [changed(kept, **hints(kept, id=None, adapter_id=str)) if kind is kept else kind for kind in COMMANDS]
    assert "applied.ts" in faults(page, make_types(commands=commands))
    gone = [kind for kind in COMMANDS if kind is not protocol.PauseTraining]
    assert "pause_training" in faults(page, make_types(commands=gone))


def test_what_has_no_type_in_javascript_is_named() -> None:
    with pytest.raises(TypeError, match="set"):
        make_types(events=[changed(StoppedRun, seen=set)])


def test_the_bundle_is_one_script_and_one_style() -> None:
    made = bundle_page({"models": {"default": None, "titles": {}}, "hub": None, "samples": []})
    names = set(made.files)
    assert {"main.js", "style.css"} <= names
    assert {name for name in names if name.endswith(".css")} == {"style.css"}
    assert set(made.preloads) <= names
    assert made == bundle_page({"models": {"default": None, "titles": {}}, "hub": None, "samples": []})


def test_a_script_that_cannot_be_bundled_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.ts"
    broken.write_text('import { x } from "./none";\nx();\n')
    with pytest.raises(BuildError, match=r"broken\.ts[\s\S]*none|none[\s\S]*broken\.ts"):
        run_esbuild(ensure_node_modules(), [str(broken), *COMMON, *PREACT, f"--outfile={tmp_path / 'out.js'}"])
