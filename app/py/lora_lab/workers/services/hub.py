"""Models of the hub: what a repository holds, what a run of one would take, fetching and keeping them.

Nothing is asked of the hub before LookAtRepository or FetchHubModel comes from the page.
"""

from __future__ import annotations

from collections.abc import Sequence

from lora_lab.data import Example
from lora_lab.errors import HubError, LoraLabError, ModelError
from lora_lab.formats.hub import HubModel, HubName, HubRepository, choose_model, parse_hub_name
from lora_lab.formats.hub_words import renamed
from lora_lab.model.files import ModelFiles
from lora_lab.workers.dataset.opened import Choices
from lora_lab.workers.model.opened import open_sources
from lora_lab.workers.protocol import (
    CheckHubModel,
    FetchEnded,
    FetchHubModel,
    FetchProgress,
    HubChecked,
    HubListed,
    HubOffer,
    KeptModel,
    KeptModels,
    LookAtRepository,
    RemoveKeptModel,
    StopFetching,
    TrainSettings,
)
from lora_lab.workers.run.fits import Fit, fit_run
from lora_lab.workers.run.words import about_model
from lora_lab.workers.services.alive import busy
from lora_lab.workers.services.datasets import Datasets
from lora_lab.workers.services.gpu import Gpu
from lora_lab.workers.services.models import READ_WITHIN_S, Models
from lora_lab.workers.services.runs import Runs
from lora_lab.workers.services.stores import Stores
from lora_lab.workers.storage.hub_client import HubSource, ask_repository, hub_answer
from lora_lab.workers.storage.hub_shelf import KeptFile, KeptRecord
from lora_lab.workers.storage.progress import Fetched
from lora_lab.workers.storage.site_models import read_site_index
from lora_lab.workers.wire.dispatch import Host, handles
from lora_lab.workers.wire.tasks import OneJob


