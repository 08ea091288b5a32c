"""What build.py puts into dist/, and that it works under any sub-path."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import time
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import pytest

import build
from build_tools import parts, testing
from build_tools.base import ROOT, BuildError, FileHashes, hash_file
from build_tools.environment import build_requirements, ensure_node_modules
from build_tools.fetch import PinnedWheel, PypiMember, PypiWheel, UrlSource
from build_tools.site import build_site, model_files, parse_added_model, program_version, write_site
from build_tools.testing import Counts, named_paths, processes, read_report, tiers_of


def test_the_manifest_names_every_file_with_its_size_and_hash(dist: Path) -> None:
    manifest = json.loads((dist / "manifest.json").read_text())
    found = {path.relative_to(dist).as_posix() for path in dist.rglob("*") if path.is_file()}
    assert found == {*manifest, "manifest.json"}
    for name, entry in manifest.items():
        assert entry == {"size_bytes": (dist / name).stat().st_size, "sha256": hash_file(dist / name)}, name


def test_pyodide_is_whole(dist: Path) -> None:
    lock = json.loads((dist / "pyodide" / "pyodide-lock.json").read_text())
    for package in ("numpy", "micropip", "packaging"):
        entry = lock["packages"][package]
        assert hash_file(dist / "pyodide" / entry["file_name"]) == entry["sha256"]
    for name in parts.PYODIDE_CORE:
        assert (dist / "pyodide" / name).stat().st_size > 0


def test_wheels_are_pure_and_hold_the_program_with_its_kernels(dist: Path) -> None:
    names = json.loads((dist / "wheels" / "index.json").read_text())["wheels"]
    assert all(name.endswith("-py3-none-any.whl") for name in names)
    assert {name.split("-")[0] for name in names} == {"markupsafe", "jinja2", "lora_lab"}
    (program,) = (name for name in names if name.startswith("lora_lab"))
    assert program == f"lora_lab-{program_version()}-py3-none-any.whl"
    inside = set(zipfile.ZipFile(dist / "wheels" / program).namelist())
    kernels = ROOT / "app" / "wgsl"
    wanted = {f"lora_lab/wgsl/{path.relative_to(kernels).as_posix()}" for path in kernels.rglob("*.wgsl")}
    python = {path.relative_to(ROOT / "app" / "py").as_posix() for path in (ROOT / "app" / "py").rglob("*.py")}
    assert wanted <= inside
    assert python <= inside
    beside = {f"lora_lab/evaluation/{name}" for name in ("report.html.jinja", "neutral_rows/measured.jsonl",
                                                         "neutral_rows/mixed.jsonl")}  # fmt: skip
    assert beside <= inside
    (markupsafe,) = (name for name in names if name.startswith("markupsafe"))
    assert not [name for name in zipfile.ZipFile(dist / "wheels" / markupsafe).namelist() if name.endswith(".so")]


def test_the_frozen_start_is_named_by_its_content_and_holds_the_program(dist: Path) -> None:
    names = json.loads((dist / "start" / "index.json").read_text())
    assert set(names) == {"snapshot", "packages"}
    for kind, name in names.items():
        assert name == f"{kind}-{hash_file(dist / 'start' / name)[:16]}.bin"
    packed = gzip.decompress((dist / "start" / names["packages"]).read_bytes())
    size = int.from_bytes(packed[:4], "little")
    files = dict(json.loads(packed[4 : 4 + size]))
    assert 4 + size + sum(files.values()) == len(packed)
    assert {name for name in files if name.startswith("lora_lab/") and name.endswith(".py")} == {
        path.relative_to(ROOT / "app" / "py").as_posix() for path in (ROOT / "app" / "py").rglob("*.py")
    }
    assert {"numpy/__init__.pyc", "jinja2/sandbox.pyc", "markupsafe/__init__.pyc"} <= set(files)
    licences = [name for name in files if "licen" in name.lower()]
    assert {name.split("-")[0] for name in licences} >= {"numpy", "jinja2", "markupsafe", "lora_lab"}


def test_a_python_that_does_not_start_stops_the_build(tmp_path: Path) -> None:
    script = tmp_path / "freeze.mjs"
    script.write_text('throw new Error("no such memory");')
    with pytest.raises(BuildError, match="no such memory"):
        parts.frozen_start(tmp_path, [], [], [script])
    assert not (tmp_path / parts.FROZEN_STAMP).exists()


def test_python_is_frozen_anew_only_when_something_is_new(tmp_path: Path) -> None:
    script, wheel = tmp_path / "freeze.mjs", tmp_path / "some.whl"
    wheel.write_bytes(b"one")
    script.write_text(
        "import { mkdirSync, writeFileSync } from 'node:fs';\n"
        "const out = process.argv[3];\nmkdirSync(out);\n"
        "for (const name of ['snapshot.bin', 'packages.bin'])\n"
        "  writeFileSync(`${out}/${name}`, String(process.hrtime.bigint()));"
    )

    def freeze() -> list[bytes]:
        return [path.read_bytes() for path in parts.frozen_start(tmp_path, [], [wheel], [script])]

    first = freeze()
    assert freeze() == first
    wheel.write_bytes(b"two")
    second = freeze()
    assert second != first
    (tmp_path / "packages.bin").write_bytes(b"damaged")
    assert freeze()[1] not in (b"damaged", second[1])


def test_the_list_of_models(dist: Path) -> None:
    index = json.loads((dist / "models" / "index.json").read_text())
    assert index["default"] == "own"
    files = index["models"]["own"]["files"]
    names = ["chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json"]
    assert [file["path"] for file in files] == [f"own/{name}" for name in names]
    for file in files:
        path = dist / "models" / file["path"]
        assert (file["size_bytes"], file["sha256"]) == (path.stat().st_size, hash_file(path))


class _Addresses(HTMLParser):
    """Collects what a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [(tag, value) for name, value in attrs if name in {"src", "href", "action", "poster"} and value]


