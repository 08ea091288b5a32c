"""The table of settings: it and the frozen settings name the same things; its checks and its warnings say when."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import MISSING, FrozenInstanceError, fields
from typing import Any, get_args, get_type_hints

import pytest

from build_tools.base import ROOT
from lora_lab import settings
from lora_lab.config import LoraConfig, SamplingConfig, TrainConfig
from lora_lab.setting_schema import Bounds, Setting, plain
from lora_lab.settings import SAMPLING, TRAINING, Auto
from lora_lab.workers.protocol import Sampling, TrainSettings

# What nobody is asked for: PEFT's file or the model's says it, or it is Adam's.
UNSEEN = {"beta1", "beta2", "adam_eps", "use_rslora", "stop_token_ids"}
EVERY = (*TRAINING, *SAMPLING, settings.STRENGTH)


def default_of(kind: Any, name: str) -> Any:
    """The default of a dataclass's field; MISSING where it must be given."""
    return next(one for one in fields(kind) if one.name == name).default


def without_none(hint: Any) -> set[Any]:
    return {kind for kind in get_args(hint) or (hint,) if kind is not type(None)}


@pytest.mark.parametrize(
    ("kinds", "table"),
    [((LoraConfig, TrainConfig), TRAINING), ((SamplingConfig,), SAMPLING)],
    ids=["training", "sampling"],
)
def test_the_table_has_every_setting_of_the_engine_and_the_other_way_round(kinds: tuple, table: tuple) -> None:
    in_engine = {one.name for kind in kinds for one in fields(kind)} - UNSEEN
    assert in_engine == {setting.config_name for setting in table if setting.config_name}
    for setting in table:
        for kind in kinds:
            if setting.config_name in {one.name for one in fields(kind)}:
                hint = get_type_hints(kind)[setting.config_name]
                wanted = setting.default << 20 if setting.unit == "MiB" else setting.default
                if setting.values == tuple(settings.SWITCH):
                    assert hint == Auto, setting.name
                    wanted = settings.SWITCH[wanted]
                elif setting.kind is str:
                    assert get_args(hint) == setting.values
                elif setting.kind is tuple:
                    assert hint == tuple[str, ...]
                else:
                    assert without_none(hint) == {setting.kind}, setting.name
                assert default_of(kind, setting.config_name) == wanted, setting.name


@pytest.mark.parametrize(("kind", "table"), [(TrainSettings, TRAINING), (Sampling, SAMPLING)])
def test_the_table_has_every_setting_of_the_page_and_the_other_way_round(kind: Any, table: tuple) -> None:
    on_page = [setting for setting in table if setting.on_page]
    assert {one.name for one in fields(kind)} == {setting.name for setting in on_page}
    for setting in on_page:
        hint, default = get_type_hints(kind)[setting.name], default_of(kind, setting.name)
        if setting.kind is tuple:
            assert hint == tuple[str, ...]
        else:
            assert without_none(hint) == {setting.kind}
        may_be_empty = kind is TrainSettings and bool(setting.empty)  # a reply's seed is drawn by the page
        assert (type(None) in get_args(hint)) is may_be_empty, setting.name
        assert default is MISSING or default == (None if may_be_empty else setting.default), setting.name


def test_a_setting_is_told_apart_by_its_names() -> None:
    for table in (TRAINING, SAMPLING):
        for name in ("name", "config_name", "form_name", "option", "label"):
            given = [getattr(setting, name) for setting in table if getattr(setting, name)]
            assert len(given) == len(set(given)), name


@pytest.mark.parametrize("setting", EVERY, ids=lambda setting: setting.name)
def test_a_setting_is_of_one_piece(setting: Setting) -> None:
    assert setting.label and setting.help and setting.term != setting.label
    for default in {setting.default, setting.first} - {None}:
        assert setting.kind is float or isinstance(default, setting.kind)
        assert setting.problem(default) is None
    if setting.kind in (int, float):
        assert setting.bounds.hold(setting.form_bounds.least) or setting.bounds.above
        assert setting.form_bounds.most <= setting.bounds.most
        for usual in setting.usual or ():
            assert setting.bounds.hold(usual) and setting.form_bounds.hold(usual)
    for caution in setting.cautions:
        assert sum(abs(limit) < float("inf") for limit in (caution.above, caution.least, caution.below)) == 1


