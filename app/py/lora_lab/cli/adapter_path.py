"""An adapter where --adapter and --init-adapter say it is: a folder, a zip or a GGUF."""

from __future__ import annotations

from pathlib import Path

from lora_lab.cli.terminal import say
from lora_lab.config import ModelConfig
from lora_lab.errors import AdapterError
from lora_lab.formats.adapter_folders import is_of_adapter
from lora_lab.formats.mlx_adapter import MLX_WEIGHTS_FILE
from lora_lab.formats.peft import TEMPLATE_FILE, WEIGHTS_FILE, read_chat_template
from lora_lab.formats.zipping import unpack_with_remark
from lora_lab.model.adapter_files import BroughtAdapter, open_adapter


async def read_adapter_path(path: Path, model: ModelConfig) -> BroughtAdapter:
    """Read an adapter and check it against the model; say what there is to say of it. AdapterError names the path."""
    files, remark = adapter_files(path)
    try:
        brought = await open_adapter(files, model)
    except AdapterError as error:
        raise AdapterError(f"{path}: {error}") from error
    for said in (remark, *brought.remarks):
        if said:
            say(f"{path}: {said}")
    return brought


def adapter_files(path: Path) -> tuple[dict[str, bytes], str | None]:
    """Return the adapter's files at a path by name, and a remark where others were passed over."""
    if path.is_dir():
        names = sorted(one.name for one in path.iterdir() if is_of_adapter(one.name) and one.is_file())
        if {WEIGHTS_FILE, MLX_WEIGHTS_FILE} & set(names):  # a GGUF beside them may be a whole model
            names = [name for name in names if not name.lower().endswith(".gguf")]
        return {name: (path / name).read_bytes() for name in names}, None
    if not path.is_file():
        raise AdapterError(f"{path} does not exist; wanted an adapter's folder, a zip of it, or a GGUF adapter")
    if path.suffix.lower() == ".gguf":
        return {path.name: path.read_bytes()}, None
    try:
        return unpack_with_remark(path.read_bytes())
    except AdapterError as error:
        raise AdapterError(f"{path}: {error}") from error


def brought_template(path: Path) -> str | None:
    """Return the chat template in an adapter's folder or zip; None where there is none."""
    if not path.is_dir():
        return read_chat_template(adapter_files(path)[0])
    file = path / TEMPLATE_FILE
    return read_chat_template({TEMPLATE_FILE: file.read_bytes()} if file.is_file() else {})
