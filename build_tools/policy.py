"""What the site's pages and workers may do: the Content-Security-Policy, and the headers for hosts that send them.

The policy stands in a <meta> of each page, so that it holds on any host; app/web/link/begin.ts starts the workers so
that they inherit it. `_headers`, which several hosts of static sites read, sends it with every file besides.
"""

from __future__ import annotations

from build_tools.hub import HubSite

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
            # Not 'self': a worker that is started by its address would have no policy where the host sends none. (Who
            # adds a service worker needs its address here, and has to see that nothing else can be started by one.)
            "worker-src blob:",
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
    """Return the file `_headers`: one block, for every address of the site."""
    lines = [f"  {name}: {value}" for name, value in site_headers(hub).items()]
    return "\n".join(["/*", *lines, ""]).encode()


def read_headers(text: str) -> list[tuple[str, str]]:
    """Return the headers in a `_headers` file of ours."""
    lines = [line.strip().partition(": ") for line in text.splitlines()[1:]]
    return [(name, value) for name, colon, value in lines if colon]
