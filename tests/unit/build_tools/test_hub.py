"""The hub in the site: what the page's policy lets through, what the dialog says, and a site without it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import build
from build_tools.base import BuildError
from build_tools.hub import HUGGING_FACE, HubSite, parse_hub
from build_tools.page import bundle_page
from build_tools.site import Site, _about, _add_pages


def page_of(hub: HubSite | None) -> str:
    """Return the site's page."""
    site = Site()
    _add_pages(site, hub)
    content = site.files["index.html"]
    assert isinstance(content, bytes)
    return content.decode()


def script_of(hub: HubSite | None) -> str:
    """Return the page's script, with the parts that are fetched later."""
    return b"".join(bundle_page(_about(Site(), hub)).files.values()).decode()


def allowed(page: str) -> list[str]:
    """Return where the page's policy lets requests go."""
    found = re.search(r"connect-src ([^;]*);", page)
    assert found is not None
    return found[1].split(" ")


def test_the_policy_lets_through_the_hub_s_hosts_and_no_others() -> None:
    page = page_of(HubSite())
    assert allowed(page) == ["'self'", "https://huggingface.co", "https://*.hf.co"]
    known = _about(Site(), HubSite())["hub"]  # what the dialog says
    assert (known["host"], known["file_hosts"]) == ("huggingface.co", "hosts under hf.co")
    assert len(known["starters"]) >= 5
    other = page_of(parse_hub(["http://127.0.0.1:9999/hub/", "http://127.0.0.1:9998"]))
    assert allowed(other) == ["'self'", "http://127.0.0.1:9999", "http://127.0.0.1:9998"]


def test_a_site_without_the_hub_names_none_of_it() -> None:
    page = page_of(None)
    assert allowed(page) == ["'self'"]
    script = script_of(None)
    assert "huggingface.co" not in page + script and "hf.co" not in page + script
    assert "huggingface.co" in page_of(HubSite()) and "huggingface.co" in script_of(HubSite())  # the control


def test_the_hub_is_an_option_of_the_build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    built: list[HubSite | None] = []
    monkeypatch.setattr("build_tools.site.build_site", lambda dist, **named: built.append(named["hub"]) or {})
    for options in ([], ["--no-hub"], ["--hub", "https://mirror.example/hf"]):
        build.build(build.parse_arguments(["build", "--out", str(tmp_path), *options])[0])
    assert built == [HubSite(), None, HubSite("https://mirror.example/hf", ())]
    with pytest.raises(SystemExit):
        build.parse_arguments(["build", "--no-hub", "--hub", HUGGING_FACE])


@pytest.mark.parametrize(
    "address",
    ["huggingface.co", "ftp://x.example", "https://x.example; script-src *", "https://x.example?a", 'https://x"'],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(BuildError, match="wanted an address"):
        parse_hub([address])
    with pytest.raises(BuildError, match="wanted an origin, without a path"):
        parse_hub([HUGGING_FACE, "https://storage.example/path"])
