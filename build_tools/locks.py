"""`build.py lock`: every Python package that a build, the program or its tests install, with version and sha256.

What is wanted stands in pyproject.toml; uv finds what that needs in turn, for every system that the project runs on,
and writes build_tools/locks/NAME.txt, which pip then installs with --require-hashes. torch is the one package without a
hash: which of its builds is the right one (CPU, CUDA, ROCm) is a matter of the machine, and each has its own.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from build_tools.base import ROOT, BuildError, say
from build_tools.environment import (
    LOCKS,
    NODE_REQUIREMENT,
    VENV_SCRIPTS,
    build_requirements,
    locked,
    pip_install,
    pyproject,
)

UV_REQUIREMENT = "uv==0.13.9"
OLDEST_PYTHON = "3.11"
# What a CUDA build of torch brings along; none of it is in a CPU build.
OF_TORCH = ("torch", "triton", "nvidia-", "cuda-")


def wanted() -> dict[str, list[str]]:
    """Return what each lock begins with: requirements with the versions that the project pins."""
    project = pyproject()["project"]
    return {
        "build": build_requirements(),
        "lock": [UV_REQUIREMENT],
        "node": [NODE_REQUIREMENT],
        "run": project["dependencies"],
        "test": [*project["dependencies"], *project["optional-dependencies"]["test"]],
    }


def write_locks(upgrade: bool = False) -> None:
    """Write all locks. What stands in them stays at its version unless pyproject.toml or `upgrade` says otherwise."""
    pip_install(locked("lock"), "uv")
    for name, requirements in wanted().items():
        lock = LOCKS / f"{name}.txt"
        say(f"Locking what stands in {lock.relative_to(ROOT)}")
        text = _compiled(requirements, lock, upgrade)
        lock.write_text(without_torch(text))


def _compiled(requirements: list[str], lock: Path, upgrade: bool) -> str:
    with tempfile.TemporaryDirectory() as folder:
        asked, out = Path(folder, "wanted.in"), Path(folder, "lock.txt")
        asked.write_text("\n".join(requirements) + "\n")
        if lock.exists() and not upgrade:
            out.write_bytes(lock.read_bytes())  # uv keeps the versions that it finds here
        command = [str(VENV_SCRIPTS / "uv"), "pip", "compile", "--quiet", "--universal", "--generate-hashes"]
        command += ["--no-header", "--no-annotate", "--python-version", OLDEST_PYTHON, "--output-file", str(out)]
        done = subprocess.run([*command, str(asked)], cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise BuildError(f"uv could not lock {', '.join(requirements)}:\n{done.stderr.strip()}")
        return out.read_text()


def without_torch(text: str) -> str:
    """Return a lock without torch and what only its CUDA build needs."""
    kept, inside = [], True
    for line in text.splitlines():
        if not line.startswith(" "):
            inside = not line.startswith(OF_TORCH)
        if inside:
            kept.append(line)
    return "\n".join(kept) + "\n"
