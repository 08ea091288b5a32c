"""What is said when the hub does not give a model, each case its own sentence; and good small models to begin with.

Both hosts speak these sentences: the command line, where huggingface_hub asks, and the page, where fetch does.

`HubError.reason`, in one word:

    name      the name or address is not one
    gated     access is given by the owner, to those who accepted terms
    token     the hub does not know the token that was sent
    missing   no such repository, or a private one
    revision  no such branch, tag or commit
    file      no such file in it
    disabled  taken off the hub
    busy      too many requests from here
    server    the hub failed (5xx), or answered what nobody expects
    offline   no answer at all
    cut       a file's download ended early
    damaged   a file's size or sha256 is not what the hub states
    answer    what the hub said of the repository cannot be read
    choose    several models, and none was named
    refused   the model that was named is of a kind that is not read
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import HubError
from .hub_names import HUB, HubName


def size_words(size_bytes: int) -> str:
    """Return a size as the hub's pages write it: 386 MB, 1.32 GB."""
    if size_bytes >= 1e9:
        return f"{size_bytes / 1e9:,.2f} GB"
    return f"{size_bytes / 1e6:,.0f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:,.0f} kB"


def answer_error(
    name: HubName, status: int, code: str | None = None, message: str | None = None, *, in_page: bool = False
) -> HubError:
    """Return what an answer other than a success means.

    `code` and `message` are the headers x-error-code and x-error-message, where they could be read; `name.file` is the
    file that was asked for, None where the repository's list was.
    """
    repository, page = name.repository, f"{HUB}/{name.repository}"
    if code == "GatedRepo" or (code is None and status == 403):
        return HubError(_gated(repository, page, status, in_page), "gated")
    if code == "RevisionNotFound":
        return HubError(f"{repository} has no revision {name.revision}; wanted a branch, a tag or a commit", "revision")
    if code == "EntryNotFound" or (code is None and status == 404 and name.file is not None):
        return HubError(f"{repository} has no file {name.file} at revision {name.revision}; see {page}", "file")
    if message == "Access to this resource is disabled.":
        return HubError(f"{repository} has been disabled on the hub; its page may say why: {page}", "disabled")
    if status == 401 and message == "Invalid credentials in Authorization header":
        return HubError(f"the hub does not know the token that was sent with the request for {repository}", "token")
    if code == "RepoNotFound" or status in (401, 404):
        return HubError(
            f"{repository} is not on the hub, or it is private; check the name at {page}"
            + ("" if in_page else ", and that your token is set (HF_TOKEN, or `hf auth login`) if it is yours"),
            "missing",
        )
    if status == 429:
        return HubError(
            f"the hub takes no more requests from here for now (429); ask for {repository} in some minutes", "busy"
        )
    said = f" ({message})" if message else ""
    if status >= 500:
        return HubError(f"the hub failed with {status}{said} when asked for {repository}; try again later", "server")
    return HubError(f"the hub answered {status}{said} when asked for {repository}", "server")


def _gated(repository: str, page: str, status: int, in_page: bool) -> str:
    if status == 403 and not in_page:
        return (
            f"{repository} is gated, and your token has no access to it: accept its terms at {page}, and wait where "
            "its owner looks at each request"
        )
    start = f"{repository} is gated: its owner gives it to those who have accepted its terms, at {page}. "
    if in_page:
        return start + "This page sends no token: download it there and open its files here, or take an open copy"
    return start + "Accept them there, then say who you are: `hf auth login`, or a token in HF_TOKEN"


def renamed(asked: str, found: str) -> str | None:
    """Return what to tell where the hub answered with another repository than was asked for; None where it did not."""
    if asked == found:
        return None
    (owner, name), (new_owner, new_name) = asked.split("/"), found.split("/")
    if asked.lower() == found.lower():
        return f"{asked} is written {found} on the hub"
    if name == new_name:
        return f"{asked} has moved to {new_owner}: it is {found} now"
    return f"{asked} has been renamed: it is {found} now" + ("" if owner == new_owner else f", with {new_owner}")


def offline(host: str, detail: str = "") -> HubError:
    """Return what to say when nothing answers."""
    return HubError(f"{host} does not answer{f' ({detail})' if detail else ''}; is this machine online?", "offline")


def cut_off(file: str, done_bytes: int, size_bytes: int, *, kept: bool = True) -> HubError:
    """Return what to say when a download ended early, or stood still, and trying again did not help.

    `kept`: the next try goes on from there.
    """
    after = "what is there is kept, and the next try goes on from it" if kept else "try again"
    return HubError(f"{file}: the download ended after {done_bytes:,} of {size_bytes:,} bytes; {after}", "cut")


def wrong_size(file: str, found_bytes: int, wanted_bytes: int) -> HubError:
    """Return what to say of a file that is longer or shorter than stated."""
    return HubError(
        f"{file} has {found_bytes:,} bytes, the hub states {wanted_bytes:,}; it was thrown away, try again", "damaged"
    )


def wrong_hash(file: str, found: str, wanted: str) -> HubError:
    """Return what to say of a file whose bytes are not those stated."""
    return HubError(
        f"{file}: its sha256 is {found}, the hub states {wanted}; it was damaged on its way and thrown away, try again",
        "damaged",
    )


def bad_answer(repository: str, problem: str) -> HubError:
    """Return what to say when the hub's description of a repository is none."""
    return HubError(f"the hub's answer about {repository} cannot be read: {problem}", "answer")


@dataclass(frozen=True)
class Starter:
    """A good small model to begin with. Sizes and hashes are read from the hub when it is chosen."""

    repository: str
    file: str | None  # None: the repository holds one model
    word: str
    licence: str

    @property
    def name(self) -> HubName:
        return HubName(self.repository, self.file)


_GEMMA = "Gemma Terms of Use"

# None of them is gated; of Google's and Meta's, which are, the copies of those who made the GGUF files.
STARTERS = (
    Starter("HuggingFaceTB/SmolLM2-360M-Instruct", None, "the built-in model's larger sister", "Apache-2.0"),
    Starter("ggml-org/gemma-3-270m-it-GGUF", "gemma-3-270m-it-Q8_0.gguf", "small, and quick to train", _GEMMA),
    Starter("LiquidAI/LFM2-350M-GGUF", "LFM2-350M-Q4_K_M.gguf", "quick, made of convolutions", "LFM Open License 1.0"),
    Starter("Qwen/Qwen3-0.6B-GGUF", "Qwen3-0.6B-Q8_0.gguf", "many languages, thinks before it speaks", "Apache-2.0"),
    Starter("ggml-org/gemma-3-1b-it-GGUF", "gemma-3-1b-it-Q4_K_M.gguf", "writes well in many languages", _GEMMA),
    Starter(
        "bartowski/Llama-3.2-1B-Instruct-GGUF",
        "Llama-3.2-1B-Instruct-Q4_K_M.gguf",
        "known to many tools",
        "Llama 3.2 Community License",
    ),
    Starter("allenai/OLMo-2-0425-1B-Instruct", None, "open down to its training data", "Apache-2.0"),
    Starter(
        "ibm-granite/granite-3.3-2b-instruct-GGUF",
        "granite-3.3-2b-instruct-Q4_K_M.gguf",
        "for documents and tools",
        "Apache-2.0",
    ),
)
