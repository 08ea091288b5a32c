"""The policy in the site's pages and headers; what it does in a browser is tests/browser/test_policy.py's."""

from __future__ import annotations

import re
import threading
import urllib.request
from pathlib import Path

import pytest

from build_tools.base import ROOT
from build_tools.hub import HubSite
from build_tools.policy import headers_file, page_policy, read_headers, site_headers
from build_tools.server import SiteServer


def directives(policy: str) -> dict[str, list[str]]:
    return {words[0]: words[1:] for words in (part.split() for part in policy.split(";"))}


def scripts(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*") if path.suffix in (".js", ".ts", ".tsx"))


@pytest.mark.parametrize("hub", [None, HubSite()])
def test_nothing_is_allowed_but_what_is_named(hub: HubSite | None) -> None:
    found = directives(page_policy(hub))
    assert found["default-src"] == ["'none'"]
    assert found["script-src"] == ["'self'", "'wasm-unsafe-eval'"]
    assert found["worker-src"] == ["'self'", "blob:"]
    assert found["trusted-types"] == ["lora-lab", "dompurify"]  # what keeps a worker from being started by its address
    assert found["require-trusted-types-for"] == ["'script'"]
    assert found["connect-src"] == ["'self'", *(hub.context()["origins"] if hub else [])]
    everything = " ".join(page_policy(hub).split())
    assert "'unsafe-eval'" not in everything and "'unsafe-inline'" not in everything and " * " not in everything


def test_each_page_has_it(dist: Path) -> None:
    for name in ("index.html", "bench/index.html"):
        policies = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', (dist / name).read_text())
        assert policies == [page_policy(None)], name
        assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|<style|\sstyle=", (dist / name).read_text()), name


def test_every_worker_is_started_so_that_it_inherits_it() -> None:
    started: list[tuple[str, str]] = []
    for folder in ("app/web", "bench/page"):
        for path in scripts(folder):
            started += [(path.name, found) for found in re.findall(r"new Worker\(([^,]*)", path.read_text())]
    assert [name for name, _ in started] == ["begin.ts", "page.js"]
    assert all(re.match(r"addresses(\(\))?\.createScriptURL\(", argument) for _, argument in started)


def test_no_worker_can_call_an_address_trusted() -> None:
    """Every name that the policy allows is taken, in the page by what uses it, in a worker by the worker itself."""
    worker = (ROOT / "app/web/worker/worker.js").read_text()
    taken = re.search(r"for \(const name of (\[.*\])\) self\.trustedTypes\?\.createPolicy\(name, \{\}\);", worker)
    assert taken is not None
    assert re.findall(r'"([^"]+)"', taken[1]) == directives(page_policy(None))["trusted-types"]


def test_markup_comes_from_dompurify_alone() -> None:
    sinks = re.compile(r"(?i:innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment)\b.*")
    found = [sink for path in scripts("app/web") for sink in sinks.findall(path.read_text())]
    assert found == ["innerHTML = DOMPurify.sanitize(html, ALLOWED);"]


def test_hosts_that_take_headers_get_the_same_and_more(dist: Path) -> None:
    text = (dist / "_headers").read_text()
    written = dict(read_headers(text, "index.html"))
    assert written == site_headers(None)
    assert dict(read_headers(text, "sw.js")) == {**site_headers(None), "Cache-Control": "no-cache"}
    assert written["Content-Security-Policy"] == f"{page_policy(None)}; frame-ancestors 'none'"
    assert headers_file(HubSite()) != headers_file(None)
    for line in headers_file(HubSite()).decode().splitlines():
        assert re.fullmatch(r"/\S+|  [A-Z][\w-]+: \S.*", line)
        assert len(line) < 2000  # what the hosts allow


@pytest.mark.parametrize("with_headers", [True, False])
def test_the_project_s_own_server_can_send_them(dist: Path, with_headers: bool) -> None:
    with SiteServer(dist, port=0, with_headers=with_headers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name in ("index.html", "assets/worker/worker.js", "sw.js"):
            with urllib.request.urlopen(server.url + name) as response:
                assert response.headers.get_all("Cache-Control") == ["no-cache"]
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                assert (response.headers["Content-Security-Policy"] is not None) is with_headers
        server.shutdown()
