"""The benchmark's page: it measures at tiny shapes, shows its rows and gives them as JSON."""

from __future__ import annotations

import json

from playwright.sync_api import BrowserContext

from bench.rows import cells, check_result

START_MS = 240_000


def test_the_page_measures_and_gives_its_results(context: BrowserContext, site_url: str) -> None:
    page = context.new_page()
    errors: list[str] = []
    page.on("console", lambda message: message.type == "error" and errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{site_url}bench/?tiny")
    page.get_by_test_id("bench-start").click()
    ended = page.locator("[data-testid=bench-status]:is([data-state=done], [data-state=failed])")
    ended.wait_for(timeout=START_MS)
    assert ended.inner_text() == "Done.", errors
    with page.expect_download() as download:
        page.get_by_test_id("bench-download").click()
    result = json.loads(download.value.path().read_text())
    assert check_result(result) == []
    assert download.value.suggested_filename.startswith(result["date"])
    shown = page.get_by_test_id("bench-table").locator("tbody tr").all_inner_texts()
    assert len(shown) == len(result["rows"]) > 20
    name, value, *_ = cells(result["rows"][-1])
    assert shown[-1].split("\t")[:2] == [name, value]
    assert errors == []
