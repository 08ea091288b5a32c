"""How long a run takes, measured before it; and that a run may begin in the middle of anything done ahead of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.lab import START_MS, TRAIN_MS, Lab

TIME = re.compile(r"^About \d+ (s|min \d\d s) on this GPU \(measured: [\d.]+ (ms|s) a step, [\d,.]+ tokens/s\)\.$")


def planned(lab: Lab, ships: Path) -> None:
    """Bring the page to where a run is planned."""
    lab.wait_for_model()
    lab.drop_data(ships)
    lab.set(steps=5, lr="1e-2", batch=4, seed=3, rank=8)
    expect(lab.part("measure-time")).to_be_visible(timeout=START_MS)
    lab.page.wait_for_timeout(600)  # the plan of the last setting


def measure(lab: Lab) -> str:
    lab.part("measure-time").click()
    expect(lab.part("plan-time")).to_have_text(TIME, timeout=TRAIN_MS)
    return lab.text("plan-time")


def run(lab: Lab) -> list[float]:
    lab.start()
    lab.wait_for_phase("done")
    return lab.losses()


def test_the_time_is_measured_when_asked_for_and_changes_no_loss(open_lab: Callable[[], Lab], ships: Path) -> None:
    lab = open_lab()
    planned(lab, ships)
    # A software device is not asked by itself.
    lab.page.wait_for_timeout(1500)
    assert lab.text("plan-time") == ""
    told = measure(lab)
    expect(lab.part("measure-time")).to_be_hidden()
    # What changes no time leaves it there; what does takes it away, and brings it back when it is as it was.
    lab.set(lr="2e-2")
    lab.page.wait_for_timeout(1000)
    assert lab.text("plan-time") == told
    lab.set(rank=4)
    expect(lab.part("measure-time")).to_be_visible(timeout=START_MS)
    assert lab.text("plan-time") == ""
    lab.set(lr="1e-2", rank=8)
    expect(lab.part("plan-time")).to_have_text(told, timeout=START_MS)
    after_trial = run(lab)
    assert len(after_trial) == 5
    again = run(lab)
    assert again == after_trial


def test_train_pressed_in_the_middle_of_a_trial(open_lab: Callable[[], Lab], ships: Path) -> None:
    lab = open_lab()
    planned(lab, ships)
    lab.part("measure-time").click()
    expect(lab.part("plan-time")).to_have_text(re.compile("Measuring"))
    in_the_middle = run(lab)
    assert len(in_the_middle) == 5
    assert "Measuring" not in lab.text("plan-time")
    assert run(lab) == in_the_middle


def test_train_and_stop_pressed_at_once_while_kernels_are_compiled(open_lab: Callable[[], Lab], ships: Path) -> None:
    lab = open_lab()
    lab.wait_for_model()
    lab.drop_data(ships)
    lab.set(steps=300, lr="1e-2", batch=4, seed=3)
    lab.start()
    lab.part("train-stop").click(timeout=START_MS)
    status = lab.part("train-status")
    expect(status).to_have_attribute("data-state", re.compile("^(idle|done)$"), timeout=TRAIN_MS)
    assert int((lab.text("train-step").split("/")[0].strip() or "0").replace("–", "0")) < 300
    lab.set(steps=5)
    assert len(run(lab)) == 5
