"""What lets the site be kept and installed: the service worker with its list of files, and the web manifest."""

from __future__ import annotations

import json
from pathlib import Path

from build_tools.base import ROOT, FileHashes, hash_bytes

WORKER_SOURCE = ROOT / "app" / "web" / "offline" / "service_worker.js"
MANIFEST = "site.webmanifest"
# (file below app/web/, its width and height, what for); build_tools/icons.py draws them
ICONS = (
    ("icons/any-192.png", 192, "any"),
    ("icons/any-512.png", 512, "any"),
    ("icons/maskable-512.png", 512, "maskable"),
)
TOUCH_ICON = ("icons/touch-180.png", 180)
PAPER = "#f6f5f0"  # app/web/style.css


def service_worker(
    files: dict[str, bytes | Path], models: dict, headers: dict[str, str], hashes: FileHashes
) -> bytes:
    """Return the service worker: its source behind the list of what it keeps.

    `files` are the site's that it keeps, `models` what models/index.json says, `headers` what it sends with pages and
    workers. A change of any file changes it, which is how browsers learn of an update.
    """
    site = {
        "files": {name: _mark(content, hashes) for name, content in sorted(files.items())},
        "models": {
            model_id: {f"models/{file['path']}": [file["sha256"], file["size_bytes"]] for file in about["files"]}
            for model_id, about in models["models"].items()
        },
        "headers": headers,
    }
    return f"const SITE = {json.dumps(site, indent=1, sort_keys=True)};\n\n".encode() + WORKER_SOURCE.read_bytes()


def _mark(content: bytes | Path, hashes: FileHashes) -> list[str | int]:
    if isinstance(content, bytes):
        return [hash_bytes(content), len(content)]
    return [hashes.sha256(content), content.stat().st_size]


def web_manifest() -> bytes:
    """Return the manifest by which a browser installs the page as an application. Every address in it is relative."""
    about = {
        "name": "LoRA Lab",
        "short_name": "LoRA Lab",
        "description": "Fine-tune a language model on your own GPU, in the browser.",
        "lang": "en",
        "start_url": "./",
        "scope": "./",
        "display": "standalone",
        "background_color": PAPER,
        "theme_color": PAPER,
        "icons": [
            {"src": f"assets/{name}", "sizes": f"{size}x{size}", "type": "image/png", "purpose": purpose}
            for name, size, purpose in ICONS
        ],
    }
    return (json.dumps(about, indent=1) + "\n").encode()
