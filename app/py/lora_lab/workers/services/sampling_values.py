"""The chat's fields: what of them cannot be used, asked before anything is sent."""

from __future__ import annotations

from lora_lab.workers.protocol import CheckSampling, SamplingChecked
from lora_lab.workers.run.sampling import check_sampling
from lora_lab.workers.wire.dispatch import Host, handles


class SamplingValues:
    """Answers CheckSampling."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @handles(CheckSampling, "chat")
    async def check_sampling(self, command: CheckSampling) -> None:
        """Tell every field that cannot be used, and what is wanted."""
        problems = check_sampling(command.sampling, command.strength)
        self._host.post(SamplingChecked(command.request, tuple(problems)))
