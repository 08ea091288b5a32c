"""llama.cpp itself, as npm's node-llama-cpp brings it: the judge of GGUF files."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from build_tools.environment import find_node

SCRIPT = Path(__file__).with_suffix(".mjs")


@dataclass(frozen=True)
class Job:
    """Continue `tokens` greedily by `count`, with an adapter or without."""

    model: Path
    tokens: Sequence[int]
    lora: Path | None = None
    count: int = 32

    def as_json(self) -> dict[str, Any]:
        lora = None if self.lora is None else str(self.lora)
        return {"model": str(self.model), "lora": lora, "tokens": list(self.tokens), "count": self.count}


def complete(node_modules: Path, jobs: Sequence[Job]) -> list[list[int] | str]:
    """Return for each job its tokens, or llama.cpp's words on why not."""
    text = json.dumps([job.as_json() for job in jobs])
    command = [find_node(), str(SCRIPT), str(node_modules)]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads(done.stdout.splitlines()[-1])
    return [f"{one['error']} {done.stderr[-2000:]}" if isinstance(one, dict) else one for one in results]
