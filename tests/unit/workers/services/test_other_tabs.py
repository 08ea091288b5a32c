"""Another tab has changed the store: all of it is told anew."""

from __future__ import annotations

from lora_lab.workers.protocol import LookAgain
from lora_lab.workers.services.other_tabs import OtherTabs
from tests.unit.workers.helpers import Page
from tests.unit.workers.services.helpers import run_alone


class Told:
    """Stands for the three services, and notes in which order they are asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def opened(self) -> None:
        self.asked.append("opened")

    async def tell_adapters(self) -> None:
        self.asked.append("adapters")

    async def tell_storage(self) -> None:
        self.asked.append("storage")

    async def tell_stopped(self) -> None:
        self.asked.append("stopped run")


def test_everything_that_is_kept_is_told_once_the_store_is_open() -> None:
    told = Told()
    run_alone(Page(), OtherTabs(told, told, told), LookAgain())  # type: ignore[arg-type]
    assert told.asked == ["opened", "adapters", "storage", "stopped run"]
