"""The protocol: every message there and back, and the page's JavaScript held against the list in protocol/."""

from __future__ import annotations

import json
import re
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from lora_lab.workers import protocol
from lora_lab.workers.protocol import (
    COMMANDS,
    EVENTS,
    ApplyAdapter,
    OpenModel,
    StartTraining,
    TrainSettings,
)
from lora_lab.workers.wire.codec import ProtocolError, from_dict, from_wire, to_dict, to_wire

WEB = Path(__file__).parents[3] / "app" / "web"
SETTINGS = TrainSettings(10, 8, 2e-4, 16, 32, 128, 0, ("q_proj", "v_proj"))


def test_a_command_survives_the_wire() -> None:
    command = StartTraining(SETTINGS, accept_problems=True)
    wire = json.loads(json.dumps(to_wire(command)))
    assert wire["type"] == "start_training"
    assert wire["settings"]["targets"] == ["q_proj", "v_proj"]
    assert from_wire(wire) == command


def test_bytes_and_files_go_as_they_are() -> None:
    blob = object()
    opened = from_wire({"type": "open_model", "files": [{"name": "a/config.json", "blob": blob}]})
    assert isinstance(opened, OpenModel) and opened.files is not None
    assert opened.files[0].blob is blob
    applied = from_wire({"type": "apply_adapter", "id": "1", "name": "n", "files": {"a": memoryview(b"xy")}})
    assert isinstance(applied, ApplyAdapter)
    assert applied.files == {"a": b"xy"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"type": "start_trainings"}, "start_trainings"),
        ({"settings": {"steps": 1}}, "missing"),
        ({"extra": 1}, "extra"),
        ({"settings": {**to_dict(SETTINGS), "steps": 1.5}}, "settings.steps"),
        ({"settings": {**to_dict(SETTINGS), "steps": True}}, "settings.steps"),
        ({"settings": {**to_dict(SETTINGS), "targets": "q_proj"}}, "settings.targets"),
        ({"settings": {**to_dict(SETTINGS), "learning_rate": "2e-4"}}, "settings.learning_rate"),
    ],
)
def test_a_wrong_message_is_named(change: dict, named: str) -> None:
    with pytest.raises(ProtocolError, match=re.escape(named)):
        from_wire({"type": "start_training", "settings": to_dict(SETTINGS), **change})


def test_javascript_numbers_are_taken() -> None:
    wire = to_wire(StartTraining(SETTINGS))
    wire["settings"].update(steps=10.0, alpha=32, learning_rate=1)  # JavaScript has one kind of number
    command = from_wire(wire)
    assert isinstance(command, StartTraining)
    assert (command.settings.steps, type(command.settings.steps)) == (10, int)
    assert type(command.settings.learning_rate) is float


def test_every_message_is_listed_and_documented_parts_are_dataclasses() -> None:
    kinds = [value for value in vars(protocol).values() if isinstance(value, type) and is_dataclass(value)]
    of = {base: [kind for kind in kinds if issubclass(kind, base)] for base in (protocol.Command, protocol.Event)}
    assert set(of[protocol.Command]) == set(COMMANDS)
    assert set(of[protocol.Event]) == set(EVENTS)


def test_stored_parts_come_back() -> None:
    info = protocol.AdapterInfo(
        "1", "name", "2026-01-01", "base", "data", 10, 20, 16, 32.0, ("q_proj",), 100, loss_curve=((1, 2.5), (2, 2.0)),
        sample_answers=(protocol.SampleAnswer("q", "a", "b"),),
    )  # fmt: skip
    assert from_dict(protocol.AdapterInfo, json.loads(json.dumps(to_dict(info)))) == info


# --- the page's side: that what it sends and reads is right in kind, tsc says (tests/unit/build_tools/test_page.py) ---


def sources() -> str:
    paths = [path for path in WEB.rglob("*.ts*") if path.name != "protocol.ts"]
    assert len(paths) > 10
    return "\n".join(path.read_text() for path in sorted(paths))


def test_the_page_sends_every_command() -> None:
    sent = set(re.findall(r"\b(?:train|chat)\.send\(\s*\"(\w+)\"", sources()))
    known = {command.wire_type() for command in COMMANDS}
    # For scripts (the page's fields say themselves what they take); and the watchdog's, which goes out beside the queue
    # of `send` (link.ts).
    assert known - sent == {"read_logits", "check_sampling", "ping"} and sent <= known


def test_the_page_hears_every_event() -> None:
    heard = set(re.findall(r"^    (\w+)(?:: |,$)", sources(), re.MULTILINE))  # in an area's table
    heard |= set(re.findall(r"type === \"(\w+)\"", (WEB / "link" / "watchdog.ts").read_text()))
    known = {event.wire_type() for event in EVENTS}
    # For scripts. The page counts an adapter as applied when it has sent it: commands are answered in order.
    assert known - heard == {"logits", "adapter_applied", "sampling_checked", "pong"}


def test_every_setting_of_the_form_has_a_field() -> None:
    page = (WEB / "templates" / "train.html").read_text()
    for field in fields(TrainSettings):
        assert f"settings.{field.name.upper()}" in page, field.name
