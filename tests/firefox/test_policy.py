"""The policy holds in Firefox's workers too: what tests/browser/test_policy.py tries in Chromium's, tried in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, Page

from tests.browser.elsewhere import Elsewhere, elsewhere
from tests.browser.lab import Lab
from tests.browser.published import published

ATTEMPTS = (Path(__file__).parents[1] / "browser" / "attempts.js").read_text(encoding="utf-8")
# Nothing can be run inside a worker from outside here: each of them tries when it is told to.
LISTEN = f"""
const attempts = {ATTEMPTS.strip()};
const told = new BroadcastChannel("attempts");
told.onmessage = async ({{ data }}) => {{
  if (data.kind !== new URL(import.meta.url).searchParams.get("kind")) return;
  told.postMessage({{ found: await attempts(data.given) }});
}};
"""
ASK = """([kind, given]) => new Promise((resolve) => {
  const channel = new BroadcastChannel("attempts");
  channel.onmessage = ({ data }) => data.found && resolve(data.found);
  channel.postMessage({ kind, given });
})"""


def attempts_in(page: Page, kind: str, other: Elsewhere, own: str) -> dict[str, str]:
    found: dict[str, Any] = page.evaluate(ASK, [kind, [other.url, own]])
    return found


def test_our_workers_are_refused_all_of_it(context: BrowserContext, site_folder: Path, tmp_path: Path) -> None:
    with published(site_folder, tmp_path / "site") as site, elsewhere() as other:
        worker = "assets/worker/worker.js"
        site.write(worker, LISTEN.encode() + (site.folder / worker).read_bytes())
        lab = Lab(context, site.url + "?model=tiny")
        lab.wait_for_model()
        for kind in ("train", "chat"):
            found = attempts_in(lab.page, kind, other, site.url)
            assert found.pop("fetch of the site itself") == "done"
            assert len(found) == 16
            assert {name: what for name, what in found.items() if not what.startswith("refused: ")} == {}, kind
        assert other.asked == []


def test_a_worker_without_a_policy_does_all_of_it(context: BrowserContext) -> None:
    """The control."""
    with elsewhere() as other:
        page = context.new_page()
        page.goto(other.url)
        found = page.evaluate(
            """([text, given]) => new Promise((resolve) => {
              const body = `(${text})(${JSON.stringify(given)}).then((found) => postMessage(found));`;
              window.kept = new Worker(URL.createObjectURL(new Blob([body])));
              window.kept.onmessage = ({ data }) => resolve(data);
            })""",
            [ATTEMPTS.strip(), [other.url, other.url]],
        )
    assert {name for name, what in found.items() if what != "done"} == {"a worker by its address"}
