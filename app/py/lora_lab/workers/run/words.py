"""What the page says about models and runs, in words. Kept apart so that the workers stay about what they do."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from lora_lab.model.files import ModelFiles
from lora_lab.settings import CHAT_FORMAT, cautions
from lora_lab.workers.dataset.opened import Split
from lora_lab.workers.model.opened import OpenedModel
from lora_lab.workers.protocol import Fact, FormatOffer, ModelOpened, NamedBlob, TrainSettings


def describe_model(opened: OpenedModel, files: Sequence[NamedBlob], built_in: bool) -> ModelOpened:
    """Return the event that tells the page about a model whose files are good."""
    config, tensors = opened.files.config, opened.files.tensors
    parameters = 0
    sizes: dict[str, int] = {}
    for tensor in tensors.values():
        parameters += prod(tensor.shape)
        sizes[tensor.form] = sizes.get(tensor.form, 0) + tensor.size_bytes
    form = max(sizes, key=lambda name: sizes[name]).upper()
    return ModelOpened(
        name=opened.files.name,
        title=opened.title,
        size_bytes=sum(tensor.size_bytes for tensor in tensors.values()),
        parameters=parameters,
        layers=config.num_layers,
        context_length=config.max_position_embeddings,
        weight_form=form,
        built_in=built_in,
        has_template=opened.template is not None,
        targets=config.linear_names,
        files=tuple(files),
        facts=(
            Fact("Parameters", _parameters(parameters)),
            Fact("Layers", str(config.num_layers)),
            Fact("Weights", form),
            Fact("Context", f"{config.max_position_embeddings:,} tokens"),
        ),
        chat_formats=_chat_formats(opened),
        chat_format=chosen.value if (chosen := opened.chosen(CHAT_FORMAT.default)) else CHAT_FORMAT.default,
        base_model=opened.hub_id or "",
    )


def about_model(files: ModelFiles) -> str:
    """Return a model in a line, before it is open."""
    parameters = sum(prod(tensor.shape) for tensor in files.tensors.values())
    context = files.config.max_position_embeddings
    return f"{_parameters(parameters)} parameters, {files.config.num_layers} layers, context {context:,} tokens"


def _parameters(count: int) -> str:
    if count >= 1e9:
        return f"{count / 1e9:.1f} billion"
    return f"{count / 1e6:,.0f} million" if count >= 1e6 else f"{count:,}"


def _chat_formats(opened: OpenedModel) -> tuple[FormatOffer, ...]:
    if opened.template is not None:
        return ()
    helps = {choice.value: choice.help for choice in CHAT_FORMAT.choices}
    return tuple(
        FormatOffer(
            one.value, f"The family's own: {one.title}" if one.value == "family" else one.title, helps[one.value],
            one.note,
        )
        for one in opened.chat_choice.offers
    )  # fmt: skip


def run_summary(
    settings: TrainSettings, split: Split, rows_at_once: int | None, packing_saves: float | None = None
) -> str:
    """Return one line about a run: how often it goes through the data, how a step is split, what packing saves."""
    rows, held = len(split.trained), len(split.held)
    mixed = f", {split.mixed:,} of them everyday ones that are mixed in" if split.mixed else ""
    passes = settings.steps * settings.batch / rows
    times = f"{passes:.1f} passes" if passes < 10 else f"{passes:.0f} passes"
    parts = [f"{_count(settings.steps, 'step')} {_are(settings.steps)} {times} through {_count(rows, 'row')}{mixed}"]
    if split.needs_held:
        parts.append(f"it is checked on the {_count(held, 'row')} of the validation file")
    elif held:
        parts.append(f"{_count(held, 'row')} {_are(held)} held back for checking")
    if rows_at_once is not None and rows_at_once < settings.batch:
        parts.append(f"each step takes {_count(rows_at_once, 'row')} at a time, to fit")
    if packing_saves is not None and packing_saves > 0:
        parts.append(f"packing saves {100 * packing_saves:.0f} % of the computing, all of it padding")
    return "; ".join(parts) + "."


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'s' * (number != 1)}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def run_notes(settings: TrainSettings, passes: float) -> tuple[str, ...]:
    """Return what deserves a second thought before a run."""
    return cautions({**vars(settings), "epochs": passes, "scale": settings.alpha / settings.rank})
