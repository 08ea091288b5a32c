"""The worker's end of the wire: JavaScript messages in, events out. Needs Pyodide.

Together with storage/ this is all of the package that knows it is in a browser (besides the GPU
seam's browser half).
"""

from __future__ import annotations

import asyncio
import platform
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import lora_lab
from lora_lab.errors import LoraLabError
from lora_lab.javascript import JsError, call
from lora_lab.workers.protocol import Command, Event, NamedBlob, Ready
from lora_lab.workers.wire.codec import from_wire, to_wire
from lora_lab.workers.wire.dispatch import failure


class BrowserHost:
    """Posts events to the page from inside a Web Worker."""

    def post(self, event: Event) -> None:
        """Send an event; its bytes are moved to the page, not copied there."""
        import js
        from pyodide.ffi import to_js

        moved = js.Array.new()
        wire = _bytes_to_js(to_wire(event), moved)
        js.self.postMessage(to_js(wire, dict_converter=js.Object.fromEntries), moved)


def _bytes_to_js(value: Any, moved: Any) -> Any:
    """Replace every `bytes` by a JavaScript array of its own and add that array's buffer to the list `moved`."""
    from pyodide.ffi import to_js

    if isinstance(value, (bytes, bytearray)):
        array = to_js(value)
        moved.push(array.buffer)
        return array
    if isinstance(value, dict):
        return {key: _bytes_to_js(item, moved) for key, item in value.items()}
    if isinstance(value, list):
        return [_bytes_to_js(item, moved) for item in value]
    return value


class Worker(Protocol):
    """What answers the page."""

    async def begin(self) -> None:
        """Do what no command asks for; runs once, after Ready."""

    async def answer(self, command: Command) -> None:
        """Answer a command from the page. Never raises: what goes wrong is posted."""


async def serve(make_worker: Callable[[BrowserHost], Worker]) -> None:
    """Answer the page's commands for as long as the worker lives."""
    import js
    from pyodide.ffi import create_proxy

    host = BrowserHost()
    worker = make_worker(host)
    tasks: set[asyncio.Future[None]] = set()  # the loop holds tasks weakly: keep them alive until they are done

    def start(work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def on_message(event: Any) -> None:
        try:
            command = from_wire(event.data.to_py())
        except Exception as error:
            host.post(failure("worker", error))
            return
        start(worker.answer(command))

    js.self.onmessage = create_proxy(on_message)
    host.post(Ready(lora_lab.__version__, platform.python_version()))
    try:
        await worker.begin()
    except Exception as error:
        host.post(failure("worker", error))


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Tell the page how long the block took, as a part of its start (app/web/link/startup.ts); no browser, no word."""
    if sys.platform != "emscripten":
        yield
        return
    import js

    start = js.performance.now()
    yield
    if tell := getattr(js, "loraLabPhase", None):
        tell(name, start)


def site_url(path: str) -> str:
    """Return the address of a file of the site; `path` counts from the site's first page."""
    import js

    return str(js.URL.new(path, js.loraLabSite).href)


async def fetch_bytes(path: str) -> bytes:
    """Return a small file of the site. LoraLabError names the file when it cannot be had."""
    import js

    try:
        response = await call(js, "fetch", site_url(path))
        if not response.ok:
            raise LoraLabError(f"{path} could not be fetched: the server answered {response.status}.")
        data: bytes = (await call(response, "arrayBuffer")).to_bytes()
    except JsError as error:
        raise LoraLabError(
            f"{path} could not be fetched: {error}. Is the server that shows this page still there?"
        ) from error
    return data


async def blob_bytes(file: NamedBlob) -> bytes:
    """Return a file's whole content."""
    try:
        data: bytes = (await call(file.blob, "arrayBuffer")).to_bytes()
    except JsError as error:
        # The browser refuses when the file was changed or moved after it was chosen.
        raise LoraLabError(f"{file.name} could not be read: {error}. Choose it again.") from error
    return data
