"""The page with workers that say what a test wants (scripted_worker.js): what it shows, whatever a model would say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, Locator, expect

from tests.browser.lab import START_MS, Lab

WORKER = Path(__file__).with_name("scripted_worker.js")


class ScriptedLab(Lab):
    """The page with a model that says what it is told to."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        context.route("**/worker/worker.js*", lambda route: route.fulfill(path=WORKER, content_type="text/javascript"))
        super().__init__(context, url)
        expect(self.part("chat-send")).to_be_enabled(timeout=START_MS)

    def says(self, *answers: Any, dropped: int = 0) -> None:
        """Set the replies to come."""
        self.worker("chat").evaluate(
            "([answers, dropped]) => Object.assign(self, { answers, dropped })", [list(answers), dropped]
        )

    def halt(self, is_held: bool = True) -> None:
        """Have replies wait after their next piece."""
        self.worker("chat").evaluate("(held) => { self.held = held; }", is_held)

    def worker(self, kind: str) -> Any:
        return next(worker for worker in self.page.workers if f"kind={kind}" in worker.url)

    def asked(self) -> dict[str, Any]:
        """What the worker was last asked to answer."""
        found: list[dict[str, Any]] = self.worker("chat").evaluate(
            "() => self.asked.filter(({ type }) => type === 'reply')"
        )
        return found[-1]

    def read(self) -> list[str]:
        """What the model was given with it."""
        return [message["content"] for message in self.asked()["messages"]]

    def messages(self) -> list[str]:
        return self.part("chat-message").all_inner_texts()

    def use(self, adapter: str) -> None:
        self.page.locator(f"[data-id={adapter}] [data-action=use]").click()
        expect(self.part("chat-adapter")).to_be_checked()

    @property
    def last(self) -> Locator:
        return self.page.locator(".chat-turn").last
