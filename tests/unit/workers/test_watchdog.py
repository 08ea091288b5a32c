"""The page's watchdog (app/web/watchdog.js) under Node: who is given up, after how long, and who is left alone."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from build_tools.environment import search_path

WATCHDOG = Path(__file__).parents[3] / "app" / "web" / "watchdog.js"
DRIVER = """
let tick;
globalThis.setInterval = (work) => { tick = work; };
const { Watchdog } = await import(URL);
const told = [];
let asked = 0;
const dog = new Watchdog({ ask: () => (asked += 1), giveUp: (...why) => told.push(why) });
for (const step of STEPS) {
  if (step === "begin") dog.begin();
  else if (typeof step === "number") for (let i = 0; i < step && !told.length; i++) tick(), seconds += 2;
  else dog.heard(step);
}
console.log(JSON.stringify({ told, asked, seconds }));
"""
READY, PONG = {"type": "ready"}, {"type": "pong"}
LONG = {"type": "busy", "what": "reading the model", "most_s": 60}
OVER = {"type": "busy", "what": "", "most_s": 0}


@pytest.fixture(scope="module")
def node() -> str:
    found = shutil.which("node", path=search_path())
    assert found, "no node"
    return found


def watch(node: str, *steps: object) -> dict:
    """Let the dog live through these: seconds/2 of silence as numbers, messages as dicts."""
    script = "let seconds = 0;" + DRIVER.replace("URL", json.dumps(WATCHDOG.as_uri())).replace(
        "STEPS", json.dumps(steps)
    )
    done = subprocess.run([node, "--input-type=module", "-e", script], capture_output=True, text=True, check=True)
    told: dict = json.loads(done.stdout)
    return told


def test_one_that_is_silent_is_given_up_within_ten_seconds(node: str) -> None:
    told = watch(node, READY, 100)
    assert told["told"] == [[10, ""]] and told["seconds"] <= 10 and told["asked"] == 4


def test_one_that_answers_is_left_alone(node: str) -> None:
    told = watch(node, READY, *[4, PONG] * 50)
    assert told["told"] == [] and told["asked"] == 200


def test_work_that_was_announced_has_its_time_and_no_more(node: str) -> None:
    assert watch(node, READY, LONG, 34, PONG, 4)["told"] == []
    assert watch(node, READY, LONG, 100)["told"] == [[70, "reading the model"]]
    assert watch(node, READY, LONG, OVER, 100)["told"] == [[10, ""]]


def test_one_that_has_not_started_has_three_minutes_and_a_new_one_begins_anew(node: str) -> None:
    assert watch(node, 90)["told"] == [] and watch(node, 200)["told"] == [[182, ""]]
    assert watch(node, READY, 4, "begin", 90)["told"] == []


def test_one_that_has_said_that_it_is_dead_is_not_given_up_besides(node: str) -> None:
    assert watch(node, READY, {"type": "fatal"}, 100)["told"] == []
