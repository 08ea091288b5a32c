"""A model of 4 billion weights, 2.5 GB of them, in the page: opened, brought to the (software) GPU, planned, refused.

It is sparse on the disk, and no step of it is computed. What counts is how far Python's memory grows: it never shrinks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Route, expect

from bench.synthetic import published_shape
from bench.write_model import write_model
from tests.browser.lab import START_MS, Lab

LOAD_MS = 600_000  # 2.5 GB by way of two cores, of which the software GPU has its share
MOST_MIB = 300


@pytest.fixture(scope="module")
def large_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "large.gguf"
    write_model(path, published_shape("qwen3-4b"), "q4_k", "q8_0", sparse=True)
    assert path.stat().st_size > 2.45e9
    return path


@pytest.fixture
def with_pyodide_in_reach(context: BrowserContext) -> None:
    """Let the tests see each worker's Pyodide, as `testedPyodide`."""

    def show(route: Route) -> None:
        response = route.fetch()
        text = response.text()
        assert text.count("const pyodide = await startPython(") == 1
        body = text.replace("const pyodide = await", "const pyodide = globalThis.testedPyodide = await")
        route.fulfill(response=response, body=body)

    context.route("**/worker/worker.js*", show)


def heap_mib(lab: Lab, kind: str) -> float:
    (worker,) = (worker for worker in lab.page.workers if f"kind={kind}" in worker.url)
    size: float = worker.evaluate("() => testedPyodide._module.HEAP8.length / 2 ** 20")
    return size


def test_a_large_model_takes_little_of_pythons_memory(
    open_lab: Callable[..., Lab], with_pyodide_in_reach: None, large_model: Path, ships: Path
) -> None:
    lab = open_lab()
    lab.wait_for_model()
    lab.drop_data(ships)
    before = {kind: heap_mib(lab, kind) for kind in ("train", "chat")}

    lab.page.get_by_role("button", name="Use another model").click()
    lab.drop(large_model, on="model-input")
    takes = re.compile(r"a run with the present settings and your data takes [3-9]\.\d+ GB of its memory")
    expect(lab.part("candidate-words")).to_have_text(takes, timeout=START_MS)
    expect(lab.page.locator("#candidate-about")).to_have_text("2.46 GB in Q4_K, 4.0 billion parameters, 36 layers")
    lab.part("candidate-open").click()
    status = lab.part("model-status")
    expect(status).to_contain_text("qwen3-4b", timeout=START_MS)
    memory = lab.page.locator("#plan-memory > summary")
    expect(memory).to_have_text(re.compile(r"^GPU memory needed: [3-9]\.\d+ GB"), timeout=LOAD_MS)  # planned meanwhile
    expect(status).to_have_attribute("data-state", "ready", timeout=LOAD_MS)  # the chat has the weights on the GPU
    after = {kind: heap_mib(lab, kind) for kind in before}
    print({kind: (before[kind], after[kind]) for kind in before}, memory.inner_text())
    assert {kind: after[kind] - before[kind] < MOST_MIB for kind in before} == dict.fromkeys(before, True)

    lab.set(rank=512)  # an adapter of 4 GB
    problem = lab.page.locator(".field-error", has_text="needs one buffer of")
    expect(problem).to_be_visible(timeout=START_MS)
    expect(lab.part("train-start")).to_be_disabled()