def test_every_address_in_the_page_is_relative_and_exists(dist: Path) -> None:
    page = _Addresses()
    page.feed((dist / "index.html").read_text(encoding="utf-8"))
    inside = [(tag, address) for tag, address in page.found if not address.startswith("#")]
    local = [address for tag, address in inside if not (tag == "a" and re.match(r"https?://", address))]
    assert any(address.endswith(".js") for address in local)
    for address in local:
        assert not re.match(r"/|[a-z]+:", address), address
        assert (dist / re.split(r"[?#]", address)[0]).exists(), address


def test_every_import_of_the_pages_scripts_exists_in_the_site(dist: Path) -> None:
    seen = 0
    for script in (dist / "assets").rglob("*.js"):
        text = script.read_text(encoding="utf-8")
        for address in re.findall(r"""(?:^|[\s;}])(?:import|export)\b[^;'"]*?(?:from\s*)?["'](\.[^"']+)["']""", text):
            assert (script.parent / address).resolve().is_file(), f"{script.name} imports {address}"
            seen += 1
        for address in re.findall(r"""\bimport\(\s*["']([^"']+)["']\s*\)""", text):
            assert (script.parent / address).resolve().is_file(), f"{script.name} imports {address}"
            seen += 1
        for address in re.findall(r"""(?:fetch|Worker|URL)\(\s*["'`]([^"'`]+)""", text):
            assert not address.startswith("/"), f"{script.name} asks for {address}: not under a sub-path"
    for sheet in (dist / "assets").rglob("*.css"):
        for address in re.findall(r"""url\(\s*["']?([^"')]+)""", sheet.read_text(encoding="utf-8")):
            if not address.startswith(("data:", "#")):
                assert (sheet.parent / address).resolve().is_file(), f"{sheet.name} refers to {address}"
                seen += 1
    assert seen > 1


def test_a_second_build_writes_nothing_and_takes_no_time(dist: Path, added_model: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in dist.rglob("*") if path.is_file()}
    started = time.monotonic()
    build_site(dist, with_model=False, added_models=[("own", added_model)])
    assert time.monotonic() - started < 5
    after = {path: path.stat().st_mtime_ns for path in dist.rglob("*") if path.is_file()}
    manifest = dist / "manifest.json"
    assert {path for path in after if after[path] != before.get(path)} <= {manifest}


@pytest.fixture
def hashes(tmp_path: Path) -> FileHashes:
    return FileHashes(tmp_path / "hashes.json")


def test_only_what_changed_is_written_and_what_is_gone_is_removed(tmp_path: Path, hashes: FileHashes) -> None:
    dist = tmp_path / "dist"
    write_site({"a.txt": b"a", "folder/b.txt": b"b", "c": b"c"}, dist, hashes)
    os.utime(dist / "a.txt", ns=(1, 1))
    (dist / "left over.txt").write_text("from another time")
    write_site({"a.txt": b"a", "c/d.txt": b"d"}, dist, hashes)
    found = {path.relative_to(dist).as_posix() for path in dist.rglob("*") if path.is_file()}
    assert found == {"a.txt", "c/d.txt", "manifest.json"}
    assert (dist / "a.txt").stat().st_mtime_ns == 1
    assert not (dist / "folder").exists()


def test_a_file_damaged_in_dist_is_written_again(tmp_path: Path, hashes: FileHashes) -> None:
    dist = tmp_path / "dist"
    source = tmp_path / "source.bin"
    source.write_bytes(b"x" * 100)
    write_site({"f": source}, dist, hashes)
    (dist / "f").write_bytes(b"x" * 50)
    write_site({"f": source}, dist, hashes)
    assert (dist / "f").read_bytes() == b"x" * 100


