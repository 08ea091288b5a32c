"""`build.py bench-bundle` without a GPU: the archive, its script with a `node` that only listens, and with Node."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from build_tools import bench_bundle
from build_tools.base import CACHE, ROOT, BuildError, FileHashes, atomic_writer
from build_tools.environment import find_node
from build_tools.fetch import Fetcher


def test_an_archive_that_is_too_large_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "bundle.tar.xz"
    bench_bundle.check_size(bench_bundle.MAX_BYTES, target)
    with pytest.raises(BuildError, match=r"would be 60\.0 MB; wanted at most 60 MB"), atomic_writer(target) as out:
        out.write(b"something")
        bench_bundle.check_size(bench_bundle.MAX_BYTES + 1, target)
    assert list(tmp_path.iterdir()) == []


def test_the_bundle_has_the_engine_and_the_benchmark_and_no_results() -> None:
    files = bench_bundle.project_files()
    wanted = {"app/web/worker/calls.js", "app/web/worker/gpu.js", "app/wgsl/linear/tiled.wgsl", "bench/run.py",
              "app/py/lora_lab/__init__.py", "bench/node_host.mjs", "bench/baseline.py", "bench/copy.wgsl"}  # fmt: skip
    assert wanted <= set(files)
    assert not [name for name in files if "/results/" in name or "__pycache__" in name]


def test_the_archive_keeps_what_may_be_run_and_no_dates(tmp_path: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name in ("b/run.sh", "b/node", "b/COMMIT"):
            bench_bundle.add_file(archive, name, b"content")
    data.seek(0)
    with tarfile.open(fileobj=data) as archive:
        found = {entry.name: (entry.mode, entry.mtime, entry.size) for entry in archive}
    assert found == {"b/run.sh": (0o755, 0, 7), "b/node": (0o755, 0, 7), "b/COMMIT": (0o644, 0, 7)}


def test_system_libraries_stay_at_home() -> None:
    for name in ("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "ld-linux-x86-64.so.2", "linux-vdso.so.1"):
        assert bench_bundle.SYSTEM_LIBRARIES.match(name)
    for name in ("libstdc++.so.6", "libgcc_s.so.1", "libcrypto.so.3", "libmd.so.0"):
        assert not bench_bundle.SYSTEM_LIBRARIES.match(name)


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """What run.sh sees in an unpacked bundle, with a `node` that only says how it was called."""
    folder = tmp_path / "lora-lab-bench"
    shutil.copytree(ROOT / "bench", folder / "bench", ignore=shutil.ignore_patterns("results", "__pycache__"))
    shutil.copyfile(bench_bundle.RUN, folder / "run.sh")
    (folder / "COMMIT").write_text("abc1234\n")
    says = 'echo "$@"; echo "ICD=${VK_ICD_FILENAMES:-}"; echo "LIB=${LD_LIBRARY_PATH:-}"; echo "DIST=$LORA_LAB_DIST"'
    node = folder / "node"
    node.write_text(f'#!/bin/sh\n[ "$1" = -e ] && exit 0\n{says}\n')
    node.chmod(0o755)
    return folder


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    paths = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run(["sh", str(folder / "run.sh"), *arguments], capture_output=True, text=True, env=paths,
                          cwd=folder.parent)  # fmt: skip


def test_the_script_passes_on_what_it_was_asked_for(unpacked: Path) -> None:
    done = start(unpacked, "--quick", "--profile", "--out", "r.json", VK_ICD_FILENAMES="/my/icd.json")
    assert done.returncode == 0, done.stderr
    called, icd, _, dist, written = done.stdout.splitlines()
    assert called.split()[2:5] == [f"{unpacked}/bench/node_host.mjs", f"{unpacked}/bench/run.py", "--out"]
    assert called.endswith("--out r.json --commit abc1234 --quick --profile")
    assert (icd, dist, written) == ("ICD=/my/icd.json", f"DIST={unpacked}/dist", "Written: r.json")


def test_the_script_takes_a_model_that_lies_beside_it(unpacked: Path) -> None:
    assert "--model" not in start(unpacked).stdout
    (unpacked / "SmolLM2.gguf").write_bytes(b"GGUF")
    assert f"--model {unpacked}/SmolLM2.gguf" in start(unpacked).stdout
    other = unpacked.parent / "other.gguf"
    other.write_bytes(b"GGUF")
    assert "--model other.gguf" in start(unpacked, "other.gguf").stdout
    assert "--model tiny" in start(unpacked, "--model", "tiny").stdout


def test_the_script_takes_a_model_s_folder(unpacked: Path, tiny_model_folder: Path) -> None:
    for given in ([str(tiny_model_folder)], ["--model", str(tiny_model_folder)], ["--model", "./a folder/"]):
        shutil.copytree(tiny_model_folder, unpacked.parent / "a folder", dirs_exist_ok=True)
        done = start(unpacked, *given)
        assert done.returncode == 0, done.stderr
        assert f"--model {given[-1]}\n" in done.stdout.replace(" \n", "\n")


# Each with arguments that the script has, and what of them `node` or PyTorch's Python gets to see.
SCRIPT_OPTIONS = {
    "--baseline": ([], "--baseline /"),
    "--bf16": (["--baseline"], "-m bench.baseline --bf16"),
    "--form": (["q4_k"], "--form q4_k"),
    "--quick": ([], "--quick"),
    "--profile": ([], "--profile"),
    "--shape": (["qwen3-0.6b"], "--shape qwen3-0.6b"),
    "--out": (["r.json"], "--out r.json"),
    "--model": (["tiny"], "--model tiny"),
    "--help": ([], "MODEL is a .gguf file, a Hugging Face folder"),
}


def test_the_script_s_options_are_all_known() -> None:
    lines = re.findall(r"^    (-\S+)\)", bench_bundle.RUN.read_text(), re.MULTILINE)
    assert {line.split("|")[-1] for line in lines} - {"-*"} == set(SCRIPT_OPTIONS)


@pytest.mark.parametrize("option", SCRIPT_OPTIONS)
def test_each_option_of_the_script(option: str, unpacked: Path) -> None:
    python = unpacked.parent / "python"
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    given, wanted = SCRIPT_OPTIONS[option]
    done = start(unpacked, option, *given, LORA_LAB_PYTHON=str(python))
    assert (done.returncode, done.stderr) == (0, "")
    assert wanted in done.stdout
    assert wanted not in start(unpacked).stdout


def test_the_script_measures_each_form_into_a_file_of_its_own(unpacked: Path) -> None:
    done = start(unpacked, "--shape", "qwen3-0.6b", "--form", "q8_0,q4_k", "--out", "r.json")
    assert re.findall(r"--out (\S+) .*--form (\S+)", done.stdout) == [("r-q8_0.json", "q8_0"), ("r-q4_k.json", "q4_k")]


def test_the_script_refuses_what_it_does_not_know(unpacked: Path) -> None:
    for arguments, message in (
        (["--fast"], "--fast is no option"),
        (["no.gguf"], "there is no file no.gguf, and no folder"),
        (["--out"], "--out needs a file's name"),
    ):
        done = start(unpacked, *arguments)
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    done = start(unpacked, "--help")
    assert (done.returncode, "--baseline needs PyTorch" in done.stdout) == (0, True)


def test_the_script_runs_pytorch_first_or_says_why_not(unpacked: Path) -> None:
    python = unpacked.parent / "python"
    python.write_text('#!/bin/sh\ncase "$*" in *--check*) exit ${CHECK:-0};; esac\n'
                      'while [ $# -gt 1 ]; do shift; done; echo "{}" > "$1"; echo measured\n')  # fmt: skip
    python.chmod(0o755)
    done = start(unpacked, "--baseline", LORA_LAB_PYTHON=str(python))
    assert done.returncode == 0, done.stderr
    assert done.stdout.index("measured") < done.stdout.index("--expose-gc")
    assert re.search(r"--baseline /\S+", done.stdout)
    done = start(unpacked, "--baseline", LORA_LAB_PYTHON=str(python), CHECK="3")
    assert done.returncode == 1
    assert "leave --baseline out" in done.stderr
    assert "--expose-gc" not in done.stdout


# --- with a real Node: Pyodide, the host's files as it mounts them, and everything up to the GPU ---


@pytest.fixture
def runnable(unpacked: Path, node_modules: Path) -> Path:
    """The bundle with all that it holds but the libraries for machines that lack them."""
    with Fetcher(CACHE / "parts", FileHashes(CACHE / "hashes.json")) as fetcher:
        files = {**bench_bundle.project_files(), **bench_bundle.site_files(node_modules, fetcher)}
    files |= {f"node_modules/webgpu/{name}": node_modules / "webgpu" / name for name in bench_bundle.WEBGPU_FILES}
    for name, content in files.items():
        path = unpacked / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    (unpacked / "node").unlink()
    (unpacked / "node").symlink_to(find_node())
    return unpacked


NO_GPU = {
    "VK_DRIVER_FILES": "/nowhere",
    "VK_ICD_FILENAMES": "/nowhere",
}  # for Dawn: the model is opened before it is asked


def test_a_folder_is_opened_under_node(runnable: Path, tiny_model_folder: Path) -> None:
    """As the host has it, and as Hugging Face's cache has it: links to files elsewhere, in a folder that is one too."""
    cache = runnable.parent / "cache"
    (cache / "snapshots" / "abc").mkdir(parents=True)
    shutil.copytree(tiny_model_folder, cache / "blobs")
    for file in tiny_model_folder.iterdir():
        (cache / "snapshots" / "abc" / file.name).symlink_to(Path("..", "..", "blobs", file.name))
    (cache / "snapshots" / "abc" / "README.md").symlink_to("nowhere")
    (runnable.parent / "linked").symlink_to("cache/snapshots/abc")
    done = start(runnable, "--model", "linked", **NO_GPU)
    assert (done.returncode, "navigator.gpu found no adapter" in done.stderr) == (1, True), done.stderr
    (cache / "blobs" / "config.json").unlink()
    done = start(runnable, "--model", "linked", **NO_GPU)
    assert (done.returncode, "config.json is missing" in done.stderr) == (1, True), done.stderr
