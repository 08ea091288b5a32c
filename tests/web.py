"""Modules of the page (app/web) under Node: bundled by esbuild, given a script to run, their answer as JSON."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from build_tools.environment import find_node
from build_tools.page import WEB, bundle_module


def run_module(name: str, script: str, *, before: str = "", more: dict[str, Any] | None = None) -> Any:
    """Return what `script` gives to `answer(value)`. `page` is app/web/`name`, whose exports it drives.

    `before` runs before the module does, for what a browser has and Node has not. `more` are constants by name.
    """
    with tempfile.TemporaryDirectory() as folder:
        made = bundle_module(WEB / name, Path(folder, "page.mjs"))
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
