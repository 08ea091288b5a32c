"""Makes the page's script and style of app/web: TypeScript and Preact through esbuild; `tsc` says what does not fit.

esbuild only takes the types off, it does not read them. So a build needs no types of the messages; the lint tier makes
them (protocol_types.py) and checks them.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from build_tools.base import ROOT, BuildError
from build_tools.environment import ensure_node_modules, find_node, search_path

WEB = ROOT / "app" / "web"
ENTRIES = ("main.tsx", "style.css")
# What esbuild takes into the page's script. Their licences stand under vendor/ (app/web/vendor.json).
PREACT = ("--jsx=automatic", "--jsx-import-source=preact")
COMMON = ("--bundle", "--minify", "--target=es2022", "--charset=utf8", "--legal-comments=none", "--log-level=warning")


@dataclass(frozen=True)
class Bundle:
    """The page's files by their name under assets/, and the scripts that main.js imports at once."""

    files: dict[str, bytes]
    preloads: tuple[str, ...]


def bundle_page(site: dict[str, Any]) -> Bundle:
    """Return the page's one script and one style, with the parts that are loaded when they are wanted.

    `site` is what the page knows of the site that it stands in: app/web/site.ts.
    """
    modules = ensure_node_modules()
    with tempfile.TemporaryDirectory() as folder:
        out, meta = Path(folder, "out"), Path(folder, "meta.json")
        options = [
            "--format=esm",
            "--splitting",
            "--external:*.woff2",
            "--entry-names=[name]",
            "--chunk-names=[name]-[hash]",
        ]
        run_esbuild(
            modules,
            [
                *ENTRIES,
                *COMMON,
                *PREACT,
                *options,
                f"--metafile={meta}",
                f"--define:SITE={json.dumps(site)}",
                f"--outdir={out}",
            ],
        )
        files = {
            path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()
        }
        outputs = {Path(name).name: made for name, made in json.loads(meta.read_text())["outputs"].items()}
    return Bundle(files, tuple(_at_once("main.js", outputs)))


def _at_once(name: str, outputs: dict) -> list[str]:
    """Return the scripts that one imports before it runs, and those that they import."""
    found: list[str] = []
    for one in outputs[name]["imports"]:
        inner = Path(one["path"]).name
        if one["kind"] == "import-statement" and inner in outputs and inner not in found:
            found += [inner, *(further for further in _at_once(inner, outputs) if further not in found)]
    return found


def bundle_module(source: Path, target: Path) -> Path:
    """Write one module of the page, with all that it imports, as JavaScript that Node can run: for tests."""
    options = ["--format=esm", "--platform=neutral", "--main-fields=module,main", f"--outfile={target}"]
    run_esbuild(ensure_node_modules(), [str(source), *COMMON[:1], *COMMON[2:], *PREACT, *options])
    return target


def run_esbuild(modules: Path, arguments: list[str]) -> None:
    """Run esbuild in app/web; it finds packages in `modules`, which is no ancestor of it."""
    command = [find_node(), str(modules / "esbuild" / "bin" / "esbuild"), *arguments]
    environment = {**os.environ, "PATH": search_path(), "NODE_PATH": str(modules)}
    done = subprocess.run(command, cwd=WEB, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise BuildError(f"esbuild cannot make the page of app/web:\n{done.stderr.strip()}")


def check_types(project: Path = ROOT / "app" / "web" / "tsconfig.json") -> subprocess.CompletedProcess[str]:
    """Run `tsc` over the page (or another project, for tests). Its faults stand in the result's stdout."""
    script = ensure_node_modules() / "typescript" / "bin" / "tsc"
    command = [find_node(), str(script), "--noEmit", "--project", str(project)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PATH": search_path()})


def main() -> int:
    """Make the types of the messages and hold the page against them."""
    from build_tools.protocol_types import write_types

    write_types()
    done = check_types()
    print(done.stdout or "The page's types fit the protocol.")
    return done.returncode


if __name__ == "__main__":
    raise SystemExit(main())
