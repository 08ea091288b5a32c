"""Settings travel: file, link and command give back what went in; what cannot be used is refused by name."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_lab.cli import main as cli
from lora_lab.config import TrainConfig
from lora_lab.errors import LoraLabError
from lora_lab.evaluation.record import record_bytes
from lora_lab.evaluation.settings_travel import (
    SHORT,
    read_fragment,
    read_settings_file,
    settings_file,
    settings_fragment,
    train_command,
)
from lora_lab.evaluation.settings_values import MAY_BE_NONE, as_options, checked, for_page
from lora_lab.formats.peft import RUN_FILE
from lora_lab.setting_schema import Setting
from lora_lab.settings import ALL_LAYERS, TRAINING
from tests.unit.evaluation.records import record

WHOLE: dict[str, Any] = {
    "rank": 8, "alpha": 16.0, "targets": ("q_proj", "v_proj"), "steps": 60, "learning_rate": 0.002,
    "schedule": "linear", "warmup_steps": None, "batch": 8, "rows_at_once": 2, "packing": "off", "max_length": 128,
    "save_memory": True,
    "weight_decay": 0.01, "max_grad_norm": 0.0, "seed": 7, "shuffle": False, "validation_fraction": 0.1,
    "checkpoint_every": 0, "masking": "last", "on_long": "drop", "chat_format": "chatml", "mix_neutral": 0.25,
    "neutral": "off",
}  # fmt: skip


def values_of(setting: Setting) -> st.SearchStrategy[Any]:
    """Return any value that the setting may have."""
    least, most = max(setting.bounds.least, -1e30), min(setting.bounds.most, 1e30)
    if setting.kind is tuple:
        found: st.SearchStrategy[Any] = st.sets(st.sampled_from(ALL_LAYERS), min_size=1).map(
            lambda chosen: tuple(name for name in ALL_LAYERS if name in chosen)
        )
    elif setting.kind is str:
        found = st.sampled_from(setting.values)
    elif setting.kind is bool:
        found = st.booleans()
    elif setting.kind is int:
        found = st.integers(int(least), int(min(most, 2**53)))
    else:
        found = st.floats(least, most, exclude_min=setting.bounds.above, exclude_max=setting.bounds.below)
    return st.none() | found if setting.name in MAY_BE_NONE else found


ANY = st.fixed_dictionaries({}, optional={one.name: values_of(one) for one in TRAINING}).filter(
    lambda values: not values.get("rows_at_once") or (values.get("batch") or 0) % values["rows_at_once"] == 0
)


@given(ANY)
def test_a_file_and_a_link_give_back_what_went_in(values: dict[str, Any]) -> None:
    ordered = {one.name: values[one.name] for one in TRAINING if one.name in values}
    for found in (read_settings_file(settings_file(values), "s.json"), read_fragment("#" + settings_fragment(values))):
        assert found.values == ordered
        assert found.remarks == ()


def test_every_setting_has_a_short_name_of_its_own_for_ever() -> None:
    assert set(SHORT) == {setting.name for setting in TRAINING}
    assert len(set(SHORT.values())) == len(SHORT)
    # A link that somebody keeps: it reads as long as the form is 1.
    kept = (
        "settings=1&r=8&a=16&t=q_proj.v_proj&s=60&l=0.002&sc=linear&w=&b=8&ro=2&p=off&m=128&sm=1&wd=0.01&g=0&se=7&sh=0&"
        "v=0.1&ce=0&mk=last&ol=drop&cf=chatml&mx=0.25&n=off&c=f56f87c7"
    )
    assert settings_fragment(WHOLE) == kept
    assert read_fragment(f"https://example.org/lab/?model=tiny#{kept}").values == WHOLE


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda link: link[:-20], "cut off"),
        (lambda link: link.replace("s=60", "s=61", 1), "cut off or changed"),
        (lambda link: link.replace("settings=1", "settings=2"), "of form 2"),
        (lambda link: link.replace("settings=1", "settings=one"), "of form 'one'"),
        (lambda link: "section-3", "holds no settings"),
        (lambda link: link + "&x=" + "y" * 3000, "characters"),
        (lambda link: "", "holds no settings"),
    ],
)
def test_a_link_that_is_none_says_why(change: Any, said: str) -> None:
    with pytest.raises(LoraLabError, match=said):
        read_fragment(change(settings_fragment(WHOLE)))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no file of settings"),
        (b"[]", "no file of settings; wanted"),
        (b'{"settings": {}}', "no file of settings; wanted"),
        (b'{"lora_lab_settings": true, "settings": {}}', "of form True"),
        (b'{"lora_lab_settings": 2, "settings": {}}', "of form 2"),
        (b'{"lora_lab_settings": 1, "settings": {"rank": 0}}', "rank is 0; wanted a whole number from 1 to 1,048,576"),
        (b'{"lora_lab_settings": 1, "settings": {"rank": 1.5, "seed": "x"}}', "rank is 1.5.*seed is 'x'"),
        (b'{"lora_lab_settings": 1, "settings": {"rank": NaN}}', "rank is nan"),
        (b'{"lora_lab_settings": 1, "settings": {"rank": null}}', "rank is None"),
        (b'{"lora_lab_settings": 1, "settings": {"rank": true}}', "rank is True"),
        (b'{"lora_lab_settings": 1, "settings": {"learning_rate": 1e999}}', "learning_rate is inf"),
        (b'{"lora_lab_settings": 1, "settings": {"targets": ["q_proj", "rm -rf"]}}', "wanted some of q_proj"),
        (b'{"lora_lab_settings": 1, "settings": {"targets": []}}', "wanted some of q_proj"),
        (b'{"lora_lab_settings": 1, "settings": {"targets": [["q_proj"]]}}', "wanted some of q_proj"),
        (b'{"lora_lab_settings": 1, "settings": {"shuffle": 1}}', "true or false"),
        (b'{"lora_lab_settings": 1, "settings": {"masking": ["last"]}}', "one of assistant, last, all"),
        (b'{"lora_lab_settings": 1, "settings": {"batch": 8, "rows_at_once": 3}}', "divisor of batch, which is 8"),
        (b"[" * 60_000, "no file of settings"),
        (b" " * 70_000, "settings have at most 65,536"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(data: bytes, said: str) -> None:
    with pytest.raises(LoraLabError, match=f"(?s)^s.json.*{said}"):
        read_settings_file(data, "s.json")


def test_names_that_are_no_settings_are_told_and_left_out() -> None:
    found = checked({"rank": 4, "dropout": 0.1, **{f"x{i}": 1 for i in range(20)}}, "s.json")
    assert found.values == {"rank": 4}
    (remark,) = found.remarks
    assert "'dropout'" in remark and "and 11 more" in remark and len(remark) < 300


def test_what_only_the_command_line_has_is_told_on_the_page() -> None:
    found = for_page(checked({"epochs": 2, "recompute": "on", "activation_memory": 100, "rank": 4}, "s.json"))
    assert found.values == {"rank": 4, "save_memory": True}
    assert len(found.remarks) == 2 and "Rows" not in found.remarks[0]


# --- the command line ---


def parsed(*arguments: str) -> Any:
    return cli.parse(["train", "--model", "m", "--data", "d", "--out", "o", *arguments])


def test_the_command_means_the_same_run() -> None:
    command = train_command(WHOLE, ["ships and seas.jsonl", "-x.csv"], "my 'adapter'", model="hf:a/b")
    words = shlex.split(command)
    assert words[:2] == ["lora-lab", "train"]
    options = cli.parse(words[1:])
    assert [str(path) for path in options.data] == ["ships and seas.jsonl", "-x.csv"]
    assert (str(options.out), options.model) == ("my 'adapter'", "hf:a/b")
    assert cli.train_config(options) == TrainConfig(
        steps=60, batch=2, accumulate=4, learning_rate=0.002, schedule="linear", packing=False, max_length=128,
        recompute=True, weight_decay=0.01, max_grad_norm=0.0, seed=7, shuffle=False, validation_fraction=0.1,
    )  # fmt: skip
    assert (options.rank, options.alpha, options.targets) == (8, 16.0, ("q_proj", "v_proj"))
    assert (options.mask, options.on_long, options.chat_template) == ("last", "drop", "chatml")
    assert (options.checkpoint_every, options.mix_neutral, options.neutral) == (0, 0.25, "off")


def test_what_the_data_was_read_with_is_part_of_the_command() -> None:
    command = train_command(
        WHOLE, ["d.csv"], "o", validation=["v.csv"], mapping='prompt="a, b", reply=c', encoding="cp1252",
        repair=True, skip_bad_rows=True, template="own.jinja",
    )  # fmt: skip
    options = cli.parse(shlex.split(command)[1:])
    assert (options.map, options.encoding, options.repair, options.skip_bad_rows) == (
        'prompt="a, b", reply=c', "cp1252", True, True,
    )  # fmt: skip
    assert [str(path) for path in options.val_file] == ["v.csv"] and options.val_fraction == 0
    assert options.chat_template == "own.jinja"


@pytest.mark.parametrize(
    "hostile", ["; rm -rf ~", "$(reboot)", "`id`", "a\nb", "'\"'", "--steps", "-", "~", "*", "ünï"]
)
def test_no_name_can_leave_its_quotes(hostile: str, tmp_path: Path) -> None:
    import subprocess

    command = train_command({"steps": 1}, [hostile], hostile, model=hostile, mapping=hostile)
    shown = subprocess.run(
        ["bash", "-c", f"lora-lab() {{ printf '%s\\0' \"$@\"; }}; {command}"], capture_output=True, check=True,
        cwd=tmp_path,
    ).stdout.decode()  # fmt: skip
    path = f"./{hostile}" if hostile.startswith("-") else hostile
    assert shown.split("\0")[:-1] == [
        "train", "--model", path, "--data", path, "--out", path, f"--map={hostile}", "--steps", "1",
    ]  # fmt: skip


def test_settings_of_a_file_take_the_place_of_defaults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "settings.json"
    file.write_bytes(settings_file(WHOLE))
    with_file = parsed("--settings", str(file))
    without = cli.parse(shlex.split(train_command(WHOLE, ["d"], "o", model="m"))[1:])
    assert {**vars(with_file), "settings": None} == vars(without)
    # What is given beside the file counts more, also where it says the same in another way.
    more = parsed("--settings", str(file), "--rank", "4", "--epochs", "2", "--batch", "3", "--val-file", "v")
    config = cli.train_config(more)
    assert (more.rank, config.steps, config.epochs, config.batch, config.accumulate) == (4, None, 2.0, 3, 1)
    assert (config.validation_fraction, config.learning_rate) == (0, 0.002)
    (tmp_path / RUN_FILE).write_bytes(record_bytes(record(settings=WHOLE)))
    from_record = parsed("--settings", str(tmp_path / RUN_FILE))
    assert {**vars(from_record), "settings": None} == vars(without)
    file.write_text(json.dumps({"lora_lab_settings": 1, "settings": {"dropout": 1}}))
    assert parsed("--settings", str(file)).rank is None
    assert "'dropout'" in capsys.readouterr().err


def test_a_file_that_is_none_ends_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "settings.json"
    file.write_text("{}")
    assert cli.main(["train", "--model", "m", "--data", "d", "--out", "o", "--settings", str(file)]) == 1
    assert "no file of settings" in capsys.readouterr().err
    assert cli.main(["train", "--model", "m", "--data", "d", "--out", "o", "--settings", "gone.json"]) == 1
    assert "gone.json: No such file" in capsys.readouterr().err


def test_options_without_a_value_are_left_out() -> None:
    assert as_options({"steps": None, "epochs": 2.0, "warmup_steps": None, "shuffle": True}) == {"--epochs": 2.0}
    assert as_options({"steps": 5, "epochs": 2.0, "save_memory": False}) == {"--steps": 5}
