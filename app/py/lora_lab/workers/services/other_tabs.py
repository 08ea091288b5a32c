"""What other tabs of the page have changed in the store that all of them share."""

from __future__ import annotations

from lora_lab.workers.protocol import LookAgain
from lora_lab.workers.services.adapters import Adapters
from lora_lab.workers.services.checkpoints import Checkpoints
from lora_lab.workers.services.stores import Stores
from lora_lab.workers.wire.dispatch import handles


class OtherTabs:
    """Answers LookAgain."""

    def __init__(self, stores: Stores, adapters: Adapters, checkpoints: Checkpoints) -> None:
        self._stores, self._adapters, self._checkpoints = stores, adapters, checkpoints

    @handles(LookAgain, "storage")
    async def look_again(self, _: LookAgain) -> None:
        """Tell what is kept, as if the page had just been opened."""
        await self._stores.opened()
        await self._adapters.tell_adapters()
        await self._stores.tell_storage()
        await self._checkpoints.tell_stopped()
