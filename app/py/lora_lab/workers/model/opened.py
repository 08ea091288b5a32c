"""A model that is open: its files, checked, and what makes tokens of text. No weights are read here, and no GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from lora_lab.config import ModelConfig
from lora_lab.data.tokens.template import ChatTemplate
from lora_lab.data.tokens.tokenizer import Tokenizer, load_tokenizer
from lora_lab.formats.byte_source import BlobSource, ByteSource
from lora_lab.formats.hub_id import hub_id
from lora_lab.model.chat_choice import AUTO, ChatChoice, Offer
from lora_lab.model.files import ModelFiles, open_model
from lora_lab.settings import CHAT_FORMAT
from lora_lab.workers.protocol import ModelProgress, NamedBlob
from lora_lab.workers.wire.host import phase

Parts = tuple[ModelFiles, Tokenizer, ChatTemplate | None]


@dataclass(frozen=True)
class OpenedModel:
    """The model that is open: its files, what makes tokens of text, and what it is called on the hub.

    `kept` is its id among the models that were fetched from the hub, "" for any other. `source` is what the command
    line calls it: "" for the built-in one, hf:OWNER/NAME, or a file's name.
    """

    files: ModelFiles
    tokenizer: Tokenizer
    template: ChatTemplate | None
    base_model: str
    title: str
    kept: str = ""
    source: str = ""

    @property
    def hub_id(self) -> str | None:
        """OWNER/NAME on the Hugging Face hub, for what names its base: never a file's name."""
        named = hub_id(self.base_model) if self.base_model != self.files.name else None
        return named or self.files.hub_id

    @cached_property
    def chat_choice(self) -> ChatChoice:
        """The formats to choose from where it has no template."""
        return ChatChoice(self.files, self.tokenizer)

    def chosen(self, chat_format: str) -> Offer | None:
        """Return what the setting means for this model; None where its own template holds in any case."""
        return None if self.template is not None else self.chat_choice.offer(chat_format)

    def template_for(self, chat_format: str) -> ChatTemplate:
        """Return the template that the model is used with at this setting."""
        return self.template or self.chat_choice.offer(chat_format).template

    def same_formats(self, chat_format: str) -> frozenset[str]:
        """Return the values of the setting that mean the same for this model."""
        if self.template is not None:
            return frozenset(CHAT_FORMAT.values)
        value, default = self.chat_choice.offer(chat_format).value, self.chat_choice.default
        return frozenset({value, AUTO} if value == default else {value})


def model_shape(config: ModelConfig) -> str:
    """Return the dimensions that decide whether an adapter's matrices fit, as one line."""
    convolutions = [str(i) for i in range(config.num_layers) if config.layer(i).conv_taps]
    others = f" conv={','.join(convolutions)}" if convolutions else ""
    return (
        f"{config.architecture} layers={config.num_layers} hidden={config.hidden_size} mlp={config.intermediate_size} "
        f"q={config.query_size} kv={config.kv_size}{others}"
    )


async def open_files(files: Sequence[NamedBlob], tell: Callable[[ModelProgress], None]) -> Parts:
    """Open a model's files and what turns text into tokens. ModelError lists every problem."""
    return await open_sources([BlobSource(file.blob, file.name) for file in files], tell)


async def open_sources(sources: Sequence[ByteSource], tell: Callable[[ModelProgress], None]) -> Parts:
    """The same for files wherever they are."""
    tell(ModelProgress("read", 0, 0))
    with phase("model header"):
        opened = await open_model(sources)
    with phase("chat template"):
        source = opened.tokenizer.chat_template
        template = ChatTemplate(source, opened.tokenizer.special_tokens) if source else None
    with phase("tokenizer"):
        tokenizer = load_tokenizer(opened.tokenizer)
    return opened, tokenizer, template
