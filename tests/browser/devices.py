"""Workers whose GPU a test can reach."""

from __future__ import annotations

from playwright.sync_api import BrowserContext, Route


def before_workers(context: BrowserContext, script: str) -> None:
    """Run `script` in every worker of the context before the worker's own."""

    def prepend(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=script + answer.text())

    context.route("**/assets/worker/worker.js*", prepend)


def keep_devices(context: BrowserContext) -> None:
    """Have every worker keep its GPU devices in `self.openedDevices`, to be lost by a test."""
    before_workers(
        context,
        """
        self.openedDevices = [];
        const request = GPUAdapter.prototype.requestDevice;
        GPUAdapter.prototype.requestDevice = async function (...asked) {
          const device = await request.apply(this, asked);
          self.openedDevices.push(device);
          return device;
        };
        """,
    )
