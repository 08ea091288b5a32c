#!/usr/bin/env python3
"""Builds, serves and tests LoRA Lab. Needs Python 3.11 or newer with pip; fetches everything else by name.

python3 build.py serve [--port N] [--no-model] [--add-model ID=PATH] [--no-hub | --hub URL [ORIGIN ...]]
python3 build.py build [--no-model] [--add-model ID=PATH] [--no-hub | --hub URL [ORIGIN ...]] [--out DIR]
python3 build.py test  [lint unit gpu model browser firefox] [--long] [pytest options]
python3 build.py bench [--baseline] [--profile] [--quick] [--host node|native|both] [--model PATH] [--out FILE]
python3 build.py bench --browser [--port N]
python3 build.py bench-bundle [--out FILE]
python3 build.py bench-docs RESULT.json
python3 build.py settings-docs
python3 build.py icons
python3 build.py types
python3 build.py lock [--upgrade]
python3 build.py clean [--all]
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - older Pythons start this file too
    raise SystemExit("LoRA Lab's build needs Python 3.11 or newer; this is {}.{}.".format(*sys.version_info[:2]))

import argparse
import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from build_tools.base import CACHE, ROOT, BuildError, say
from build_tools.environment import VENV, ensure_venv, inside_venv
from build_tools.parts import FROZEN, FROZEN_STAMP
from build_tools.server import DEFAULT_PORT, SiteServer
from build_tools.testing import TIERS, run_tests


def parse_arguments(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the parsed arguments and, for `test`, those that are pytest's."""
    parser = argparse.ArgumentParser(prog="build.py", description="Builds, serves and tests LoRA Lab.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    site = argparse.ArgumentParser(add_help=False)
    site.add_argument("--no-model", action="store_true", help="leave the built-in model (98 MB) out of the site")
    site.add_argument(
        "--add-model",
        action="append",
        default=[],
        metavar="ID=PATH",
        help="put a .gguf file or a Hugging Face folder beside it; the page opens it with ?model=ID (may be repeated)",
    )
    hub = site.add_mutually_exclusive_group()
    hub.add_argument("--no-hub", action="store_true", help="leave models by their name on Hugging Face out of the page")
    hub.add_argument(
        "--hub",
        nargs="+",
        metavar=("URL", "ORIGIN"),
        help="another hub than Hugging Face (a mirror, say), and the origins that it sends to for files",
    )
    site.add_argument("--out", type=Path, metavar="DIR", help="where the site goes (default: dist)")

    one = commands.add_parser("serve", parents=[site], help="build the site and serve it on this machine")
    one.add_argument("--port", type=_port, default=DEFAULT_PORT, help=f"default: {DEFAULT_PORT}; 0 takes any free one")
    commands.add_parser("build", parents=[site], help="build the site")
    commands.add_parser("test", help=f"run the tests; tiers: {' '.join(TIERS)}; --long: long ones; others: pytest's")
    add_bench_commands(commands)
    commands.add_parser("settings-docs", help="write docs/settings.md from the table of settings")
    commands.add_parser("icons", help="draw the application's icons from app/web/icon.svg (after `build.py test`)")
    commands.add_parser(
        "types", help="write app/web/protocol.ts, the messages as TypeScript, and check the page's types"
    )
    one = commands.add_parser("lock", help="write build_tools/locks/: what pip installs, with version and sha256")
    one.add_argument("--upgrade", action="store_true", help="take the newest that pyproject.toml allows")
    one = commands.add_parser("clean", help="remove the built site and what was built on the way")
    one.add_argument("--all", action="store_true", help="also the downloads, the npm packages and the environment")

    parsed, rest = parser.parse_known_args(arguments)
    if parsed.command == "bench" and parsed.browser and (parsed.baseline or parsed.profile or parsed.out):
        parser.error("--browser only serves the page: what it measures and where that goes is chosen there")
    if rest and parsed.command != "test":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return parsed, rest


def add_bench_commands(commands: Any) -> None:
    """Add the three commands of the benchmark."""
    one = commands.add_parser("bench", help="measure the engine on this machine's GPU")
    one.add_argument("--baseline", action="store_true", help="PyTorch + PEFT beside it (needs them and a CUDA device)")
    one.add_argument("--profile", action="store_true", help="print the time by kernel too")
    one.add_argument("--quick", action="store_true", help="leave out the curves and the 1,000 steps")
    one.add_argument("--host", choices=("node", "native", "both"), default="both", help="where it runs (default: both)")
    one.add_argument("--model", metavar="PATH", help="a .gguf file or a model's folder; or tiny, for a try")
    one.add_argument("--out", type=Path, metavar="FILE", help="where the JSON goes (default: bench/results/)")
    one.add_argument("--browser", action="store_true", help="serve the page that measures in a browser")
    one.add_argument("--port", type=_port, default=DEFAULT_PORT, help=f"of the page; default: {DEFAULT_PORT}")
    one = commands.add_parser("bench-bundle", help="pack the benchmark for a bare Linux machine with an NVIDIA driver")
    bundle = CACHE / "bench" / "lora-lab-bench.tar.xz"
    one.add_argument("--out", type=Path, default=bundle, metavar="FILE", help=f"default: {bundle.relative_to(ROOT)}")
    one = commands.add_parser("bench-docs", help="write a result's table and curves into docs/")
    one.add_argument("result", type=Path, metavar="RESULT.json")


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is no port number")
    return port


def clean(everything: bool) -> None:
    """Remove what a build made: the site, the package's wheel; with `everything` what it downloaded and installed."""
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    for path in [
        *(CACHE / "parts").glob("lora_lab*"),
        *(CACHE / "parts" / name for name in (*FROZEN, FROZEN_STAMP)),
        CACHE / "bench",
        CACHE / "bench-site",
        CACHE / "hashes.json",
        CACHE / "test-site",
        CACHE / "test-results",
    ]:
        _remove(path)
    if everything:
        for path in [CACHE / "parts", CACHE / "node", VENV]:
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def run_in_venv(arguments: list[str]) -> int:
    """Start this script again with the Python of the build's environment."""
    command = [str(ensure_venv()), str(Path(__file__).resolve()), *arguments]
    if os.name == "nt":
        return subprocess.run(command).returncode
    sys.stdout.flush()
    os.execv(command[0], command)


def run(arguments: list[str]) -> int:
    parsed, rest = parse_arguments(arguments)
    if parsed.command == "clean":
        clean(parsed.all)
        return 0
    if parsed.command == "settings-docs":
        from build_tools import settings_docs

        settings_docs.write_docs()
        return 0
    if not inside_venv():
        return run_in_venv(arguments)
    ensure_venv()
    if parsed.command == "test":
        return run_tests(rest)
    if parsed.command == "icons":
        from build_tools.icons import draw_icons

        draw_icons()
        return 0
    if parsed.command == "types":
        from build_tools import page
        from build_tools.environment import ensure_test_packages

        ensure_test_packages()  # the program's own imports
        return page.main()
    if parsed.command == "lock":
        from build_tools.locks import write_locks

        write_locks(parsed.upgrade)
        return 0

    if parsed.command.startswith("bench"):
        return bench(parsed)
    if parsed.command == "build":
        build(parsed)
        return 0
    # The port first: to hear that it is taken only after a long first build would be a pity.
    with SiteServer(site_folder(parsed), parsed.port, with_headers=True) as server:
        build(parsed)
        say(f"\nLoRA Lab is at {server.url}\nCtrl-C ends it.")
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    print()
    return 0


def bench(parsed: argparse.Namespace) -> int:
    """Run the benchmark, pack it for another machine, or write the page about it."""
    from build_tools import bench, bench_bundle, bench_docs

    if parsed.command == "bench-bundle":
        bench_bundle.write_bundle(parsed.out.resolve())
        return 0
    if parsed.command == "bench-docs":
        bench_docs.write_docs(parsed.result.resolve())
        return 0
    if parsed.browser:
        return bench.serve_page(parsed.port)
    hosts = bench.HOSTS if parsed.host == "both" else (parsed.host,)
    out = parsed.out.resolve() if parsed.out else None
    options = bench.BenchOptions(hosts, parsed.baseline, parsed.profile, parsed.quick, parsed.model, out)
    return bench.run_bench(options)


def site_folder(parsed: argparse.Namespace) -> Path:
    return parsed.out.resolve() if parsed.out else ROOT / "dist"


def build(parsed: argparse.Namespace) -> None:
    """Bring the site up to date and say how large it is."""
    from build_tools.hub import parse_hub
    from build_tools.site import build_site, parse_added_model

    started = time.monotonic()
    dist = site_folder(parsed)
    added = [parse_added_model(text) for text in parsed.add_model]
    hub = None if parsed.no_hub else parse_hub(parsed.hub)
    manifest = build_site(dist, with_model=not parsed.no_model, added_models=added, hub=hub)
    size_bytes = sum(entry["size_bytes"] for entry in manifest.values())
    where = dist.relative_to(ROOT) if dist.is_relative_to(ROOT) else dist
    say(f"{where}: {len(manifest)} files, {size_bytes / 2**20:.1f} MiB, in {time.monotonic() - started:.1f} s")


def main() -> int:
    try:
        return run(sys.argv[1:])
    except BuildError as error:
        print(f"build.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbuild.py: interrupted; nothing half-written is kept", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
