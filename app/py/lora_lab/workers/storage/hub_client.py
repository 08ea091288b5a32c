"""Requests to the hub, in the worker: what a repository holds, and parts of its files. Nothing is kept here.

The browser's fetch in place of npm's `@huggingface/hub`: that package's downloads to a cache work under Node only.
Ours are resumed, checked and stored (downloads.py), and what is left are two addresses.
"""

from __future__ import annotations

from typing import Any

from lora_lab.errors import HubError, LoraLabError
from lora_lab.formats.byte_source import check_range
from lora_lab.formats.hub import HubFile, HubName, HubRepository, file_path, read_repository
from lora_lab.formats.hub_words import answer_error, offline
from lora_lab.formats.json_reader import JsonError, read_json
from lora_lab.javascript import JsError, call
from lora_lab.workers.storage.downloads import WantedFile, error_headers

MAX_LISTING_BYTES = 64 << 20
MAX_WHOLE_BYTES = 64 << 20  # of a file that comes whole where a part of it was asked for: small ones on the hub do


async def ask_repository(hub: str, name: HubName) -> HubRepository:
    """Ask the hub what a repository holds. HubError says why that cannot be had."""
    response = await _fetch(hub, name.api_path)
    if not response.ok:
        raise answer_error(name, int(response.status), *error_headers(response), in_page=True)
    text = (await _body(hub, response)).tobytes()
    if len(text) > MAX_LISTING_BYTES:
        raise HubError(f"the hub's answer about {name.repository} has {len(text):,} bytes; that is no list", "answer")
    try:
        answer = read_json(text)
    except JsonError:
        answer = None
    return read_repository(answer, name.repository)


def hub_answer(repository: str, revision: str) -> Any:
    """Return what words an answer to a request for a file of this repository, for FileCache.obtain."""

    def answer(file: WantedFile, status: int, code: str | None, message: str | None) -> LoraLabError:
        return answer_error(HubName(repository, file.path, revision), status, code, message, in_page=True)

    return answer


class HubSource:
    """A file on the hub, read range by range: only the parts asked for come. HubError where they cannot be had.

    Its size is the one that the hub has listed, and its revision a commit, so that all parts are of one file.
    """

    def __init__(self, hub: str, repository: HubRepository, file: HubFile) -> None:
        self.name = f"{repository.name.split('/')[1]}/{file.path}"
        self.size_bytes = file.size_bytes
        self._hub, self._file = hub, HubName(repository.name, file.path, repository.revision)
        self._whole: memoryview | None = None

    async def read(self, offset: int, length: int) -> memoryview:
        check_range(self, offset, length)
        if self._whole is None and length:
            assert self._file.file is not None
            path = file_path(self._file.repository, self._file.revision, self._file.file)
            # No other header: a request to another origin is not preceded by one that asks for leave then.
            response = await _fetch(self._hub, path, {"Range": f"bytes={offset}-{offset + length - 1}"})
            if not response.ok:
                raise answer_error(self._file, int(response.status), *error_headers(response), in_page=True)
            if response.status == 206:
                return self._of_length(await _body(self._hub, response), length)
            if self.size_bytes > MAX_WHOLE_BYTES:
                await call(response.body, "cancel")
                raise HubError(f"{self.name}: the hub gives no parts of it, so it cannot be looked into", "server")
            self._whole = self._of_length(await _body(self._hub, response), self.size_bytes)
        return memoryview(b"") if self._whole is None else self._whole[offset : offset + length]

    def _of_length(self, view: memoryview, length: int) -> memoryview:
        if len(view) != length:
            raise HubError(f"{self.name}: got {len(view):,} bytes where {length:,} were asked for", "damaged")
        return view


async def _fetch(hub: str, path: str, headers: dict[str, str] | None = None) -> Any:
    import js
    from pyodide.ffi import to_js

    options = {"headers": headers or {}, "cache": "no-store", "referrerPolicy": "no-referrer", "credentials": "omit"}
    try:
        return await call(js, "fetch", hub + path, to_js(options, dict_converter=js.Object.fromEntries))
    except JsError as error:
        raise offline(_host(hub), str(error.message)) from error


async def _body(hub: str, response: Any) -> memoryview:
    try:
        view: memoryview = (await call(response, "arrayBuffer")).to_memoryview()
    except JsError as error:
        raise offline(_host(hub), str(error.message)) from error
    return view


def _host(hub: str) -> str:
    return hub.split("://", 1)[-1]
