"""Runs cases against the readers and tells what came of them: `python -m tests.unit.fuzz.run --cases 1000000`."""

from __future__ import annotations

import argparse
import random
import resource
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from tests.tiny_gguf import write_tiny_gguf
from tests.tiny_model import write_tiny_model
from tests.unit.fuzz.more_targets import make_more_targets
from tests.unit.fuzz.targets import Target, make_targets

MAX_SECONDS = 5.0  # of a case, of this thread's own time: a template may take as long as a rendering may
MAX_GROWN_BYTES = 1 << 30  # of the process, over all its cases


@dataclass
class Found:
    """What came of one reader's cases. `findings`: the seeds of those that were not as documented, with the reason."""

    cases: int = 0
    read: int = 0
    slowest_s: float = 0.0
    findings: list[tuple[str, str]] = field(default_factory=list)


def run_case(target: Target, seed: str, found: Found) -> None:
    """Run one case and count it."""
    began = time.thread_time()
    found.cases += 1
    try:
        target.case(random.Random(seed))
        found.read += 1
    except target.errors as error:
        if not str(error).strip():
            found.findings.append((seed, "an error without words"))
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__}: {str(error)[:200]} ({Path(where.filename).name}:{where.lineno})"
        found.findings.append((seed, said))
    took = time.thread_time() - began
    found.slowest_s = max(found.slowest_s, took)
    if took > MAX_SECONDS:
        found.findings.append((seed, f"{took:.1f} s"))


def grown_bytes(before: int) -> int:
    """Return by how much the process was larger at its largest than `before`, which `peak_bytes` gave."""
    return peak_bytes() - before


def peak_bytes() -> int:
    """Return the most memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def make_all(folder: Path) -> dict[str, Target]:
    """Return the targets with their good inputs made in a folder."""
    model = write_tiny_model(folder / "tiny")
    return make_targets(model, write_tiny_gguf(model, folder / "tiny.gguf")) | make_more_targets(folder)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=1_000_000, help="in all; a reader gets its share")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop then, each reader having had the same share")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        targets = make_all(Path(folder))
    if options.only:
        targets = {options.only: targets[options.only]}
    before, began = peak_bytes(), time.monotonic()
    found = {name: Found() for name in targets}
    rounds = options.cases // sum(target.share for target in targets.values()) + 1
    for number in range(rounds):
        for name, target in targets.items():
            for part in range(target.share):
                run_case(target, f"{options.seed}/{name}/{number}/{part}", found[name])
        if number % 1000 == 999 or number == rounds - 1 or (time.monotonic() - began) / 60 > options.minutes:
            print(f"-- {sum(one.cases for one in found.values()):,} cases in {time.monotonic() - began:.0f} s, "
                  f"{grown_bytes(before) >> 20} MiB grown", flush=True)  # fmt: skip
            for name, one in found.items():
                print(f"{name:20} {one.cases:9,} cases, {one.read:8,} read, slowest {one.slowest_s:.2f} s, "
                      f"{len(one.findings)} findings", flush=True)  # fmt: skip
                for seed, said in list({said: (seed, said) for seed, said in one.findings}.values())[:5]:
                    print(f"    {seed}: {said}", flush=True)
        if (time.monotonic() - began) / 60 > options.minutes:
            break


if __name__ == "__main__":
    main()
