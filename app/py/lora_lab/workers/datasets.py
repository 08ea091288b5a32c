"""The dataset that the page has open: read once, cut to any length at once, and put into words for the summary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

from lora_lab.config import LoraConfig, TrainConfig
from lora_lab.data import Dataset, Example, Problem, read_dataset
from lora_lab.data.batches import encode_row, split_validation
from lora_lab.data.schema import Conversation
from lora_lab.data.template import ChatTemplate
from lora_lab.data.tokenizer import Tokenizer
from lora_lab.workers.messages import ChatMessage, DatasetReady, Fact, Probe, RowProblem, TrainSettings

READ_LENGTH = 8192  # tokens of a row that are kept on reading; longer settings are not offered
SHOWN_PROBLEMS = 200
SHOWN_NOTES = 4
SHOWN_ROWS = 20
NUM_PROBES = 3
EFFECTIVE_BATCH = 8
VALIDATION_MIN_ROWS = 50
VALIDATION_FRACTION = 0.1
VALIDATION_MAX_ROWS = 100  # they are gone through ten times in a run
# Between one and three passes; a small dataset gets more of them, or the adapter would hardly move.
MIN_STEPS, MANY_STEPS = 60, 600


@dataclass(frozen=True)
class Cut:
    """A dataset cut to one length. `examples[i]` comes from row `rows[i]` of the whole dataset."""

    max_length: int
    examples: list[Example]
    rows: list[int]
    lost: tuple[Problem, ...]  # rows that have nothing left to train on
    truncated: int
    tokens: int
    trained_tokens: int


@dataclass
class OpenDataset:
    """One dataset and the words about it. A sample may bring questions (`probes`) and settings of its own."""

    name: str
    title: str
    dataset: Dataset
    tokenizer: Tokenizer
    template: ChatTemplate | None
    probes: tuple[Probe, ...] = ()
    own_settings: dict[str, Any] = field(default_factory=dict)
    shown_length: int = 0  # what the page was last told about
    _cuts: dict[int, Cut] = field(default_factory=dict)

    @classmethod
    async def read(
        cls, name: str, title: str, raw: bytes, tokenizer: Tokenizer, template: ChatTemplate | None,
        context_length: int, about: dict[str, Any], on_progress: Callable[[int, int], None],
    ) -> OpenDataset:  # fmt: skip
        """Read a dataset; bad rows are in its report, nothing is raised. `about` is a sample's JSON, else empty."""
        length = min(READ_LENGTH, context_length)
        dataset = await read_dataset(raw, tokenizer, template, length, on_progress, name=name)
        names = {f.name for f in fields(TrainSettings)}
        own = {name: value for name, value in about.get("settings", {}).items() if name in names}
        return cls(name, title, dataset, tokenizer, template, _sample_probes(about), own)

    def cut(self, max_length: int) -> Cut:
        """Return the dataset as it is trained on at this length. The file is not tokenized again."""
        if max_length not in self._cuts:
            self._cuts = {max_length: self._cut(max_length)}
        return self._cuts[max_length]

    def _cut(self, max_length: int) -> Cut:
        examples, rows, lost, truncated = [], [], [], 0
        for index, whole in enumerate(self.dataset.examples):
            example = Example(whole.tokens[:max_length], whole.trained[:max_length])
            truncated += len(whole.tokens) > max_length
            if example.trained_tokens:
                examples.append(example)
                rows.append(index)
                continue
            result = encode_row(self.dataset.rows[index], self.tokenizer, self.template, max_length)
            if isinstance(result, Problem):  # it is one: nothing of it is left to train on
                lost.append(result)
        return Cut(
            max_length=max_length,
            examples=examples,
            rows=rows,
            lost=tuple(lost),
            truncated=truncated + self.dataset.tokens.truncated,
            tokens=sum(len(example.tokens) for example in examples),
            trained_tokens=sum(example.trained_tokens for example in examples),
        )

    def ready(self, max_length: int, suggested: TrainSettings | None) -> DatasetReady:
        """Return the event that describes the dataset at this length."""
        self.shown_length = max_length
        cut = self.cut(max_length)
        problems = sorted([*self.dataset.report.problems, *cut.lost], key=lambda problem: problem.line)
        return DatasetReady(
            name=self.name,
            title=self.title,
            rows=self.dataset.report.rows,
            good_rows=len(cut.examples),
            problem_count=self.dataset.report.counts["error"] + len(cut.lost),
            problems=tuple(RowProblem(p.line, p.said, p.column, p.near) for p in problems[:SHOWN_PROBLEMS]),
            facts=self._facts(cut),
            notes=self._notes(),
            preview=tuple(self._preview(index) for index in cut.rows[:SHOWN_ROWS]),
            max_length=max_length,
            suggested=suggested,
            can_train=bool(cut.examples),
        )

    def _facts(self, cut: Cut) -> tuple[Fact, ...]:
        report, tokens = self.dataset.report, self.dataset.tokens
        good = len(cut.examples)
        rows = f"{good:,}" if good == report.rows else f"{good:,} of {report.rows:,}"
        if not good:
            return (Fact("Good rows", rows),)
        share = round(100 * cut.trained_tokens / cut.tokens)
        truncated = f"{cut.truncated:,} at {cut.max_length}" if cut.truncated else "none"
        return (
            Fact("Rows" if good == report.rows else "Good rows", rows, _kinds(report.formats)),
            Fact("Tokens", f"{tokens.total:,}", "Counted by the model's own tokenizer"),
            Fact("Trained", f"{share} %", "Share of the tokens that the model learns to write; the rest is only read"),
            Fact("Typical row", f"{tokens.p50:,} tokens", "Half of the rows are shorter"),
            Fact("Longest row", f"{tokens.max:,} tokens", f"95 % have at most {tokens.p95:,}"),
            Fact("Rows cut", truncated, "Rows longer than the setting “Longest row” lose their end"),
        )

    def _notes(self) -> tuple[str, ...]:
        warnings = self.dataset.report.warnings
        places = ("" if w.line == 1 else f"line {w.line}: " for w in warnings[:SHOWN_NOTES])
        notes = [_sentence(f"{place}{w.said}.") for place, w in zip(places, warnings, strict=False)]
        if len(warnings) > SHOWN_NOTES:
            notes.append(f"… and {len(warnings) - SHOWN_NOTES:,} more remarks like these.")
        return tuple(notes)

    def _preview(self, index: int) -> tuple[ChatMessage, ...]:
        row = self.dataset.rows[index]
        if isinstance(row, Conversation):
            return tuple(ChatMessage(message.role, message.content) for message in row.messages)
        return (ChatMessage("text", row.text),)

    def suggest(self) -> TrainSettings:
        """Return the settings that suit this dataset: the usual ones for its length and number of rows, or its own."""
        lora, train = LoraConfig(), TrainConfig()
        report = self.dataset.report
        cut = self.cut(report.suggested_max_length)
        good = len(cut.examples)
        fraction = min(VALIDATION_FRACTION, VALIDATION_MAX_ROWS / good) if good >= VALIDATION_MIN_ROWS else 0.0
        batch = min(EFFECTIVE_BATCH, max(1, good))
        a_pass = max(1, round(good * (1 - fraction) / batch))
        passes = 1 if a_pass > MANY_STEPS else min(3, max(1, MANY_STEPS // a_pass))
        suited = TrainSettings(
            steps=max(MIN_STEPS, passes * a_pass),
            batch=batch,
            learning_rate=train.learning_rate,
            rank=lora.rank,
            alpha=lora.alpha,
            max_length=report.suggested_max_length,
            seed=train.seed,
            targets=lora.targets,
            validation_fraction=fraction,
        )
        return replace(suited, **self.own_settings)

    def split(self, settings: TrainSettings) -> tuple[list[Example], list[Example], list[int]]:
        """Return the examples to train on, those held back, and the latter's rows in the whole dataset."""
        cut = self.cut(settings.max_length)
        row_of = {id(example): row for example, row in zip(cut.examples, cut.rows, strict=True)}
        trained, held = split_validation(cut.examples, settings.validation_fraction, settings.seed)
        return trained, held, [row_of[id(example)] for example in held]

    def choose_probes(self, held_rows: list[int], trained_rows: list[int]) -> tuple[Probe, ...]:
        """Return the validation card's questions: a sample's own, else rows held back, else rows trained on."""
        if self.probes:
            return self.probes[:NUM_PROBES]
        found: list[Probe] = []
        for index in [*held_rows, *_spread(trained_rows, 3 * NUM_PROBES)]:
            probe = _probe(self.dataset.rows[index])
            if probe is not None and all(probe.prompt != other.prompt for other in found):
                found.append(probe)
            if len(found) == NUM_PROBES:
                break
        return tuple(found)


def _sample_probes(about: dict[str, Any]) -> tuple[Probe, ...]:
    """Return the questions of a sample's JSON: `"probes": [{"prompt": "…", "reference": "…"}, …]`."""
    entries = about.get("probes", [])
    return tuple(
        Probe(entry["prompt"], (ChatMessage("user", entry["prompt"]),), entry.get("reference")) for entry in entries
    )


def _probe(row: object) -> Probe | None:
    """Return a conversation's last question with what came before it, and the answer that the data gives."""
    if not isinstance(row, Conversation):
        return None
    last = max((i for i, message in enumerate(row.messages) if message.role == "assistant"), default=0)
    before = row.messages[:last]
    if not before or before[-1].role != "user":
        return None
    messages = tuple(ChatMessage(message.role, message.content) for message in before)
    return Probe(before[-1].content, messages, row.messages[last].content)


def _spread(items: list[int], count: int) -> list[int]:
    """Return up to `count` items, evenly spread."""
    step = max(1, len(items) // count)
    return items[::step][:count]


def _kinds(kinds: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
