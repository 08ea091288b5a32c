"""What the page and its workers hold: JavaScript's heaps, Python's memory and objects, the GPU's buffers."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np

from tests.browser.lab import START_MS, Lab

# In a worker: how many objects Python has (it counts those that may hold others), and what it has on its GPU.
OF_PYTHON = """
def measure():
    import gc, json
    from lora_lab.gpu.device import Device
    gc.collect()
    objects = gc.get_objects()
    devices = [one for one in objects if Device in type(one).__mro__]  # isinstance would have lazy modules loaded
    return json.dumps({
        "Python objects": len(objects),
        "GPU bytes": sum(one.memory_in_use_bytes for one in devices),
        "GPU buffers": sum(one.num_buffers for one in devices),
    })
measure()
"""
# What V8 makes of a script, and throws away and makes again as it likes; and the browser's own objects, among them its
# records of slow frames, presses and what a field's undo would undo: up to 200 or 1,000 of each. Elements are counted.
NOT_OURS = ("code", "hidden", "object shape", "native")


class Targets:
    """DevTools' view of a tab and of its workers, which Playwright does not give."""

    def __init__(self, lab: Lab) -> None:
        self._session = lab.page.context.new_cdp_session(lab.page)
        self._workers: dict[str, str] = {}  # session by kind
        self._answers: dict[int, dict[str, Any]] = {}
        self._sent = 0
        self._lab = lab
        self._chunks: list[str] = []  # of a heap's snapshot
        self._session.on("HeapProfiler.addHeapSnapshotChunk", lambda event: self._chunks.append(event["chunk"]))
        self._session.on("Target.attachedToTarget", self._attached)
        self._session.on("Target.receivedMessageFromTarget", self._received)
        self._session.send(
            "Target.setAutoAttach", {"autoAttach": True, "waitForDebuggerOnStart": False, "flatten": False}
        )

    def _attached(self, event: dict[str, Any]) -> None:
        url = event["targetInfo"]["url"]
        for kind in ("train", "chat"):
            if f"kind={kind}" in url:
                self._workers[kind] = event["sessionId"]

    def _received(self, event: dict[str, Any]) -> None:
        message = json.loads(event["message"])
        if "id" in message:
            self._answers[message["id"]] = message

    def _ask(self, kind: str, method: str) -> dict[str, Any]:
        self._sent += 1
        message = json.dumps({"id": self._sent, "method": method})
        self._session.send("Target.sendMessageToTarget", {"sessionId": self._workers[kind], "message": message})
        deadline = time.monotonic() + START_MS / 1e3
        while self._sent not in self._answers:
            assert time.monotonic() < deadline, f"{method}: the {kind} worker does not answer any more"
            self._lab.page.wait_for_timeout(10)  # lets the answer in
        answer = self._answers.pop(self._sent)
        assert "result" in answer, f"{method} of {kind}: {answer}"
        return dict(answer["result"])

    def page_bytes(self) -> int:
        """What the page's JavaScript heap holds but for code and the browser's objects, once garbage is gone."""
        self._chunks.clear()
        self._session.send("HeapProfiler.collectGarbage")
        self._session.send("HeapProfiler.takeHeapSnapshot")
        snapshot = json.loads("".join(self._chunks))
        meta = snapshot["snapshot"]["meta"]
        fields, names = meta["node_fields"], meta["node_types"][0]
        nodes = np.array(snapshot["nodes"], np.int64).reshape(-1, len(fields))
        sizes = np.bincount(nodes[:, fields.index("type")], nodes[:, fields.index("self_size")], len(names))
        return int(sum(size for name, size in zip(names, sizes, strict=True) if name not in NOT_OURS))

    def elements(self) -> dict[str, int]:
        """How many nodes and listeners there are, in the page or only held by a script, once garbage is gone."""
        self._session.send("HeapProfiler.collectGarbage")
        counted = self._session.send("Memory.getDOMCounters")
        return {"page nodes": int(counted["nodes"]), "page listeners": int(counted["jsEventListeners"])}

    def worker_bytes(self, kind: str) -> int:
        """What a worker's JavaScript heap holds, code and all: a snapshot takes long, and who is silent is ended."""
        for _ in range(3):  # what the first one frees may have held more
            self._ask(kind, "HeapProfiler.collectGarbage")
        return int(self._ask(kind, "Runtime.getHeapUsage")["usedSize"])

    def measure(self, *kinds: str) -> dict[str, int]:
        """Return everything by name for these of "page", "train" and "chat"."""
        found = {}
        for kind in kinds:
            if kind != "page":
                worker = [one for one in self._lab.page.workers if f"kind={kind}" in one.url][-1]
                python = json.loads(worker.evaluate(f"() => loraLabPython.runPython({json.dumps(OF_PYTHON)})"))
                found |= {f"{kind} {name}": value for name, value in python.items()}
                found[f"{kind} WebAssembly bytes"] = worker.evaluate("() => loraLabPython._module.HEAPU8.length")
            found[f"{kind} JavaScript bytes"] = self.page_bytes() if kind == "page" else self.worker_bytes(kind)
            if kind == "page":
                found |= self.elements()
        return found