def test_the_table_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        settings.RANK.default = 8  # type: ignore[misc]


def test_the_table_needs_nothing_but_python() -> None:
    """The build reads it with a bare Python, and `lora-lab --help` shall answer at once."""
    program = "import sys, lora_lab.settings as s; print(sorted(n for n in sys.modules if n.startswith('lora_lab')), " \
              "[n for n in ('numpy', 'jinja2', 'tqdm', 'wgpu') if n in sys.modules])"  # fmt: skip
    command = [sys.executable, "-S", "-c", program]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT / "app" / "py")
    assert told.stdout == "['lora_lab', 'lora_lab.setting_schema', 'lora_lab.settings'] []\n"


@pytest.mark.parametrize(
    ("bounds", "within", "beyond"),
    [
        (Bounds(1, 3), (1, 3), (0, 4, float("nan"), float("inf"))),
        (Bounds(0, 1, above=True), (1e-9, 1), (0, -1)),
        (Bounds(0, 1, below=True), (0, 0.99), (1,)),
        (Bounds(), (-1e30, 1e30), (float("nan"),)),
    ],
)
def test_bounds(bounds: Bounds, within: tuple, beyond: tuple) -> None:
    assert all(bounds.hold(value) for value in within)
    assert not any(bounds.hold(value) for value in beyond)


@pytest.mark.parametrize(
    ("value", "text"),
    [(8192, "8,192"), (0.0, "0"), (32, "32"), (0.7, "0.7"), (2e-4, "2e-4"), (1.5e-5, "1.5e-5"), (0.01, "0.01"),
     (1e30, "1e30"), (62500.0, "62,500"), ("auto", "auto"), (float("inf"), "inf")],
)  # fmt: skip
def test_numbers_as_people_write_them(value: Any, text: str) -> None:
    assert plain(value) == text


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"learning_rate": 1.0}, ["A learning rate of 1 is hundreds of times the usual (1e-5 to 2e-3): the model will "
                                  "fall apart at once."]),
        ({"learning_rate": 0.01}, ["A learning rate of 0.01 is very high: the model will probably fall apart."]),
        ({"learning_rate": 5e-3}, []),
        ({"learning_rate": 1e-6}, []),
        ({"learning_rate": 1e-7}, ["A learning rate of 1e-07 is so low that hardly anything will change."]),
        ({"epochs": 20.0}, []),
        ({"epochs": 21.0}, ["21 passes through the same rows: the model will learn them by heart."]),
        ({"epochs": 1234.0}, ["1,234 passes through the same rows, where 1 to 10 are usual: the model will say them by "
                              "heart and unlearn other things."]),
        ({"rank": 128}, []),
        ({"rank": 256}, ["A rank of 256 is beyond the usual 4 to 128: it takes memory and time, and seldom learns "
                         "more."]),
        ({"alpha": 1e6, "scale": 62500.0}, ["An alpha of 1e+06 is no usual one (often it is twice the rank): the "
                                            "adapter will drown the model."]),
        ({"alpha": 512, "scale": 32.0}, ["The adapter's scale, alpha / rank, is 32; usual are 0.5 to 4: each step "
                                         "moves the model that much more, and it may fall apart."]),
        ({"alpha": 1, "scale": 0.0625}, ["The adapter's scale, alpha / rank, is 0.0625; usual are 0.5 to 4: what it "
                                         "learns will hardly be heard."]),
        ({"alpha": 32, "scale": 2.0}, []),
        ({"alpha": 1e6, "learning_rate": 2.0, "epochs": 60.0}, ["An alpha of", "60 passes", "A learning rate of 2"]),
    ],
)  # fmt: skip
def test_what_deserves_a_second_thought(values: dict[str, float], words: list[str]) -> None:
    said = settings.cautions(values)
    assert [line[: len(wanted)] for line, wanted in zip(said, words, strict=True)] == words
