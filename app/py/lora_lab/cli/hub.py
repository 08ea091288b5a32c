"""A model by its name on the hub, by way of huggingface_hub: cache, token and HF_ENDPOINT are the person's own.

huggingface_hub keeps the files, goes on where a connection broke, and looks at sizes; the sha256 that the hub states is
looked at here. The answer that says what a repository holds is kept too, so that what is there opens without a network.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lora_lab import __version__
from lora_lab.cli.files import cache_folder, file_sha256, replacing
from lora_lab.cli.interrupt import interrupts
from lora_lab.cli.terminal import say
from lora_lab.errors import HubError
from lora_lab.formats import hub_words
from lora_lab.formats.byte_source import FileSource
from lora_lab.formats.hub import HubFile, HubModel, HubName, HubRepository, choose_model, read_repository, size_words
from lora_lab.formats.json_reader import JsonError, read_json

# Nothing is asked of the hub but the model: no list of agents' names, no word of what is installed here.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# One way to fetch, which Ctrl-C ends and tests see break and go on; set it to 0 for Hugging Face's faster one.
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")

TIMEOUT_S = 20.0


def fetch_hub_model(name: HubName) -> tuple[list[FileSource], str]:
    """Return the files of a model, from the cache or fetched, and what an adapter trained on it names as its base.

    HubError: each failure in its own sentence (formats/hub_words.py).
    """
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # its lines on each new try hold signed addresses of a thousand characters
    repository = _ask(name)
    if note := hub_words.renamed(name.repository, repository.name):
        say(f"Note: {note}")
    model = choose_model(repository, name.file)
    _tell(repository, model)
    folder = repository.name.split("/")[1]
    sources = []
    for file in model.files:
        path = _fetch(HubName(repository.name, file.path, repository.revision), file)
        sources.append(FileSource(path, f"{folder}/{file.path.rsplit('/', 1)[-1]}"))
    return sources, repository.peft_base(model)


def _tell(repository: HubRepository, model: HubModel) -> None:
    parts = [model.title, model.form, size_words(model.size_bytes), f"licence {repository.licence or 'not stated'}"]
    say(f"{repository.name} at {repository.revision[:8]}: {', '.join(part for part in parts if part)}")


def _ask(name: HubName) -> HubRepository:
    """Return what the hub says of a repository; what it said the last time, where it cannot be reached."""
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_backoff

    kept = cache_folder() / "hub" / f"{name.repository}@{name.revision}.json".replace("/", "--")
    headers = build_hf_headers(library_name="lora-lab", library_version=__version__)
    try:
        with telling(HubName(name.repository, None, name.revision)):
            url = f"{constants.ENDPOINT}{name.api_path}"
            response = http_backoff("GET", url, headers=headers, timeout=TIMEOUT_S, max_retries=1)
            hf_raise_for_status(response)
            text = response.text
    except HubError as error:
        if error.reason == "offline":
            with suppress(OSError, ValueError, HubError):  # nothing kept, or nothing that is of use
                repository = read_repository(read_json(kept.read_bytes()), name.repository)
                say(f"Note: {error} Going on with what was fetched before.")
                return repository
        raise
    try:
        answer = read_json(text)
    except JsonError as error:
        raise hub_words.bad_answer(name.repository, "it is not JSON") from error
    repository = read_repository(answer, name.repository)
    kept.parent.mkdir(exist_ok=True)
    with replacing(kept) as out:
        out.write(text.encode())
    return repository


def _fetch(name: HubName, file: HubFile) -> Path:
    """Return the path of a file in huggingface_hub's cache, where its size and its sha256 are those stated."""
    from huggingface_hub import hf_hub_download

    begun, done = False, 0

    class Bar(tqdm):
        """huggingface_hub's bar as ours are: on a terminal only; Ctrl-C ends the download where it is told of."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            nonlocal begun
            begun, quiet = True, not sys.stderr.isatty()
            super().__init__(*arguments, **{**options, "file": sys.stderr, "disable": quiet, "leave": False})

        def update(self, n: float | None = 1) -> bool | None:
            nonlocal done
            interrupts.check()
            done += int(n or 0)
            return super().update(n)

    try:
        # Within it the first Ctrl-C ends nothing by itself: huggingface_hub shall remove what it has begun.
        with interrupts.acting(lambda: None), telling(name):
            found = hf_hub_download(name.repository, file.path, revision=name.revision, tqdm_class=Bar)
    except HubError as error:
        interrupts.check()
        if error.reason == "offline" and begun:
            raise hub_words.cut_off(file.path, done, file.size_bytes, kept=False) from error
        raise
    path = Path(found)
    size = path.stat().st_size
    if size != file.size_bytes:
        _throw_away(path)
        raise hub_words.wrong_size(file.path, size, file.size_bytes)
    if file.sha256 is not None and (sha256 := _known_sha256(path)) != file.sha256:
        _throw_away(path)
        raise hub_words.wrong_hash(file.path, sha256, file.sha256)
    return path


def _throw_away(path: Path) -> None:
    """Remove a file from the cache: the name in the snapshot, and the bytes that it points to."""
    content = path.resolve()
    path.unlink()
    content.unlink(missing_ok=True)


def _known_sha256(path: Path) -> str:
    """Return a file's sha256, remembered by size and time of change: gigabytes are not read again for each command."""
    store = cache_folder() / "hub" / "sha256.json"
    known: dict[str, list[Any]] = {}
    with suppress(OSError, ValueError):
        known = read_json(store.read_bytes())
    content = path.resolve()
    stat = content.stat()
    entry = known.get(str(content))
    if not isinstance(entry, list) or entry[:2] != [stat.st_size, stat.st_mtime_ns] or len(entry) != 3:
        say(f"Checking the sha256 of {path.name}")
        entry = [stat.st_size, stat.st_mtime_ns, file_sha256(content)]
        known = {name: value for name, value in known.items() if Path(name).exists()}
        store.parent.mkdir(exist_ok=True)
        with replacing(store) as out:
            out.write(json.dumps({**known, str(content): entry}).encode())
    return str(entry[2])


@contextmanager
def telling(name: HubName) -> Iterator[None]:
    """Say in our sentences what huggingface_hub raises, whatever it has wrapped it in."""
    import httpx2
    from huggingface_hub import constants
    from huggingface_hub.errors import FileMetadataError, HfHubHTTPError, OfflineModeIsEnabled

    host = constants.ENDPOINT.split("://")[-1]
    try:
        yield
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        causes = list(_causes(error))
        for cause in causes:
            if isinstance(cause, HfHubHTTPError):
                headers = cause.response.headers
                code, message = headers.get("X-Error-Code"), headers.get("X-Error-Message")
                raise hub_words.answer_error(name, cause.response.status_code, code, message) from error
        for cause in causes:
            if isinstance(cause, OfflineModeIsEnabled):
                raise hub_words.offline(host, "HF_HUB_OFFLINE is set") from error
            if isinstance(cause, httpx2.HTTPError | httpx2.InvalidURL):
                raise hub_words.offline(host, str(cause) or type(cause).__name__) from error
            if isinstance(cause, FileMetadataError):
                raise HubError(f"{host} does not answer as the hub does: {cause}", "server") from error
        if isinstance(error, OSError) and error.errno is None:  # a length that is not the one stated
            raise HubError(f"{name.file}: {str(error).splitlines()[0]}", "damaged") from error
        raise  # this machine's own: no space, no permission


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
