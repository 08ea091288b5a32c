"""Which of many files are the one adapter that is meant: those of the outermost folder that holds one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from ..errors import AdapterError
from .mlx_adapter import MLX_WEIGHTS_FILE
from .peft import CARD_FILE, TEMPLATE_FILE, WEIGHTS_FILE
from .peft_config import CONFIG_FILE
from .run_record import RECORD_FILE

WANTED = f"wanted {CONFIG_FILE} and {WEIGHTS_FILE}"
_BESIDE = (CARD_FILE, TEMPLATE_FILE, RECORD_FILE)  # they make no adapter by themselves
_MAKING = (CONFIG_FILE, WEIGHTS_FILE, "adapter_model.bin", MLX_WEIGHTS_FILE)
_NAMED = 4


def is_of_adapter(name: str) -> bool:
    """Return whether a file of this name may belong to an adapter."""
    path = PurePosixPath(name.replace("\\", "/"))
    return (path.name in (*_MAKING, *_BESIDE) or _is_gguf(path)) and "__MACOSX" not in path.parts


def outermost(names: Iterable[str], where: str) -> tuple[list[str], str | None]:
    """Return those of the names that are files of the outermost folder with an adapter, and a remark on the others.

    Checkpoints lie inside the folder of the finished adapter, which is the one that is meant. AdapterError when there
    is none, or several of which none holds the others. `where` is what they lie in: "the zip file".
    """
    by_folder: dict[PurePosixPath, list[str]] = {}
    given = list(names)
    for name in filter(is_of_adapter, given):
        by_folder.setdefault(PurePosixPath(name.replace("\\", "/")).parent, []).append(name)
    folders = [folder for folder, found in by_folder.items() if any(map(_makes_one, found))]
    if not folders:
        raise AdapterError(f"{where} holds {', '.join(given[:10]) or 'nothing'}; {WANTED}")
    outer = min(folders, key=lambda folder: len(folder.parts))
    inside = sorted(str(folder) for folder in folders if folder != outer)
    if any(outer not in PurePosixPath(folder).parents for folder in inside):
        names_said = ", ".join(sorted(map(str, folders))[:_NAMED]) + (", …" if len(folders) > _NAMED else "")
        raise AdapterError(f"{where} holds {len(folders)} adapters, in {names_said}; wanted one")
    said = ", ".join(inside[:_NAMED]) + (f" and {len(inside) - _NAMED} more" if len(inside) > _NAMED else "")
    place = "at its top" if outer == PurePosixPath(".") else f"in {outer}"
    return by_folder[outer], f"the adapter {place} was taken, not those in {said}" if inside else None


def _makes_one(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    return path.name in _MAKING or _is_gguf(path)


def _is_gguf(path: PurePosixPath) -> bool:
    return path.suffix.lower() == ".gguf"
