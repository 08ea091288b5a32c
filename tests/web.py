"""Modules of the page (app/web) under Node: bundled by esbuild, given a script to run, their answer as JSON."""

from __future__ import annotations

import functools
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from build_tools.environment import find_node
from build_tools.page import WEB, bundle_module


def run_module(
    names: str | dict[str, str], script: str, *, before: str = "", more: dict[str, Any] | None = None
) -> Any:
    """Return what `script` gives to `answer(value)`. `page` holds the exports of a module of app/web.

    Of several, {name: module}, it holds each one's under its name. `before` runs before they do, for what a browser has
    and Node has not. `more` are constants by name.
    """
    modules = (("", names),) if isinstance(names, str) else tuple(names.items())
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "page.mjs")
        made.write_bytes(_bundle(modules))
        constants = "".join(f"const {key} = {json.dumps(value)};\n" for key, value in (more or {}).items())
        lines = [
            before,
            f"const page = await import({json.dumps(made.as_uri())});",
            constants,
            "const answer = (value) => console.log(JSON.stringify(value));",
            script,
            "process.exit(0);",  # the page's timers would go on
        ]
        command = [find_node(), "--input-type=module", "-e", "\n".join(lines)]
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@functools.cache
def _bundle(modules: tuple[tuple[str, str], ...]) -> bytes:
    """Return modules of app/web in one; each one's exports under its name, or as they are where that is ""."""
    with tempfile.TemporaryDirectory() as folder:
        lines = [f"export *{name and f' as {name}'} from {json.dumps(str(WEB / module))};" for name, module in modules]
        source = Path(folder, "entry.ts")
        source.write_text("\n".join(lines))
        return bundle_module(source, Path(folder, "page.mjs")).read_bytes()


MODULES = {
    "bus": "store/bus.ts",
    "data": "store/data.ts",
    "chat": "store/chat.ts",
    "state": "store/train.ts",
    "page": "store/page.ts",
    "settings": "store/settings.ts",
    "problems": "store/problems.ts",
    "workers": "link/workers.ts",
    "run": "train/run.ts",
    "result": "train/result.ts",
    "curve": "train/curve.ts",
    "watch": "store/watch.ts",
    "watching": "train/watching.ts",
    "notice": "train/notice.ts",
    "far": "train/far.ts",
    "plan": "train/plan.ts",
    "panel": "train/run_panel.tsx",
    "opening": "shell/opening.ts",
    "applied": "chat/applied.ts",
    "engine": "chat/engine.ts",
    "revive": "shell/revive.ts",
    "about": "site.ts",
}
READY = Path(__file__).parent / "unit" / "web" / "page_driver.js"


def run_page(script: str, site: dict[str, Any] | None = None) -> Any:
    """Return what `script` gives to `answer(value)`, on a page without a document whose workers only listen.

    `hear(type, event)` is a worker's event, `sent` what was asked of the workers; `begin()` makes it ready to train.
    `site` is what the build would have told it.
    """
    before = f"globalThis.SITE = {json.dumps(site)};" if site else ""
    return run_module(MODULES, READY.read_text() + script, before=before)
