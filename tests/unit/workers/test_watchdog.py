"""The page's watchdog (app/web/link/watchdog.ts) under Node: who is given up, after how long, and who is left alone."""

from __future__ import annotations

from tests.web import run_module

FAKE_CLOCK = "let tick; globalThis.setInterval = (work) => { tick = work; };"
DRIVER = """
const told = [];
let asked = 0, seconds = 0;
const dog = new page.Watchdog({ ask: () => (asked += 1), giveUp: (...why) => told.push(why) });
for (const step of STEPS) {
  if (step === "begin") dog.begin();
  else if (typeof step === "number") for (let i = 0; i < step && !told.length; i++) tick(), seconds += 2;
  else dog.heard(step);
}
answer({ told, asked, seconds });
"""
READY, PONG = {"type": "ready"}, {"type": "pong"}
LONG = {"type": "busy", "what": "reading the model", "most_s": 60}
OVER = {"type": "busy", "what": "", "most_s": 0}


def watch(*steps: object) -> dict:
    """Let the dog live through these: seconds/2 of silence as numbers, messages as dicts."""
    told: dict = run_module("link/watchdog.ts", DRIVER, before=FAKE_CLOCK, more={"STEPS": steps})
    return told


def test_one_that_is_silent_is_given_up_within_ten_seconds() -> None:
    told = watch(READY, 100)
    assert told["told"] == [[10, ""]] and told["seconds"] <= 10 and told["asked"] == 4


def test_one_that_answers_is_left_alone() -> None:
    told = watch(READY, *[4, PONG] * 50)
    assert told["told"] == [] and told["asked"] == 200


def test_work_that_was_announced_has_its_time_and_no_more() -> None:
    assert watch(READY, LONG, 34, PONG, 4)["told"] == []
    assert watch(READY, LONG, 100)["told"] == [[70, "reading the model"]]
    assert watch(READY, LONG, OVER, 100)["told"] == [[10, ""]]


def test_one_that_has_not_started_has_three_minutes_and_a_new_one_begins_anew() -> None:
    assert watch(90)["told"] == [] and watch(200)["told"] == [[182, ""]]
    assert watch(READY, 4, "begin", 90)["told"] == []


def test_one_that_has_said_that_it_is_dead_is_not_given_up_besides() -> None:
    assert watch(READY, {"type": "fatal"}, 100)["told"] == []
