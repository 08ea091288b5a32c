"""Which chat template a command uses: the one asked for, else the adapter's, else the model's own, else what suits."""

from __future__ import annotations

from pathlib import Path

from lora_lab.cli.adapter_path import brought_template
from lora_lab.cli.terminal import say
from lora_lab.data.tokens.chat_formats import chosen_template
from lora_lab.data.tokens.template import ChatTemplate, TemplateError
from lora_lab.data.tokens.tokenizer import Tokenizer
from lora_lab.errors import AdapterError, LoraLabError
from lora_lab.formats.peft import TEMPLATE_FILE, read_chat_template
from lora_lab.model.chat_choice import AUTO, ChatChoice
from lora_lab.model.model_files import ModelFiles
from lora_lab.settings import CHAT_FORMAT


def own_template(files: ModelFiles) -> ChatTemplate | None:
    """Return the template that the model brings."""
    source = files.tokenizer.chat_template
    return None if source is None else ChatTemplate(source, files.tokenizer.special_tokens)


def choose_template(
    asked: str, files: ModelFiles, tokenizer: Tokenizer, adapter: Path | None = None
) -> ChatTemplate:  # fmt: skip
    """Return the template that --chat-template asks for; says which, where it is not the model's own."""
    special_tokens = files.tokenizer.special_tokens
    if asked not in CHAT_FORMAT.values:
        return _from_file(Path(asked), special_tokens)
    if asked == AUTO:
        brought = None if adapter is None else _of_adapter(adapter, special_tokens)
        if brought := brought or own_template(files):
            return brought
    offer = ChatChoice(files, tokenizer).offer(asked)
    say(f"Chat format: {offer.title}" + (f" ({offer.note})" if offer.note else ""))
    return offer.template


def written_template(template: ChatTemplate, files: ModelFiles) -> str | None:
    """Return what goes into the adapter's folder: the template where it is not the model's own."""
    return None if template.source == files.tokenizer.chat_template else template.source


def _from_file(path: Path, special_tokens: dict[str, str]) -> ChatTemplate:
    if not path.is_file():
        names = ", ".join(CHAT_FORMAT.values)
        raise LoraLabError(f"--chat-template {path}: no such file; wanted {names}, or a file with a jinja template")
    try:
        source = read_chat_template({TEMPLATE_FILE: path.read_bytes()})
        assert source is not None, "it was given"
        return chosen_template(source, special_tokens)
    except (AdapterError, TemplateError) as error:
        raise LoraLabError(f"--chat-template {path}: {error}") from error


def _of_adapter(path: Path, special_tokens: dict[str, str]) -> ChatTemplate | None:
    """Return the template in an adapter's folder or zip; None where there is none, or none that can be used."""
    try:
        source = brought_template(path)
        return None if source is None else chosen_template(source, special_tokens)
    except (AdapterError, TemplateError) as error:
        say(f"Warning: {path}: {TEMPLATE_FILE}: {error}; the model's own is used in its place")
        return None
