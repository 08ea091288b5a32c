"""How long the page needs until it can train, after a reload with everything cached: phase by phase.

    python -m bench.startup [--runs 3] [--dist dist] [--model ID] [--json OUT.json]

Serves the built site with the project's own server, opens it in Chromium (software GPU, a profile on the disk), waits
until the model is stored, and reloads as often as asked. The numbers are the page's own (app/web/link/startup.ts); the
table shows their medians. `train button` is what a person then waits for after a press on the sample data.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
from datetime import date
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, Page, sync_playwright

from build_tools.base import ROOT, commit
from build_tools.server import SiteServer
from build_tools.testing import find_browser

CHROMIUM = [
    "--headless=new", "--no-sandbox", "--enable-unsafe-webgpu", "--enable-features=Vulkan", "--use-vulkan=swiftshader",
    "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
]  # fmt: skip
PATIENCE_MS = 180_000
PROBLEM = """const problem = document.getElementById("setup-problem");
  if (problem && !problem.hidden) throw new Error(problem.innerText);"""
CHAT_READY = f"() => {{ {PROBLEM} return window.loraLabStartup?.chat_ready_ms != null; }}"
READY = f"() => {{ {PROBLEM} return window.loraLabStartup?.ready_ms != null; }}"
TRAIN_ENABLED = """() => !document.querySelector('[data-testid="train-start"]').disabled"""


def measure(context: BrowserContext, url: str, runs: int) -> list[dict[str, Any]]:
    """Open the page once to fill the caches, then reload it `runs` times; return what each reload took."""
    page = context.new_page()
    page.goto(url)
    page.wait_for_function(CHAT_READY, timeout=PATIENCE_MS)
    found = [page.evaluate("() => window.loraLabStartup")]
    page.wait_for_timeout(3000)  # what is written to the caches after the page is ready
    for _ in range(runs):
        page.reload()
        page.wait_for_function(READY, timeout=PATIENCE_MS)
        record = {"train_button_ms": _press_sample(page)}
        page.wait_for_function(CHAT_READY, timeout=PATIENCE_MS)
        found.append({**page.evaluate("() => window.loraLabStartup"), **record})
        page.wait_for_timeout(1000)
    return found


def _press_sample(page: Page) -> float:
    """Return ms from a press on the sample data until Train can be pressed."""
    begun = page.evaluate("() => performance.now()")
    page.get_by_test_id("sample-dataset").click()
    page.wait_for_function(TRAIN_ENABLED, timeout=PATIENCE_MS, polling="raf")
    return float(page.evaluate("() => performance.now()") - begun)


def medians(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians over the reloads: of the totals, and of each phase's begin and length, in the order seen."""
    phases: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for record in records:
        for one in record["phases"]:
            place = (one["who"], one["name"])
            phases.setdefault(place, []).append((one["start_ms"], one["end_ms"] - one["start_ms"]))
    rows = [
        {
            "who": who,
            "name": name,
            "start_ms": round(statistics.median(start for start, _ in seen)),
            "ms": round(statistics.median(length for _, length in seen)),
        }
        for (who, name), seen in phases.items()
    ]
    totals = {
        name: round(statistics.median(record[name] for record in records))
        for name in ("ready_ms", "chat_ready_ms", "train_button_ms")
    }
    return {**totals, "phases": sorted(rows, key=lambda row: (row["who"] == "chat", row["start_ms"]))}


def show(result: dict[str, Any]) -> None:
    print(f"{'who':6} {'phase':20} {'from ms':>8} {'ms':>7}")
    for row in result["phases"]:
        print(f"{row['who']:6} {row['name']:20} {row['start_ms']:8} {row['ms']:7}")
    print(f"ready to train {result['ready_ms']} ms; ready to chat {result['chat_ready_ms']} ms; "
          f"sample data read and planned in {result['train_button_ms']} ms more")  # fmt: skip


def as_result(found: dict[str, Any], adapter: str, host: str) -> dict[str, Any]:
    """Return the medians in the form that all files in bench/results/ have; there is no baseline and no floor."""
    values = {
        "ready to train": found["ready_ms"],
        "ready to chat": found["chat_ready_ms"],
        "sample data read and planned": found["train_button_ms"],
        "first visit, ready to train": found["first_visit"]["ready_ms"],
        **{f"{phase['who']}: {phase['name']}": phase["ms"] for phase in found["phases"]},
    }
    rows = [
        {"name": name, "value": value, "unit": "ms", "baseline": None, "ratio": None, "floor_share": None}
        for name, value in values.items()
    ]
    return {"adapter": adapter, "date": date.today().isoformat(), "commit": commit(), "host": host, "rows": rows,
            "startup": found}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--dist", type=Path, default=ROOT / "dist")
    parser.add_argument("--model", help="id of another model of the site")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--browser", default=find_browser())
    options = parser.parse_args()
    query = f"?model={options.model}" if options.model else ""
    with (
        SiteServer(options.dist, port=0) as server,
        tempfile.TemporaryDirectory() as profile,
        sync_playwright() as playwright,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        context = playwright.chromium.launch_persistent_context(profile, executable_path=options.browser, args=CHROMIUM)
        first, *reloads = measure(context, server.url + query, options.runs)
        version = context.browser.version if context.browser else ""
        adapter = context.pages[-1].get_by_test_id("gpu-status").inner_text()
        context.close()
        server.shutdown()
    found = medians(reloads)
    found["ready_ms_each"] = [round(record["ready_ms"]) for record in reloads]
    found["first_visit"] = {name: round(first[name]) for name in ("ready_ms", "chat_ready_ms")}
    show(found)
    print(f"each: {found['ready_ms_each']}; first visit {found['first_visit']}")
    if options.json:
        host = f"Chromium {version}, {os.cpu_count()} cores, {options.runs} reloads"
        options.json.write_text(json.dumps(as_result(found, adapter, host), indent=1) + "\n")


if __name__ == "__main__":
    main()
