"""docs/settings.md and the page's fields are what the table of settings gives."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest

from build_tools.settings_docs import PAGE, docs_page
from build_tools.site import Site, _add_pages
from lora_lab.setting_schema import Setting
from lora_lab.settings import SAMPLING, STRENGTH, TRAINING


def test_the_committed_page_is_the_one_that_the_table_gives() -> None:
    assert PAGE.read_text(encoding="utf-8") == docs_page(), "run `python3 build.py settings-docs`"


def test_every_setting_and_every_warning_is_told() -> None:
    text = docs_page()
    for setting in (*TRAINING, *SAMPLING, STRENGTH):
        assert f"| {setting.label}" in text
        assert setting.option is None or f"`{setting.option}`" in text
    assert text.count("\n- ") == sum(len(setting.cautions) for setting in TRAINING)
    assert "{" not in text and " inf" not in text


class _Fields(HTMLParser):
    """The attributes of every field by its id, and by the id of a label its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fields: list[dict[str, Any]] = []
        self.labels: dict[str, str] = {}
        self.options: dict[str, list[str]] = {}
        self._label = self._select = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag in ("input", "select") and found.get("name"):
            self.fields.append(found)
        if tag == "select":
            self._select = found.get("name") or ""
        if tag == "option":
            self.options.setdefault(self._select, []).append(found.get("value") or "")
        if tag == "label":
            self._label = found.get("for") or ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "label":
            self._label = ""

    def handle_data(self, data: str) -> None:
        if self._label:
            self.labels[self._label] = self.labels.get(self._label, "") + data


@pytest.fixture(scope="module")
def page() -> _Fields:
    site = Site()
    _add_pages(site)
    html = site.files["index.html"]
    assert isinstance(html, bytes)
    return _Fields(html.decode())


@pytest.mark.parametrize("setting", [one for one in (*TRAINING, *SAMPLING) if one.on_page], ids=lambda one: one.name)
def test_the_page_has_a_field_as_the_table_says(page: _Fields, setting: Setting) -> None:
    prefix = "chat-" if setting in SAMPLING else "set-"
    found = [
        one for one in page.fields if one["name"] == setting.form_name and one.get("id", "set-").startswith(prefix)
    ]
    if setting.kind is tuple:
        assert [one["value"] for one in found if "checked" in one] == list(setting.default)
        return
    (field,) = found
    if setting.kind is bool:
        assert ("checked" in field) is setting.default
        return
    assert page.labels[field["id"]] == f"{setting.label} {setting.term}".strip()
    if setting.kind is str:
        assert page.options[setting.name] == list(setting.values)
        return
    assert field.get("value", "") == setting.shown(setting.first)
    assert field.get("placeholder", "") == setting.empty
    assert ("data-may-be-empty" in field) is bool(setting.empty)
    if field["type"] == "number":
        bounds = setting.form_bounds
        assert (field.get("min", ""), field.get("max", "")) == (setting.shown(bounds.least), setting.shown(bounds.most))
        assert field["step"] == ("1" if setting.kind is int else "any")
