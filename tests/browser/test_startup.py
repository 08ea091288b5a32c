"""How the page starts: what it says of its own start, and that it starts where the quick way is barred."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Route, expect

from tests.browser.lab import START_MS, Lab

OpenLab = Callable[..., Lab]
CHAT_READY = "() => window.loraLabStartup.chat_ready_ms !== null"
TRAIN_PHASES = {
    "worker script", "scripts", "runtime", "packages", "imports", "gpu", "storage", "site index", "wait for the gpu",
    "model file", "model header", "chat template", "tokenizer",
}  # fmt: skip


def test_the_breakdown_of_a_start_is_complete(open_lab: OpenLab) -> None:
    lab = open_lab()
    lab.wait_for_model()
    lab.page.reload()
    lab.page.wait_for_function(CHAT_READY, timeout=START_MS)
    record = lab.page.evaluate("() => window.loraLabStartup")
    assert {phase["name"] for phase in record["phases"] if phase["who"] == "train"} == TRAIN_PHASES
    assert {phase["name"] for phase in record["phases"] if phase["who"] == "page"} == {"page", "page's scripts"}
    chat = [phase for phase in record["phases"] if phase["who"] == "chat"]
    assert {"runtime", "packages", "imports", "model header", "tokenizer"} <= {phase["name"] for phase in chat}
    assert min(phase["start_ms"] for phase in chat) >= record["ready_ms"] - 1  # it leaves the cores to the first one
    assert record["chat_ready_ms"] > record["ready_ms"]

    def unexplained(without: str = "") -> float:
        return abs(_sum_ms(record, without) - record["ready_ms"]) / record["ready_ms"]

    assert unexplained() <= 0.1
    longest = max(_leading(record), key=lambda phase: phase["end_ms"] - phase["start_ms"])["name"]
    assert unexplained(without=longest) > 0.1  # the control: a phase that nobody measured is noticed


def _leading(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The phases that follow each other until the page is ready to train."""
    return [phase for phase in record["phases"] if phase["who"] != "chat" and not phase["beside"]]


def _sum_ms(record: dict[str, Any], without: str) -> float:
    return sum(phase["end_ms"] - phase["start_ms"] for phase in _leading(record) if phase["name"] != without)


@pytest.mark.parametrize("part", ["snapshot", "packages", "index"])
def test_a_start_that_cannot_be_restored_goes_the_long_way(
    open_lab: OpenLab, context: BrowserContext, ships: Path, part: str
) -> None:
    context.route(f"**/start/{part}*", lambda route: route.fulfill(status=200, body=b"neither gzip nor JSON"))
    heard: list[str] = []
    context.on("console", lambda message: heard.append(message.text))
    lab = open_lab()
    lab.wait_for_model()
    assert [text for text in heard if "the long way" in text]
    lab.drop_data(ships)
    expect(lab.part("train-start")).to_be_enabled(timeout=START_MS)


def test_the_quick_way_is_the_usual_one(open_lab: OpenLab, context: BrowserContext) -> None:
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    lab = open_lab()
    lab.wait_for_model()
    assert [url for url in asked if "/start/snapshot-" in url]
    assert not [url for url in asked if url.endswith(".whl")]


def test_python_that_cannot_be_had_is_told(context: BrowserContext, site_url: str) -> None:
    context.route("**/pyodide/pyodide.asm.js", lambda route: route.fulfill(status=404, body=""))
    lab = Lab(context, site_url + "?model=tiny")
    expect(lab.part("model-status")).to_have_attribute("data-state", "error", timeout=START_MS)
    expect(lab.page.locator("#setup-problem")).to_contain_text("pyodide.asm.js")


def test_what_a_worker_says_early_is_heard_before_what_it_says_later(context: BrowserContext, site_url: str) -> None:
    # A worker that boots before the page has its scripts, and ends the moment that somebody else listens.
    context.add_init_script(
        """window.Worker = class {
          #said = [{ type: "boot", phase: "runtime", done: 0, total: 3 }, { type: "fatal", message: "Out of coffee." }];
          #handler = null;
          set onmessage(handler) {
            this.#handler = handler;
            const data = this.#said.shift();
            queueMicrotask(() => this.#handler({ type: "message", data }));
          }
          get onmessage() { return this.#handler; }
          terminate() {}
        };"""
    )
    lab = Lab(context, site_url + "?model=tiny")
    expect(lab.page.locator("#setup-problem")).to_contain_text("Out of coffee.")
    lab.page.wait_for_timeout(200)  # a boot that comes late would put "busy" back
    assert lab.part("model-status").get_attribute("data-state") == "error"


def test_a_chat_that_is_late_waits_until_the_run_is_over(
    open_lab: OpenLab, context: BrowserContext, ships: Path
) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    context.route("**/assets/worker/worker.js?kind=chat", hold)
    lab = open_lab()
    lab.drop_data(ships)
    lab.set(steps=400, batch=1)
    lab.start()
    lab.wait_for_text("train-step", r"^\d+ / ")
    assert len(held) == 1
    held[0].continue_()
    expect(lab.part("model-status")).to_have_attribute("data-state", "ready", timeout=START_MS)  # its worker is there
    assert lab.part("train-status").get_attribute("data-state") == "training"
    assert lab.page.evaluate("() => window.loraLabStartup.chat_ready_ms") is None  # and keeps off the GPU
    lab.part("train-stop").click()
    lab.wait_for_phase("done", 60_000)
    expect(lab.part("chat-adapter")).to_be_checked(timeout=START_MS)
    lab.greedy(4)
    lab.ask("Hello")
