"""The bill of materials: in CycloneDX's form, and of the site that it lies in, file by file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from build_tools.base import BuildError, FileHashes
from build_tools.environment import ensure_node_modules
from build_tools.parts import BUILTIN, JINJA2, MARKUPSAFE_VERSION
from build_tools.sbom import BUNDLED, LEFT_OUT, SBOM, make_sbom
from build_tools.site import program_version, vendor_files


@pytest.fixture(scope="module")
def bill(dist: Path) -> dict[str, Any]:
    return json.loads((dist / SBOM).read_text())


def components(bill: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every component, those inside others too."""
    waiting = [bill["metadata"]["component"], *bill["components"]]
    while waiting:
        yield (one := waiting.pop())
        waiting += one.get("components", [])


def faults(bill: dict[str, Any], manifest: dict[str, Any]) -> list[str]:
    """Say what in a bill is not as in the site."""
    listed = [one for one in components(bill) if one["type"] == "file"]
    names = [one["name"] for one in listed]
    found = [f"{name}: listed {names.count(name)} times" for name in set(names) if names.count(name) > 1]
    found += [f"{name}: not listed" for name in manifest if name not in names and name != SBOM]
    found += [f"{name}: not in the site" for name in names if name not in manifest]
    for one in listed:
        wanted = manifest.get(one["name"], {}).get("sha256")
        if wanted and one["hashes"] != [{"alg": "SHA-256", "content": wanted}]:
            found.append(f"{one['name']}: another hash")
    for one in components(bill):
        if one["type"] not in ("file", "machine-learning-model") and not (one.get("version") and one.get("licenses")):
            found.append(f"{one['name']}: no version or no licence")
    return found


def test_it_has_the_form_that_cyclonedx_prescribes(dist: Path) -> None:
    check = JsonStrictValidator(SchemaVersion.V1_6)
    text = (dist / SBOM).read_text()
    assert check.validate_str(text) is None
    assert check.validate_str(text.replace('"SHA-512"', '"SHA-513"')) is not None  # the control
    assert check.validate_str(text.replace('"MPL-2.0"', '"MPL-2.0.0"')) is not None  # licences are SPDX's


def test_every_file_of_the_site_belongs_to_one_part(dist: Path, bill: dict[str, Any]) -> None:
    manifest = json.loads((dist / "manifest.json").read_text())
    assert faults(bill, manifest) == []
    stranger = {**manifest, "vendor/stranger.js": {"sha256": "0" * 64}}
    assert faults(bill, stranger) == ["vendor/stranger.js: not listed"]  # the controls
    del manifest["index.html"]
    manifest["assets/main.js"]["sha256"] = "0" * 64
    assert sorted(faults(bill, manifest)) == ["assets/main.js: another hash", "index.html: not in the site"]


def test_the_parts_are_those_that_the_build_pins(bill: dict[str, Any]) -> None:
    named = {one["purl"]: one for one in components(bill) if "purl" in one}
    lock = json.loads(Path("package-lock.json").read_text())["packages"]
    for package in ["pyodide", *vendor_files(), *BUNDLED["markdown-it"]]:
        version = lock[f"node_modules/{package}"]["version"]
        (found,) = (one for purl, one in named.items() if purl == f"pkg:npm/{package.replace('@', '%40')}@{version}")
        assert len(found["hashes"][0]["content"]) == 128
    jinja2, markupsafe = named["pkg:pypi/jinja2@3.1.6"], named[f"pkg:pypi/markupsafe@{MARKUPSAFE_VERSION}"]
    assert jinja2["hashes"] == [{"alg": "SHA-256", "content": JINJA2.sha256}]
    assert markupsafe["licenses"] == jinja2["licenses"] == [{"license": {"id": "BSD-3-Clause"}}]
    assert {"pkg:pypi/numpy@2.0.2", "pkg:generic/cpython@3.12.7", f"pkg:pypi/lora-lab@{program_version()}"} <= set(
        named
    )


def test_what_npm_packages_need_is_either_in_the_site_or_named_as_left_out() -> None:
    lock = json.loads(Path("package-lock.json").read_text())["packages"]

    def needs(package: str) -> set[str]:
        own = set(lock[f"node_modules/{package}"].get("dependencies", {}))
        return own.union(*(needs(one) for one in own - {"ws"}))

    for package in ["pyodide", *vendor_files()]:
        assert needs(package) == {*BUNDLED.get(package, ()), *LEFT_OUT.get(package, ())}, package


def test_the_built_in_model_and_a_file_of_nobody(tmp_path: Path) -> None:
    npm, hashes = ensure_node_modules(), FileHashes(tmp_path / "hashes.json")
    about = {"title": BUILTIN.title, "license": BUILTIN.licence, "base_model": BUILTIN.base}
    models = {"models": {BUILTIN.id: about}}
    file = f"models/{BUILTIN.id}/{BUILTIN.file}"
    bill = json.loads(make_sbom({file: b"GGUF"}, "1.0", models, [], npm, hashes))
    (model,) = (one for one in bill["components"] if one["type"] == "machine-learning-model")
    assert model["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert model["purl"] == f"pkg:huggingface/{BUILTIN.base}"
    assert [one["name"] for one in model["components"]] == [file]
    with pytest.raises(BuildError, match=r"vendor/stranger\.js belongs to no part"):
        make_sbom({"vendor/stranger.js": b""}, "1.0", models, [], npm, hashes)


def test_the_page_links_to_it(dist: Path) -> None:
    page = (dist / "index.html").read_text(encoding="utf-8")
    assert re.search(rf'<a href="{re.escape(SBOM)}"[^>]*>Parts and licences</a>', page)