def test_hashes_are_remembered_by_size_and_time(tmp_path: Path, hashes: FileHashes) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    first = hashes.sha256(path)
    hashes.save()
    again = FileHashes(hashes.store)
    assert again.known[str(path)][2] == first
    path.write_bytes(b"two")
    os.utime(path, ns=(5, 5))
    assert again.sha256(path) == hash_file(path) != first


def test_a_broken_store_of_hashes_is_no_error(tmp_path: Path) -> None:
    store = tmp_path / "hashes.json"
    store.write_text("{")
    assert FileHashes(store).known == {}


@pytest.mark.parametrize("text", ["tiny", "=path", "Tiny=x", "../x=y", "a b=c"])
def test_model_ids_are_plain(text: str) -> None:
    with pytest.raises(BuildError, match="wanted ID=PATH"):
        parse_added_model(text)


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"neither a \.gguf file nor a folder"):
        parse_added_model(f"m={tmp_path}/none.gguf")
    with pytest.raises(BuildError, match=r"holds no \.safetensors"):
        model_files(tmp_path)


def test_jinja2_of_the_build_is_jinja2_of_the_site() -> None:
    (pinned,) = (line for line in build_requirements() if line.startswith("jinja2"))
    assert parts.JINJA2.sources == (PypiWheel(PinnedWheel(pinned, parts.JINJA2.sha256)),)


def test_packages_for_pyodide_come_from_its_distribution_first_then_from_pypi() -> None:
    found = parts.pyodide_packages(ensure_node_modules() / "pyodide")
    assert [part.name.split("-")[0] for part in found] == list(parts.PYODIDE_PACKAGES)
    for part in found:
        first, second = part.sources
        assert isinstance(first, UrlSource)
        assert re.fullmatch(rf"https://[^/]+/pyodide/v0\.27\.7/full/{re.escape(part.name)}", first.url)
        assert second == PypiMember(parts.PYODIDE_MIRROR[0], parts.PYODIDE_MIRROR[1] + part.name)


def test_npm_versions_are_exact_and_the_lock_names_no_registry() -> None:
    wanted = json.loads((ROOT / "package.json").read_text())["dependencies"]
    lock = json.loads((ROOT / "package-lock.json").read_text())
    assert lock["packages"][""]["dependencies"] == wanted
    for package, version in wanted.items():
        entry = lock["packages"][f"node_modules/{package}"]
        assert entry["version"] == version
        assert entry["integrity"].startswith("sha512-")
    assert not [name for name, entry in lock["packages"].items() if "resolved" in entry]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serve", "--port", "70000"], "no port number"),
        (["build", "--fast"], "unrecognized arguments"),
        ([], "COMMAND"),
    ],
)
def test_mistakes_in_the_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        build.parse_arguments(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_what_follows_test_goes_to_pytest() -> None:
    parsed, rest = build.parse_arguments(["test", "unit", "-k", "mask", "--maxfail=1"])
    assert (parsed.command, rest) == ("test", ["unit", "-k", "mask", "--maxfail=1"])


def test_an_expected_error_is_one_message_and_exit_1(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "build.py"), "build", "--no-model", "--out", str(tmp_path / "out")]
    done = subprocess.run([*command, "--add-model", f"m={tmp_path}/none"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("build.py: ")
    assert "Traceback" not in done.stderr


def test_whole_tiers_are_split_among_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testing.os, "cpu_count", lambda: 8)
    assert processes("unit", [])[:2] == ["-n", "2"]
    assert processes("unit", ["-x"]) == processes("model", []) == []
    monkeypatch.setattr(testing.os, "cpu_count", lambda: 1)
    assert processes("unit", []) == []


def test_counting_a_report(tmp_path: Path) -> None:
    report = tmp_path / "unit.xml"
    report.write_text(
        "<testsuites><testsuite><testcase name='a'/><testcase name='b'><failure/></testcase>"
        "<testcase name='c'><skipped/></testcase><testcase name='d'><error/></testcase></testsuite></testsuites>"
    )
    assert read_report(report) == Counts(passed=1, failed=2, skipped=1)
    assert read_report(tmp_path / "none.xml") == Counts()
    assert str(Counts(3, 0, 1) + Counts(1, 1, 0)) == "4 passed, 1 failed, 1 skipped"


@pytest.mark.parametrize(
    ("paths", "tiers"),
    [
        (["tests/unit/build_tools/test_site.py"], ["unit"]),
        (["tests/unit", "tests/gpu"], ["unit", "gpu", "model"]),
        (["tests/firefox/test_main_job.py"], ["firefox"]),
        (["tests"], []),
        ([], []),
    ],
)
def test_a_path_chooses_its_tiers(paths: list[str], tiers: list[str]) -> None:
    assert tiers_of(paths) == tiers
    assert named_paths(["-k", "mask", *paths, "-x"]) == paths
