"""Settings on their way: a JSON file, the end of a link, a command line. Back from the first two, checked.

A link's end is `settings=1&s=60&b=8&…&c=1a2b3c4d`: the form, each setting under its short name, a checksum that tells
a link that was cut off. Short names stay what they are as long as the form does.
"""

from __future__ import annotations

import json
import shlex
import zlib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

from lora_lab.errors import LoraLabError
from lora_lab.evaluation.record import RunRecord
from lora_lab.evaluation.settings_values import BY_NAME, Settings, as_options, checked
from lora_lab.formats.json_reader import read_json
from lora_lab.settings import TARGET_LAYERS, TARGETS

FORM = 1
FORM_KEY = "lora_lab_settings"
MAX_FILE_BYTES, MAX_LINK_CHARACTERS = 1 << 16, 2048
SHORT = {
    "rank": "r", "alpha": "a", "targets": "t", "steps": "s", "epochs": "e", "learning_rate": "l", "schedule": "sc",
    "warmup_steps": "w", "batch": "b", "rows_at_once": "ro", "accumulate": "ac", "packing": "p", "max_length": "m",
    "recompute": "re", "save_memory": "sm", "activation_memory": "am", "weight_decay": "wd", "max_grad_norm": "g",
    "seed": "se", "shuffle": "sh", "validation_fraction": "v", "checkpoint_every": "ce", "masking": "mk",
    "on_long": "ol", "chat_format": "cf", "mix_neutral": "mx", "neutral": "n",
    "sample_every": "sn", "keep": "k", "patience": "pa",
}  # fmt: skip
CHECK, START = "c", "settings"


# ---------------------------------------------------------------------------------------------------- a file


def settings_file(values: Mapping[str, Any]) -> bytes:
    """Return settings as a JSON file."""
    ordered = {name: values[name] for name in BY_NAME if name in values}
    return (json.dumps({FORM_KEY: FORM, "settings": ordered}, indent=2) + "\n").encode()


def read_settings_file(data: bytes, name: str) -> Settings:
    """Return the settings of a file. LoraLabError where it is none, of another form, or holds a value out of bounds."""
    if len(data) > MAX_FILE_BYTES:
        raise LoraLabError(f"{name} has {len(data):,} bytes; settings have at most {MAX_FILE_BYTES:,}")
    try:
        found = read_json(data)
    except ValueError as error:
        raise LoraLabError(f"{name} is no file of settings: {error}") from error
    if not isinstance(found, dict) or FORM_KEY not in found or not isinstance(found.get("settings"), dict):
        raise LoraLabError(f'{name} is no file of settings; wanted {{"{FORM_KEY}": {FORM}, "settings": {{…}}}}')
    _check_form(found[FORM_KEY], name)
    return checked(found["settings"], name)


def _check_form(form: Any, where: str) -> None:
    if form is True or form != FORM:
        raise LoraLabError(f"{where} is of form {form!r:.40}; this version reads form {FORM}")


# ---------------------------------------------------------------------------------------------------- a link


def settings_fragment(values: Mapping[str, Any]) -> str:
    """Return settings as the end of a link, without its #."""
    parts = [f"{START}={FORM}"]
    parts += [f"{short}={_to_text(name, values[name])}" for name, short in SHORT.items() if name in values]
    text = "&".join(parts)
    return f"{text}&{CHECK}={_digest(text)}"


def read_fragment(text: str) -> Settings:
    """Return the settings at the end of a link. LoraLabError where it was cut off, or is none of this form."""
    where = "the link"
    text = text.strip().rpartition("#")[2]
    if len(text) > MAX_LINK_CHARACTERS:
        raise LoraLabError(f"{where} has {len(text):,} characters; one with settings has at most {MAX_LINK_CHARACTERS}")
    body, _, check = text.rpartition(f"&{CHECK}=")
    pairs = [part.partition("=") for part in (body or text).split("&")]
    if not pairs or pairs[0][0] != START:
        raise LoraLabError(f"{where} holds no settings; wanted #{START}={FORM}&…")
    _check_form(int(pairs[0][2]) if pairs[0][2].isascii() and pairs[0][2].isdigit() else pairs[0][2], where)
    if not body or check != _digest(body):
        raise LoraLabError(f"{where} was cut off or changed on its way: its checksum is another one. Copy it once more")
    names = {short: name for name, short in SHORT.items()}
    found: dict[str, Any] = {}
    for short, _, value in pairs[1:]:
        name = names.get(short, short)
        if name in found:
            raise LoraLabError(f"{where} holds {name} twice")
        found[name] = _from_text(name, unquote(value))
    return checked(found, where)


def _to_text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name == TARGETS.name:
        return "all" if tuple(value) == TARGET_LAYERS else ".".join(value)
    if isinstance(value, bool):
        return str(int(value))
    # repr gives a float's shortest text that is this float again.
    return quote(value if isinstance(value, str) else repr(value).removesuffix(".0"))


def _from_text(name: str, text: str) -> Any:
    setting = BY_NAME.get(name)
    if setting is None or setting.kind is str:
        return text or None
    if text == "":
        return None
    if setting.kind is tuple:
        return list(TARGET_LAYERS) if text == "all" else text.split(".")
    if setting.kind is bool:
        return {"0": False, "1": True}.get(text, text)
    try:
        return int(text) if text.isascii() and text.lstrip("-").isdigit() else float(text)
    except ValueError:
        return text


def _digest(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


# ---------------------------------------------------------------------------------------------------- a command


def train_command(
    values: Mapping[str, Any], data: Sequence[str], out: str, *, model: str | None = None,
    validation: Sequence[str] = (), mapping: str | None = None, encoding: str | None = None,
    template: str | None = None, begun_from: str | None = None, repair: bool = False, skip_bad_rows: bool = False,
) -> str:  # fmt: skip
    """Return the run as a command for a POSIX shell, every word quoted that needs it. `model` None: the built-in one.

    `template` is the file of its chat template, if it was one, `begun_from` the adapter that it goes on from.
    Paths that begin with a dash are written as ./-….
    """
    words = ["lora-lab", "train"]
    if model is not None:
        words += ["--model", _path(model)]
    words += ["--data", *map(_path, data), "--out", _path(out)]
    if validation:
        words += ["--val-file", *map(_path, validation)]
    if begun_from is not None:
        words += ["--init-adapter", _path(begun_from)]
    for option, value in (("--map", mapping), ("--encoding", encoding), ("--chat-template", template)):
        if value is not None:
            words.append(f"{option}={value}")
    left_out = {name for name, said in (("validation_fraction", validation), ("chat_format", template)) if said}
    values = {name: value for name, value in values.items() if name not in left_out}
    words += [flag for flag, is_on in (("--repair", repair), ("--skip-bad-rows", skip_bad_rows)) if is_on]
    for option, value in as_options(values).items():
        words += [option] if value is True else [option, _word(value)]
    return shlex.join(words)


def run_command(record: RunRecord, out: str) -> str:
    """Return the command that does a recorded run again, into the folder `out`.

    The files are named as they were called: it is to be run where they lie.
    """
    data = record.data
    return train_command(
        record.settings, [one.name for one in data.files] or [data.name], out, model=record.model.source or None,
        validation=[one.name for one in data.validation_files], mapping=data.mapping or None,
        encoding=data.encoding or None, template=data.template or None, begun_from=record.begun_from or None,
        repair=data.repaired, skip_bad_rows=data.without_bad_rows,
    )  # fmt: skip


def _path(name: str) -> str:
    return f"./{name}" if name.startswith("-") else name


def _word(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return ",".join(value)
    return value if isinstance(value, str) else repr(value)
