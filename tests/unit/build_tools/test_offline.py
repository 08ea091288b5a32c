"""The service worker's list of files, the manifest, its icons. In a browser: tests/browser/test_offline.py."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import pytest

from build_tools.base import FileHashes, hash_file
from build_tools.icons import drawings
from build_tools.offline import ICONS, TOUCH_ICON, WORKER_SOURCE, service_worker
from build_tools.policy import site_headers


def site_of(script: str) -> dict:
    start = script.index("{")
    return json.JSONDecoder().raw_decode(script[start:])[0]


def test_every_file_is_kept_but_models_the_benchmark_and_what_no_page_shows(dist: Path) -> None:
    site = site_of((dist / "sw.js").read_text())
    manifest = json.loads((dist / "manifest.json").read_text())
    left = {"sw.js", "_headers", ".nojekyll", "sbom.cdx.json"}
    wanted = {
        name: [entry["sha256"], entry["size_bytes"]]
        for name, entry in manifest.items()
        if name not in left
        and not name.startswith("bench/")
        and (not name.startswith("models/") or name == "models/index.json")
    }
    assert site["files"] == wanted
    assert {"index.html", "site.webmanifest", "pyodide/pyodide.asm.wasm", "assets/worker/worker.js"} <= set(wanted)
    own = json.loads((dist / "models" / "index.json").read_text())["models"]["own"]["files"]
    assert site["models"] == {"own": {f"models/{file['path']}": [file["sha256"], file["size_bytes"]] for file in own}}
    assert site["headers"] == site_headers(None)


def test_its_source_follows_as_it_is_and_has_no_other_code(dist: Path) -> None:
    script = (dist / "sw.js").read_text()
    assert script.startswith("const SITE = {")
    assert script.endswith(WORKER_SOURCE.read_text())
    assert not re.search(r"\beval\b|\bFunction\(|importScripts|\bimport\b|https?://", WORKER_SOURCE.read_text())
    assert not (dist / "assets/offline/service_worker.js").exists()


def test_another_file_is_another_worker(tmp_path: Path) -> None:
    hashes = FileHashes(tmp_path / "hashes.json")
    one = service_worker({"a": b"1", "b": b"2"}, {"models": {}}, {}, hashes)
    assert service_worker({"b": b"2", "a": b"1"}, {"models": {}}, {}, hashes) == one
    for files in ({"a": b"1", "b": b"3"}, {"a": b"1"}, {"a": b"1", "b": b"2", "c": b""}):
        assert service_worker(files, {"models": {}}, {}, hashes) != one
    assert service_worker({"a": b"1", "b": b"2"}, {"models": {}}, {"Referrer-Policy": "no-referrer"}, hashes) != one


def size_of(path: Path) -> tuple[int, int]:
    raw = path.read_bytes()
    assert raw[:8] == b"\x89PNG\r\n\x1a\n", path.name
    width, height = struct.unpack(">II", raw[16:24])
    return width, height


def test_the_manifest_names_icons_of_the_sizes_that_they_have(dist: Path) -> None:
    about = json.loads((dist / "site.webmanifest").read_text())
    assert {(icon["sizes"], icon["purpose"]) for icon in about["icons"]} == {
        ("192x192", "any"), ("512x512", "any"), ("512x512", "maskable"),
    }  # fmt: skip
    for icon in about["icons"]:
        width, height = size_of(dist / icon["src"])
        assert icon["sizes"] == f"{width}x{height}"
    for address in (about["start_url"], about["scope"]):
        assert address == "./"  # relative: the site may lie below another address
    page = (dist / "index.html").read_text()
    assert '<link rel="manifest" href="site.webmanifest">' in page
    assert size_of(dist / "assets" / TOUCH_ICON[0]) == (TOUCH_ICON[1], TOUCH_ICON[1])
    assert f'<link rel="apple-touch-icon" href="assets/{TOUCH_ICON[0]}">' in page


@pytest.mark.parametrize("name", [*(name for name, _, _ in ICONS), TOUCH_ICON[0]])
def test_a_maskable_icon_stays_inside_the_circle(name: str) -> None:
    """Of what is drawn, all of it or all but the corners, as its purpose wants."""
    _, svg = drawings()[name]
    inset, width = (float(found) for found in re.findall(r'<svg x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', svg)[0])
    # The mark's outermost corners lie 2 of 28 inside its own frame.
    corner = (0.5 - inset) * (1 - 2 * 2 / 28)
    assert (corner * 2**0.5 <= 0.4) is ("maskable" in name)
    assert inset * 2 + width == pytest.approx(1)


def test_the_page_s_store_of_models_is_the_one_that_it_reads() -> None:
    """The one place where JavaScript knows how lora_lab/workers/storage keeps a file."""
    source = WORKER_SOURCE.read_text()
    storage = Path(WORKER_SOURCE.parents[2], "py/lora_lab/workers/storage")
    downloads, folders = ((storage / name).read_text() for name in ("downloads.py", "folders.py"))
    assert 'getDirectoryHandle("lora-lab")' in source and 'root.folder("lora-lab")' in folders
    assert 'getDirectoryHandle("models")' in source and 'folder("models")' in downloads
    for ending in ("part", "ok"):
        assert f"${{sha256}}.{ending}`" in source and f"{{file.key}}.{ending}" in downloads


def test_the_hash_is_the_file_s(dist: Path) -> None:
    site = site_of((dist / "sw.js").read_text())
    for name, (sha256, size_bytes) in site["files"].items():
        assert (hash_file(dist / name), (dist / name).stat().st_size) == (sha256, size_bytes)
