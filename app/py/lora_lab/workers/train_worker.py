"""The worker that reads datasets, trains, and keeps the adapters: its services, and what each of them uses.

Which command goes to which service stands at the services' methods (`@handles`).
"""

from __future__ import annotations

from lora_lab.workers.protocol import Command
from lora_lab.workers.run.times import RunTimes
from lora_lab.workers.services.adapters import Adapters
from lora_lab.workers.services.alive import Alive
from lora_lab.workers.services.candidates import Candidates
from lora_lab.workers.services.checkpoints import Checkpoints
from lora_lab.workers.services.datasets import Datasets
from lora_lab.workers.services.exports import Exports
from lora_lab.workers.services.gpu import Gpu
from lora_lab.workers.services.hub import Hub
from lora_lab.workers.services.models import Models
from lora_lab.workers.services.other_tabs import OtherTabs
from lora_lab.workers.services.plans import Plans
from lora_lab.workers.services.rows import Rows
from lora_lab.workers.services.run_table import RunTable
from lora_lab.workers.services.runs import Runs
from lora_lab.workers.services.stores import Stores
from lora_lab.workers.services.trials import Trials
from lora_lab.workers.services.watching import Watching
from lora_lab.workers.wire.dispatch import Dispatcher, Host
from lora_lab.workers.wire.host import serve


class TrainWorker:
    """Answers the page's commands about models, datasets, runs and adapters."""

    def __init__(self, host: Host) -> None:
        self.gpu = Gpu(host)
        self.stores = Stores(host)
        self.models = Models(host, self.gpu, self.stores)
        self.adapters = Adapters(host, self.stores, self.models)
        self.datasets = Datasets(host, self.models)
        self.rows = Rows(host, self.models, self.datasets)
        self.times = RunTimes()
        self.plans = Plans(host, self.gpu, self.models, self.datasets, self.times, self.answer)
        self.trials = Trials(host, self.models, self.datasets, self.plans, self.times)
        self.checkpoints = Checkpoints(host, self.stores)
        self.watching = Watching(host, self.models)
        self.runs = Runs(
            host, self.gpu, self.stores, self.models, self.adapters, self.datasets, self.plans, self.checkpoints,
            self.watching,
        )  # fmt: skip
        self.hub = Hub(host, self.gpu, self.stores, self.models, self.datasets, self.runs)
        self.candidates = Candidates(host, self.gpu, self.datasets, self.runs)
        self.run_table = RunTable(host, self.stores, self.models, self.datasets)

        self.models.when_it_leaves(self.times.forget, self.plans.forget, self.datasets.model_leaves)
        self.models.when_it_came(self.stores.tell_storage, self.adapters.tell_adapters, self.datasets.model_came)
        self.models.when_it_came(self.hub.tell_kept)

        self.gpu.when_lost(self.times.forget, self.plans.forget)

        # Runs before trials: a second press on Train is dropped before a trial makes room for it.
        services: list[object] = [self.models, self.adapters, self.datasets, self.rows, self.plans, self.runs]
        services += [self.trials, self.checkpoints, self.watching, self.hub, self.candidates, self.run_table]
        services += [OtherTabs(self.stores, self.adapters, self.checkpoints), Alive(host)]
        services += [Exports(host, self.stores, self.models)]
        self._dispatcher = Dispatcher(host, services)

    async def begin(self) -> None:
        """Open the storage, list what it holds, look for a GPU."""
        self.gpu.look()
        await self.stores.opened()
        await self.stores.tell_storage()
        await self.adapters.tell_adapters()
        await self.hub.tell_kept()
        await self.checkpoints.tell_stopped()

    @property
    def commands(self) -> frozenset[type[Command]]:
        """The commands that this worker answers."""
        return self._dispatcher.commands

    async def answer(self, command: Command) -> None:
        """Answer a command from the page. Never raises: what goes wrong is posted."""
        await self._dispatcher.answer(command)


async def main() -> None:
    """Serve the page; called by worker.js."""
    await serve(TrainWorker)
