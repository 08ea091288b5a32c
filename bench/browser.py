"""The suite inside a browser's worker, for the page in bench/page/."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from bench.rows import cells
from bench.suite import Options, run_all
from lora_lab.gpu import open_device


def browser_name(user_agent: str) -> str:
    """Return the browser's name and version out of what it says of itself."""
    for mark, name in (("Firefox", "Firefox"), ("Edg", "Edge"), ("Chrome", "Chrome"), ("Version", "Safari")):
        if match := re.search(rf"{mark}/(\d+)", user_agent):
            return f"{name} {match[1]}"
    return "an unknown browser"


async def main(
    quick: bool, tiny: bool, user_agent: str, commit: str, say: Callable[[str], Any], show: Callable[[str, Any], Any]
) -> str:
    """Measure; `show(json, cells of its rows)` hears the result as far as it is known. Return the whole JSON."""
    from pyodide.ffi import to_js

    options = Options(quick=quick, tiny=tiny, host=f"{browser_name(user_agent)}, Pyodide", commit=commit)
    say("Opening the GPU")
    device = await open_device()

    def save(result: dict[str, Any]) -> None:
        show(json.dumps(result), to_js([cells(row) for row in result["rows"]]))

    try:
        return json.dumps(await run_all(device, options, say, save), indent=1) + "\n"
    finally:
        await device.close()
