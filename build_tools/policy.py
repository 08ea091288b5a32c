"""What the site's pages and workers may do: the Content-Security-Policy, and the headers for hosts that send them.

The policy stands in a <meta> of each page, so that it holds on any host; app/web/link/begin.ts starts the workers so
that they inherit it. `_headers`, which several hosts of static sites read, sends it with every file besides.
"""

from __future__ import annotations

from build_tools.hub import HubSite

SERVICE_WORKER = "sw.js"  # at the top of the site: what it answers for is what lies below its own address

# Features of a browser that the page has no use for. WebGPU, storage and the clipboard are not among them.
UNUSED_FEATURES = (
    "accelerometer", "bluetooth", "camera", "display-capture", "geolocation", "gyroscope", "hid", "magnetometer",
    "microphone", "midi", "payment", "publickey-credentials-get", "serial", "usb", "xr-spatial-tracking",
)  # fmt: skip


def page_policy(hub: HubSite | None) -> str:
    """Return the policy of the pages. Requests may go to the site itself and to the hub's hosts if it has one."""
    hosts = hub.context()["origins"] if hub else []
    return "; ".join(
        [
            "default-src 'none'",
            "script-src 'self' 'wasm-unsafe-eval'",
            # 'self' is for the service worker, and for Firefox, which holds what a worker imports against this. One of
            # our workers started by its address would have no policy where the host sends none: Trusted Types keep
            # that from happening (app/web/begin.js, app/web/worker/worker.js).
            "worker-src 'self' blob:",
            "manifest-src 'self'",
            " ".join(["connect-src 'self'", *hosts]),
            "style-src 'self'",
            "font-src 'self'",
            "img-src 'self' data: blob:",
            "base-uri 'none'",
            "form-action 'none'",
            # What becomes markup comes from DOMPurify, the address of a worker from app/web/link/begin.ts.
            "require-trusted-types-for 'script'",
            "trusted-types lora-lab dompurify",
        ]
    )


def site_headers(hub: HubSite | None) -> dict[str, str]:
    """Return the headers of every file of the site: the policy again, and what a <meta> cannot say.

    No Cross-Origin-Embedder-Policy: nothing here shares memory between threads, which is what it is for.
    """
    return {
        "Content-Security-Policy": f"{page_policy(hub)}; frame-ancestors 'none'",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": ", ".join(f"{name}=()" for name in UNUSED_FEATURES),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


def headers_file(hub: HubSite | None) -> bytes:
    """Return the file `_headers`: a block for every address of the site, and one for what must not be a stale copy."""
    blocks = {"/*": site_headers(hub), f"/{SERVICE_WORKER}": {"Cache-Control": "no-cache"}}
    lines: list[str] = []
    for where, headers in blocks.items():
        lines += [where, *(f"  {name}: {value}" for name, value in headers.items())]
    return "\n".join([*lines, ""]).encode()


def read_headers(text: str, name: str) -> list[tuple[str, str]]:
    """Return what a `_headers` file of ours says of the site's file `name`."""
    found: list[tuple[str, str]] = []
    applies = False
    for line in text.splitlines():
        if line.startswith("/"):
            applies = line in ("/*", f"/{name}")
            continue
        header, colon, value = line.strip().partition(": ")
        if applies and colon:
            found.append((header, value))
    return found
