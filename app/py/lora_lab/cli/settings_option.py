"""`lora-lab train --settings FILE`: a file's settings in place of the options' defaults."""

from __future__ import annotations

import argparse
from typing import Any

from lora_lab.cli.terminal import say
from lora_lab.evaluation.record import read_record
from lora_lab.evaluation.settings_travel import read_settings_file
from lora_lab.evaluation.settings_values import Settings, as_options
from lora_lab.formats.peft import RUN_FILE


def defaults_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the defaults that a file of settings or a run's record gives, by dest; tell what of it was not taken.

    `options` are what the arguments give without it: where they say the same in another way, the file's is left out.
    Raises LoraLabError or OSError, naming the file.
    """
    data, name = options.settings.read_bytes(), str(options.settings)
    is_record = options.settings.name == RUN_FILE
    found = Settings(read_record(data, name).settings) if is_record else read_settings_file(data, name)
    for remark in found.remarks:
        say(f"Warning: {remark}")
    values = dict(found.values)
    instead = {
        "epochs": ("steps", "epochs"),
        "batch": ("batch", "rows_at_once", "accumulate"),
        "accumulate": ("batch", "rows_at_once", "accumulate"),
        "val_file": ("validation_fraction",),
    }
    for dest, names in instead.items():
        if getattr(options, dest) is not None:
            for name in names:
                values.pop(name, None)
    return {option.lstrip("-").replace("-", "_"): value for option, value in as_options(values).items()}
