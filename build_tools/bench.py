"""`build.py bench`: runs the benchmark natively and under Node + Dawn, PyTorch's beside it, and keeps the results."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from build_tools.base import CACHE, ROOT, BuildError, commit, say
from build_tools.environment import (
    VENV_PYTHON,
    ensure_node_modules,
    find_npm,
    install_program,
    locked,
    pip_install,
    search_path,
)

RESULTS = ROOT / "bench" / "results"
SITE = CACHE / "bench-site"  # Pyodide and its wheels, for Node
HOSTS = ("node", "native")


@dataclass(frozen=True)
class BenchOptions:
    """What `build.py bench` was asked for."""

    hosts: tuple[str, ...] = HOSTS
    baseline: bool = False
    profile: bool = False
    quick: bool = False
    model: str | None = None
    out: Path | None = None


def slug(text: str) -> str:
    """Return a file name's part for an adapter's name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "gpu"


def result_path(result: dict, host: str) -> Path:
    """Return where a result belongs in bench/results/."""
    return RESULTS / f"{result['date']}-{slug(result['adapter'])}-{host}.json"


def out_path(out: Path, host: str, hosts: tuple[str, ...]) -> Path:
    """Return the file of one host's result: `out` itself, with the host's name put in where there are several."""
    return out if len(hosts) == 1 else out.with_name(f"{out.stem}.{host}{out.suffix or '.json'}")


def model_argument(model: str) -> str:
    """Return --model as the suite takes it, which runs in another folder than the one that a path was given in."""
    return model if model == "tiny" else str(Path(model).absolute())  # a link keeps its name


def run_bench(options: BenchOptions) -> int:
    """Run the benchmark on every host asked for. Return the exit code."""
    if options.out is not None and not options.out.resolve().parent.is_dir():
        raise BuildError(f"--out {options.out}: the folder {options.out.resolve().parent} does not exist")
    if options.model not in (None, "tiny") and not Path(options.model or "").exists():
        raise BuildError(f"--model {options.model}: wanted a .gguf file, a model's folder, or tiny")
    work = CACHE / "bench"
    work.mkdir(parents=True, exist_ok=True)
    baseline = run_baseline(work / "baseline.json", options) if options.baseline else None
    code = 0
    for host in options.hosts:
        made = work / f"{host}.json"
        made.unlink(missing_ok=True)
        say(f"\n=== {host} ===")
        arguments = ["--out", str(made), "--commit", commit(), *(["--baseline", str(baseline)] if baseline else [])]
        arguments += [flag for flag, on in (("--profile", options.profile), ("--quick", options.quick)) if on]
        arguments += ["--model", model_argument(options.model)] if options.model else []
        failed = run_node(arguments) if host == "node" else run_native(arguments)
        if failed or not made.exists():
            say(f"The benchmark on {host} ended with exit code {failed}; what it said stands above.")
            code = failed or 1
            continue
        result = json.loads(made.read_text())
        target = out_path(options.out, host, options.hosts) if options.out else result_path(result, host)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made, target)
        say(f"Written: {target.relative_to(ROOT) if target.is_relative_to(ROOT) else target}")
    return code


def run_native(arguments: list[str]) -> int:
    """Run the suite in the build's own Python, on wgpu-native."""
    probe = "import lora_lab, numpy, wgpu"
    if subprocess.run([str(VENV_PYTHON), "-c", probe], capture_output=True, cwd=CACHE).returncode:
        pip_install(locked("run"), "what this package needs")
        install_program()
    paths = os.pathsep.join([str(ROOT), str(ROOT / "app" / "py")])
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run([str(VENV_PYTHON), "-m", "bench.run", *arguments], cwd=ROOT, env=environment).returncode


def run_node(arguments: list[str]) -> int:
    """Run the suite in Pyodide under Node, on Dawn."""
    from build_tools.site import build_site

    modules = ensure_node_modules(development=True)
    build_site(SITE, with_model=False)
    find_npm()  # puts Node into the environment where the machine has none
    node = shutil.which("node", path=search_path())
    if node is None:
        raise BuildError("Node.js was not found beside npm. Install Node.js 18 or newer.")
    environment = {**os.environ, "LORA_LAB_DIST": str(SITE), "LORA_LAB_NODE_MODULES": str(modules)}
    scripts = [str(ROOT / "bench" / name) for name in ("node_host.mjs", "run.py")]
    # Node warns of app/web/worker/gpu.js, a module for browsers whose name does not end in .mjs.
    command = [node, "--expose-gc", "--no-warnings", *scripts, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment).returncode


def serve_page(port: int) -> int:
    """Serve the page that measures in a browser, until Ctrl-C."""
    from build_tools.server import SiteServer
    from build_tools.site import build_site

    with SiteServer(SITE, port, with_headers=True) as server:
        build_site(SITE, with_model=False)
        say(f"\nThe benchmark is at {server.url}bench/\nCtrl-C ends it.")
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    return 0


def baseline_pythons() -> list[str]:
    """Return the Pythons that may have PyTorch for this GPU: the build's own, then the machine's."""
    found = [str(VENV_PYTHON), shutil.which("python3"), shutil.which("python"), sys.executable]
    return list(dict.fromkeys(name for name in found if name))


def last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2] or "it failed without a word"


def run_baseline(out: Path, options: BenchOptions) -> Path:
    """Measure PyTorch + PEFT with the first Python that can. Raises BuildError saying what each one lacks."""
    reasons = []
    for python in baseline_pythons():
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [python, "-m", "bench.baseline"]
        asked = subprocess.run([*command, "--check"], capture_output=True, text=True, cwd=ROOT, env=environment)
        if asked.returncode:
            reasons.append(f"  - {python}: {last_line(asked.stdout + asked.stderr)}")
            continue
        say(f"\n=== PyTorch + PEFT ({python}) ===")
        started = time.monotonic()
        more = ["--quick"] if options.quick else []
        if subprocess.run([*command, "--out", str(out), *more], cwd=ROOT, env=environment).returncode:
            raise BuildError("PyTorch's run failed; its own message stands above.")
        say(f"PyTorch measured in {time.monotonic() - started:.0f} s")
        return out
    raise BuildError(
        "--baseline needs PyTorch, transformers and PEFT in a Python that sees a CUDA device. Tried:\n"
        + "\n".join(reasons)
        + "\nInstall them (pip install torch transformers peft) where there is an NVIDIA GPU, or leave --baseline out."
    )
