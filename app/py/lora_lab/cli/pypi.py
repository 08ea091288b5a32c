"""One wheel from PyPI, by pip: whatever mirror or proxy pip is set up for is used. The build fetches its parts so too.

Nothing but Python is imported: build.py comes here before it has an environment.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lora_lab.errors import LoraLabError


class PypiError(LoraLabError):
    """pip does not give a wheel. The message is pip's own."""


@dataclass(frozen=True)
class PinnedWheel:
    """One wheel: NAME==VERSION, and the sha256 that pip holds it against before anybody looks into it."""

    requirement: str
    sha256: str


def download_wheel(
    wheel: PinnedWheel, folder: Path, report: Callable[[int, int | None], None], python: Path | str = sys.executable
) -> Path:
    """Download one wheel into `folder`, an empty one, and return its path.

    `report` hears of (done, total) in bytes; total is None where nobody knows it. Raises PypiError.
    """
    command = [str(python), "-m", "pip", "download", "--disable-pip-version-check", "--no-input", "--no-deps"]
    command += ["--only-binary", ":all:", "--progress-bar", "raw", "--dest", str(folder)]
    wanted = folder / "wanted.txt"  # a hash can be said in a file of requirements only
    wanted.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n")
    command += ["--require-hashes", "--requirement", str(wanted)]
    lines: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            for line in process.stdout or ():
                if progress := re.fullmatch(r"Progress (\d+) of (\d+)\s*", line):
                    report(int(progress[1]), int(progress[2]) or None)
                elif line.strip():
                    lines.append(line.strip())
        except BaseException:
            process.terminate()
            raise
    wheels = list(folder.glob("*.whl"))
    if process.returncode or not wheels:
        errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:] or ["pip said nothing"]
        raise PypiError(" ".join(errors).removeprefix("ERROR: "))
    return wheels[0]
