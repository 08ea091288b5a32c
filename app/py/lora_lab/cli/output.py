"""Where an adapter goes: looked at before training; put together beside that place and moved there in one go.

So the folder holds the adapter that was there before, or the new one whole, at every moment: also where the process is
killed, the disk is full, or the power fails.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from lora_lab.cli.files import naming, sync_folder, write_synced
from lora_lab.cli.interrupt import interrupts
from lora_lab.cli.terminal import say
from lora_lab.errors import LoraLabError
from lora_lab.formats.peft import RUN_FILE, TEMPLATE_FILE
from lora_lab.formats.peft_config import CONFIG_FILE

OTHERS = ("best", "last")  # folders within an adapter's, for the one of a run that is not given out
NEW, OLD = ".lora-lab-new", ".lora-lab-old"  # ends of the names of folders that are on their way


def check_out(out: Path) -> None:
    """Raise LoraLabError, saying what would do, where `out` cannot be exchanged for another folder. Writes nothing."""
    if out.exists() and not out.is_dir():
        raise LoraLabError(f"--out {out} is a file; wanted a folder")
    if Path.cwd().is_relative_to(out.resolve()):
        raise LoraLabError(f"--out {out} is the folder that you are in, or one around it; name one for the adapter")
    if out.is_mount():
        raise LoraLabError(f"--out {out} is a mounted disk as a whole; name a folder in it")


def prepare_out(out: Path) -> None:
    """Make the folders around `out`, bring back what an interrupted move has left, and see that all can be written.

    Raises OSError or LoraLabError, naming the folder.
    """
    check_out(out)
    parent = _parent(out)
    with naming(parent):
        parent.mkdir(parents=True, exist_ok=True)
    _recover(out)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", suffix=NEW, dir=parent) as probe:
            write_synced(Path(probe) / "probe", b"can this be written?")
    except OSError as error:
        raise LoraLabError(
            f"--out {out}: {parent} cannot be written ({error.strerror or error}); the adapter and the run's "
            "checkpoints are put together there. Name a folder inside one that you may write"
        ) from error


def check_room(out: Path, needed_bytes: int) -> None:
    """Raise LoraLabError where the disk has no room for what a run writes."""
    free_bytes = shutil.disk_usage(_parent(out)).free
    if free_bytes < needed_bytes:
        raise LoraLabError(
            f"--out {out}: the disk has {free_bytes / 2**20:,.1f} MiB free; the adapter and the run's checkpoints take "
            f"{needed_bytes / 2**20:,.1f} MiB. Make room, name another disk, or choose a smaller --rank"
        )


def place(out: Path, files: Mapping[str, bytes]) -> None:
    """Put an adapter's files into the folder `out`, all or none of them; what else is in it stays. Raises OSError.

    A name with a folder before it, one of OTHERS, is of the run's other adapter; that of an earlier run goes.
    """
    target = out.resolve()
    stage = Path(tempfile.mkdtemp(prefix=f".{out.name}-", suffix=NEW, dir=target.parent))
    interrupts.unfinished.add(str(stage))
    try:
        with naming(target):
            umask = os.umask(0)  # mkdtemp gives 0700; the person expects what any other program would give
            os.umask(umask)
            stage.chmod(0o777 & ~umask)
            if target.exists():
                shutil.copytree(target, stage, symlinks=True, dirs_exist_ok=True, copy_function=_link)
            if (stage / CONFIG_FILE).exists() and not (stage / "config.json").exists():
                for name in (TEMPLATE_FILE, RUN_FILE):  # an earlier adapter's: it would be taken for this one's
                    (stage / name).unlink(missing_ok=True)
            for other in OTHERS:
                if (stage / other / CONFIG_FILE).exists():
                    shutil.rmtree(stage / other)
            for name, content in files.items():
                (stage / name).parent.mkdir(exist_ok=True)
                (stage / name).unlink(missing_ok=True)  # a link to the file that is to stay as it is
                write_synced(stage / name, content)
            for folder in {(stage / name).parent for name in files} | {stage}:
                sync_folder(folder)
            _exchange(stage, target)
            sync_folder(target.parent)
    except shutil.Error as error:  # of copytree: a list
        source, _, why = error.args[0][0]
        raise OSError(errno.EIO, why, source) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        interrupts.unfinished.discard(str(stage))


def place_somewhere(out: Path, files: Mapping[str, bytes]) -> Path:
    """Put an adapter into `out`, or else into another folder, and return which. LoraLabError where none takes it."""
    try:
        place(out, files)
        return out
    except OSError as error:
        why = f"{error.filename or out}: {error.strerror or error}"
    tried = []
    for folder in (_parent(out), Path.cwd(), Path.home(), Path(tempfile.gettempdir())):
        other = free_name(folder / out.name)
        try:
            place(other, files)
        except OSError as error:
            tried.append(f"{other}: {error.strerror or error}")
            continue
        say(f"The adapter could not be put into {out} ({why})")
        return other
    raise LoraLabError(f"the adapter could not be written: {'; '.join([why, *tried])}")


def free_name(path: Path) -> Path:
    """Return this path, or one like it that nothing is at."""
    number, found = 2, path
    while found.exists():
        found = path.with_name(f"{path.name}-{number}")
        number += 1
    return found


def _parent(out: Path) -> Path:
    return out.resolve().parent


def _recover(out: Path) -> None:
    """Bring the adapter back whose place nothing has taken yet, and remove what was on its way."""
    target = out.resolve()
    for left in target.parent.glob(f".{out.name}-*{OLD}"):
        if target.exists():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.rename(target)
            say(f"{out} was brought back from an interrupted move")
    for left in target.parent.glob(f".{out.name}-*{NEW}"):
        shutil.rmtree(left, ignore_errors=True)


def _link(source: str, target: str) -> None:
    """Have the file under another name too; a copy where the disk cannot do that."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _exchange(stage: Path, target: Path) -> None:
    """Have `stage` take the place of `target`, which takes the place of `stage` where there is one."""
    if not target.exists():
        stage.rename(target)
        return
    if _swap(os.fsencode(stage), os.fsencode(target)):
        return
    # Two steps: one that is cut off between them leaves the old folder whole, for `_recover`.
    old = stage.with_suffix(OLD)
    target.rename(old)
    try:
        stage.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _swap(first: bytes, second: bytes) -> bool:
    """Exchange two folders in one step, where the system can. Python has no call of its own for it."""
    try:
        libc = ctypes.CDLL(None)
        if sys.platform == "darwin":
            return libc.renamex_np(first, second, ctypes.c_uint(2)) == 0  # RENAME_SWAP
        return libc.renameat2(-100, first, -100, second, ctypes.c_uint(2)) == 0  # AT_FDCWD, RENAME_EXCHANGE
    except (AttributeError, OSError, TypeError):  # another system, or an old one
        return False
