"""The hub that the page may fetch models from: its address, and the origins that its answers lead to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from build_tools.base import BuildError, program_module

HUGGING_FACE = "https://huggingface.co"
# Large files come from hosts below this one, which change: cdn-lfs.hf.co, cas-bridge.xethub.hf.co, us.aws.cdn.hf.co, …
# A policy holds for what a redirect leads to as well. All of them are Hugging Face's own.
HUGGING_FACE_FILES = "https://*.hf.co"


@dataclass(frozen=True)
class HubSite:
    """Where the hub is. `file_origins` are those besides its own that it sends to for files."""

    url: str = HUGGING_FACE
    file_origins: tuple[str, ...] = (HUGGING_FACE_FILES,)

    def context(self) -> dict[str, Any]:
        """Return what the page's templates need to know of it."""
        hosts = [origin.split("://")[1] for origin in self.file_origins]
        return {
            "host": urlsplit(self.url).netloc,
            "file_hosts": " and ".join(f"hosts under {host[2:]}" if host.startswith("*.") else host for host in hosts),
            "origins": [_origin(self.url), *self.file_origins],
            "starters": program_module("formats.hub_words").STARTERS,
        }


def parse_hub(addresses: list[str] | None) -> HubSite:
    """Return the hub of `--hub URL [ORIGIN ...]`; None: Hugging Face. BuildError for what is no address."""
    if not addresses:
        return HubSite()
    url, *origins = addresses
    for address in addresses:
        parts = urlsplit(address)
        is_plain = parts.scheme in ("http", "https") and parts.netloc and not (parts.query or parts.fragment)
        # What would end the policy's list of hosts, or the attribute that it stands in.
        if not is_plain or any(character in address for character in " ;,'\"<>"):
            raise BuildError(f"--hub {address}: wanted an address such as {HUGGING_FACE}")
    for origin in origins:
        if origin.rstrip("/") != _origin(origin):
            raise BuildError(f"--hub {origin}: wanted an origin, without a path, such as https://storage.example.org")
    return HubSite(url.rstrip("/"), tuple(_origin(origin) for origin in origins))


def _origin(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"
