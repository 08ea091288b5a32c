"""Names of models on the hub, as people write them: `hf:OWNER/NAME[@REVISION][:FILE]`, or the address of a page there.

Nothing here asks the hub. What it answers is read in hub.py; what is said when it refuses stands in hub_words.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote, urlsplit

from ..errors import HubError

SCHEME = "hf:"
HUB = "https://huggingface.co"
HUB_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
MAIN = "main"

WANTED = "wanted hf:OWNER/NAME, hf:OWNER/NAME:FILE, or the address of a model's page on huggingface.co"

# What the hub allows in the two parts of a name, each of 96 characters at most.
_PART = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?\Z")
# A branch, a tag or a commit. Git allows a slash; refs/pr/1 is a pull request's.
_REVISION = re.compile(r"(?!.*(?:\.\.|//|/\Z))[A-Za-z0-9_][A-Za-z0-9_.+/-]{0,199}\Z")
_ADDRESS = re.compile(rf"(?:https?://)?(?:{'|'.join(map(re.escape, HUB_HOSTS))})(?:/|\Z)", re.IGNORECASE)
_PAGE = re.compile(r"(?P<page>blob|resolve|raw|tree)/(?P<revision>refs/(?:pr|convert)/[^/]+|[^/]+)(?:/(?P<file>.+))?\Z")


@dataclass(frozen=True)
class HubName:
    """A model on the hub: its repository, perhaps one file (or form, see `choose_model`) in it, and which revision."""

    repository: str  # OWNER/NAME
    file: str | None = None
    revision: str = MAIN

    def __str__(self) -> str:
        revision = "" if self.revision == MAIN else f"@{self.revision}"
        return f"{SCHEME}{self.repository}{revision}{f':{self.file}' if self.file else ''}"

    @property
    def api_path(self) -> str:
        """The path, on the hub's host, of what the repository holds: sizes and hashes too."""
        revision = "" if self.revision == MAIN else f"/revision/{quote(self.revision, safe='')}"
        return f"/api/models/{self.repository}{revision}?blobs=true"


def is_hub_name(text: str) -> bool:
    """Return whether a text is meant as a name on the hub, right or wrong, and not as a path on this machine.

    OWNER/NAME alone may be either; whoever asks has looked for such a path first, or has no paths.
    """
    return text.startswith(SCHEME) or bool(_ADDRESS.match(text))


def file_path(repository: str, revision: str, file: str) -> str:
    """Return the path, on the hub's host, of one file; it answers with a redirect to where the bytes are."""
    return f"/{repository}/resolve/{quote(revision, safe='')}/{quote(file)}"


def parse_hub_name(text: str) -> HubName:
    """Read hf:OWNER/NAME[@REVISION][:FILE], OWNER/NAME, or the address of a model's page or file on the hub.

    HubError (reason "name") says what was found in place of which part.
    """
    text = text.strip()
    if not text:
        raise HubError(f"no name; {WANTED}", "name")
    if _ADDRESS.match(text):
        return _from_address(text)
    rest = text.removeprefix(SCHEME)
    if rest.startswith("//"):
        raise HubError(f"{text}: hf:// is not read; {WANTED}", "name")
    if "://" in rest:
        raise HubError(f"{text} is not an address on {HUB_HOSTS[0]}; {WANTED}", "name")
    rest, colon, file = rest.partition(":")
    repository, at, revision = rest.partition("@")
    if colon and not file:
        raise HubError(f"{text}: nothing stands after the colon; {WANTED}", "name")
    if at and not revision:
        raise HubError(f"{text}: nothing stands after the @; wanted a branch, a tag or a commit", "name")
    return _checked(text, repository.split("/"), revision or MAIN, file or None)


def _from_address(text: str) -> HubName:
    address = urlsplit(text if "://" in text else f"https://{text}")
    path = [unquote(part) for part in address.path.strip("/").split("/")]
    if path[0] in ("datasets", "spaces", "papers", "collections", "docs", "api", "models"):
        raise HubError(f"{text} is under {path[0]}/ and no model's page; {WANTED}", "name")
    # The hub's page of a repository names the GGUF file that is looked at in this way.
    shown = parse_qs(address.query).get("show_file_info", [None])[0]
    if len(path) <= 2:
        return _checked(text, path, MAIN, shown)
    page = _PAGE.match("/".join(path[2:]))
    if page is None:
        raise HubError(f"{text} is another page than a model's, its list of files' or a file's; {WANTED}", "name")
    if page["page"] == "tree" and page["file"]:
        raise HubError(f"{text} is a folder's address; wanted a model's or a file's", "name")
    return _checked(text, path[:2], page["revision"], page["file"] or shown)


def _checked(text: str, parts: list[str], revision: str, file: str | None) -> HubName:
    if len(parts) != 2:
        raise HubError(f"{text}: {'/'.join(parts) or 'nothing'} is no OWNER/NAME; {WANTED}", "name")
    for part, what in zip(parts, ("an owner", "a model"), strict=True):
        if not _PART.match(part):
            found = repr(part) if part else "nothing"
            raise HubError(
                f"{text}: {found} is no name of {what}; wanted letters, digits, . _ and -, at most 96 of them", "name"
            )
    if not _REVISION.match(revision):
        raise HubError(f"{text}: {revision!r} is no revision; wanted a branch, a tag or a commit", "name")
    if file is not None and (problem := path_problem(file)):
        raise HubError(f"{text}: the file's path {problem}", "name")
    return HubName("/".join(parts), file, revision)


def path_problem(path: str) -> str | None:
    """Return what is wrong with a file's path in a repository, None where it stays inside the folder it goes into."""
    if not path or len(path) > 1000:
        return f"has {len(path)} characters; wanted 1 to 1,000"
    if not path.isprintable():
        return f"{path[:80]!r} holds characters that cannot be printed"
    if "\\" in path or path.startswith("/") or re.match(r"[A-Za-z]:", path):
        return f"{path[:80]!r} is not relative, with / between folders"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return f"{path[:80]!r} leaves its folder; wanted names between the /"
    return None