class Hub:
    """Answers the page's commands about the hub and about what was fetched from it."""

    def __init__(
        self, host: Host, gpu: Gpu, stores: Stores, models: Models, datasets: Datasets, runs: Runs
    ) -> None:  # fmt: skip
        self._host, self._gpu, self._stores = host, gpu, stores
        self._models, self._datasets, self._runs = models, datasets, runs
        self._listed: dict[str, tuple[HubRepository, HubModel]] = {}  # of the last repository that was looked at
        self._looked_into: tuple[str, ModelFiles] | None = None  # the listed model whose header was read last
        self._looking, self._checking, self._fetching = OneJob(), OneJob(), OneJob()

    # --- looking ---

    @handles(LookAtRepository, "hub")
    async def look(self, command: LookAtRepository) -> None:
        """Ask the hub what a repository holds, and tell the page."""
        await self._looking.do("looking", self._look(command.name))

    async def _look(self, text: str) -> None:
        name = parse_hub_name(text)
        repository = await ask_repository(await self._address(), name)
        self._listed = {_model_id(repository, model): (repository, model) for model in repository.models}
        self._looked_into = None
        await self._stores.opened()
        whole = {one.id for one in await self._kept() if one.whole}
        offers = tuple(
            HubOffer(model_id, model.title, model.kind, model.form, model.size_bytes, model.refused or "",
                     model_id in whole)
            for model_id, (_, model) in self._listed.items()
        )  # fmt: skip
        notes = [renamed(name.repository, repository.name), _GATED if repository.gated else None]
        chosen = ""
        try:
            chosen = _model_id(repository, choose_model(repository, name.file))
        except HubError as error:
            if name.file is not None or not offers:
                notes.append(str(error))
        note = " ".join(f"{note}." for note in notes if note)
        licence = repository.licence or ""
        self._host.post(HubListed(repository.name, repository.revision, licence, offers, note, chosen))

    async def _address(self) -> str:
        hub = (await read_site_index()).hub
        if hub is None:
            raise LoraLabError("This site was built without the Hugging Face hub. Open files of your own instead.")
        return hub.rstrip("/")

    # --- checking ---

    @handles(CheckHubModel, "hub")
    async def check(self, command: CheckHubModel) -> None:
        """Read a listed model's header and say what a run with these settings takes on this GPU."""
        await self._checking.do("checking", self._check(command))

    async def _check(self, command: CheckHubModel) -> None:
        try:
            files = await self._look_into(command.id)
        except HubError:
            raise
        except ModelError as error:
            self._host.post(HubChecked(command.id, "refused", str(error)))
            return
        about = about_model(files)
        if command.settings is None:
            fit = Fit("unknown", "Whether a run fits is told once the settings can be used.")
        elif not await self._gpu.has_gpu():
            fit = Fit("unknown", "There is no GPU here to train it on.")
        else:
            rows = self._rows(command.settings)
            can_try = not self._runs.training
            fit = await fit_run(await self._gpu.device(), files, command.settings, rows, can_try=can_try)
        self._host.post(HubChecked(command.id, fit.verdict, fit.words, about, fit.memory_bytes))

    async def _look_into(self, model_id: str) -> ModelFiles:
        """Return what a listed model's header says. Other settings are no reason to ask the hub again."""
        if self._looked_into is None or self._looked_into[0] != model_id:
            repository, model = self._find_listed(model_id)
            hub = await self._address()
            sources = [HubSource(hub, repository, file) for file in model.files]
            with busy(self._host, "reading the model", READ_WITHIN_S):
                files, *_ = await open_sources(sources, lambda _: None)
            self._looked_into = model_id, files
        return self._looked_into[1]

    def _rows(self, settings: TrainSettings) -> Sequence[Example] | None:
        """Return the open dataset's rows to train on, if their tokens are counted at these settings."""
        dataset, choices = self._datasets.dataset, Choices.of(settings)
        if dataset is None or not dataset.is_encoded(choices.masking, choices.chat_format):
            return None
        trained = dataset.split(settings).trained
        return trained if len(trained) else None

    def _find_listed(self, model_id: str) -> tuple[HubRepository, HubModel]:
        if model_id not in self._listed:
            raise LoraLabError(f"{model_id} is not listed any more. Look at its repository again.")
        return self._listed[model_id]

    # --- fetching ---

    @handles(FetchHubModel, "hub")
    async def fetch(self, command: FetchHubModel) -> None:
        """Fetch a model, or the rest of one, check it and keep it."""
        if self._fetching.doing is not None:
            raise LoraLabError("A model is being fetched already. This one can follow when that is here.")
        await self._stores.opened()
        record = await self._record(command.id)
        try:
            is_whole = await self._fetching.do(record.id, self._fetch(record))
        finally:
            await self._forget_nothing(record)
            await self.tell_kept()
            await self._stores.tell_storage()
        self._host.post(FetchEnded(record.id, record.title, is_whole))

    async def _fetch(self, record: KeptRecord) -> None:
        hub = await self._address()
        await self._stores.hub_shelf.add(record)
        await self.tell_kept()

        def tell(how: Fetched) -> None:
            self._host.post(
                FetchProgress(record.id, record.title, how.done_bytes, how.total_bytes, how.rate_bytes_per_s,
                              how.left_ms, how.waits)
            )  # fmt: skip

        answer = hub_answer(record.repository, record.revision)
        await self._stores.cache.obtain(record.wanted(hub), tell, answer)

    async def _record(self, model_id: str) -> KeptRecord:
        if (kept := await self._stores.hub_shelf.find(model_id)) is not None:
            return kept
        repository, model = self._find_listed(model_id)
        if model.refused:
            raise LoraLabError(model.refused)
        files = tuple(KeptFile(file.path, file.size_bytes, file.sha256) for file in model.files)
        return KeptRecord(
            model_id, model.title.rsplit("/", 1)[-1], repository.name, repository.revision,
            repository.peft_base(model), model.form, repository.licence or "", files,
        )  # fmt: skip

    async def _forget_nothing(self, record: KeptRecord) -> None:
        """Take a model off the list of which nothing has come."""
        shelf = self._stores.hub_shelf
        if await shelf.find(record.id) is not None and (await shelf.describe(record)).done_bytes == 0:
            await shelf.remove(record)

    @handles(StopFetching, "hub")
    async def stop_fetching(self, _: StopFetching) -> None:
        """Stop what is fetched; what has come stays."""
        await self._fetching.give_up()

    # --- what is kept ---

    @handles(RemoveKeptModel, "hub")
    async def remove(self, command: RemoveKeptModel) -> None:
        """Delete a model that was fetched."""
        await self._stores.opened()
        record = await self._stores.hub_shelf.find(command.id)
        if record is not None:
            if self._is_open(record):
                raise LoraLabError(f"{record.title} is in use. Open another model first, then remove it.")
            if self._fetching.doing == record.id:
                await self._fetching.give_up()
            await self._stores.hub_shelf.remove(record)
        await self.tell_kept()
        await self._stores.tell_storage()

    def _is_open(self, record: KeptRecord) -> bool:
        return self._models.model is not None and self._models.model.kept == record.id

    async def _kept(self) -> list[KeptModel]:
        shelf = self._stores.hub_shelf
        coming = self._fetching.doing
        return [
            await shelf.describe(record, in_use=self._is_open(record), coming=record.id == coming)
            for record in await shelf.records()
        ]

    async def tell_kept(self) -> None:
        """Tell the page which models of the hub are here."""
        self._host.post(KeptModels(tuple(await self._kept())))


_GATED = "It is gated: its owner gives it to those who have accepted its terms, and this page sends no token"


def _model_id(repository: HubRepository, model: HubModel) -> str:
    """Return what stands for a model at one commit: its name on the hub, written out."""
    file = None if model.kind == "safetensors" else model.files[0].path
    return str(HubName(repository.name, file, repository.revision))
