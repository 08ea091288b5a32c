"""The run that goes on, as it is watched: what the model is asked while it learns, and what the page hears of it."""

from __future__ import annotations

from lora_lab.evaluation.prompts import Prompt
from lora_lab.evaluation.results import Kept, RunResults, Verdict
from lora_lab.evaluation.sampler import Sampler
from lora_lab.evaluation.watch import Watch
from lora_lab.train import SampleAnswered, StepDone, Trainer, ValidationDone
from lora_lab.workers import protocol
from lora_lab.workers.dataset.opened import as_probe, as_prompt
from lora_lab.workers.protocol import (
    MemoryInUse,
    RunVerdict,
    SamplePrompts,
    SetSamplePrompts,
    TrainingStep,
    TrainingVerdict,
    ValidationLoss,
)
from lora_lab.workers.run.job import Job
from lora_lab.workers.services.models import Models
from lora_lab.workers.wire.dispatch import Host, handles


class Watching:
    """Answers SetSamplePrompts; watches runs for the page, one at a time."""

    def __init__(self, host: Host, models: Models) -> None:
        self._host, self._models = host, models
        self._own: tuple[Prompt, ...] = ()  # that a person has written
        self._chosen: tuple[Prompt, ...] = ()  # of the run's rows
        self._watch: Watch | None = None
        self._sampler: Sampler | None = None
        self._memory: MemoryInUse | None = None  # that the page knows of

    @handles(SetSamplePrompts, "training")
    async def set_sample_prompts(self, command: SetSamplePrompts) -> None:
        """Ask these from the next time on."""
        texts = dict.fromkeys(text.strip() for text in command.prompts)
        self._own = tuple(Prompt.of_text(text) for text in texts if text)
        if self._watch is not None:
            self._watch.prompts = self._prompts
        self._tell_prompts()

    @property
    def _prompts(self) -> tuple[Prompt, ...]:
        return self._own or self._chosen

    def _tell_prompts(self) -> None:
        self._host.post(SamplePrompts(tuple(map(as_probe, self._prompts)), chosen=not self._own))

    def begin(self, trainer: Trainer, job: Job) -> Watch:
        """Watch a run that was got ready and, where it goes on, restored. Raises OutOfMemoryError.

        The page hears what the model is asked, and what it has said already.
        """
        self._chosen = tuple(map(as_prompt, job.probes))
        settings, opened = job.settings, self._models.need_model("A run needs a model")
        if settings.sample_every != 0:
            self._sampler = Sampler(trainer, opened.tokenizer, opened.template_for(settings.chat_format))
            self._sampler.allocate()
            self._tell_prompts()
        keep: Kept = "last" if settings.keep == "last" else "best"
        self._watch = Watch(
            trainer, sampler=self._sampler, prompts=self._prompts, sample_every=settings.sample_every, keep=keep,
            patience=settings.patience,
        )  # fmt: skip
        for answer in self._watch.remember():
            self.tell(answer)
        self._tell_memory(trainer)
        return self._watch

    def end(self) -> None:
        """The run is over: give back what the answers took."""
        if self._sampler is not None:
            self._sampler.close()
        self._watch = self._sampler = self._memory = None

    def _tell_memory(self, trainer: Trainer) -> None:
        device = trainer.model.device
        now = MemoryInUse(device.memory_in_use_bytes, device.peak_memory_bytes)
        if now != self._memory:
            self._memory = now
            self._host.post(now)

    def tell(self, event: StepDone | ValidationDone | SampleAnswered) -> None:
        """Tell the page what has happened in the run."""
        if isinstance(event, StepDone):
            self._host.post(_step(event))
            if self._watch is not None:
                self._tell_memory(self._watch.trainer)
        elif isinstance(event, ValidationDone):
            self._host.post(ValidationLoss(event.step, event.loss, event.perplexity, event.accuracy))
        else:
            self._host.post(protocol.SampleAnswered(**vars(event)))

    def tell_verdict(self, results: RunResults) -> RunVerdict | None:
        """Tell the page what is wrong with a run, if something is; return it."""
        if results.verdict is None:
            return None
        verdict = _as_part(results.verdict)
        self._host.post(TrainingVerdict(verdict))
        return verdict


def _as_part(verdict: Verdict) -> RunVerdict:
    return RunVerdict(verdict.kind, verdict.words, verdict.numbers)


def _step(event: StepDone) -> TrainingStep:
    return TrainingStep(
        step=event.step,
        total_steps=event.total_steps,
        loss=event.loss,
        grad_norm=event.grad_norm,
        learning_rate=event.learning_rate,
        trained_tokens=event.trained_tokens,
        tokens_per_s=event.tokens_per_s,
        elapsed_ms=event.elapsed_ms,
        left_ms=event.eta_ms,
    )
