"""A run as a person watches it. A scripted worker says what a run would: answers, losses, how it ended."""

from __future__ import annotations

import math
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.scripted import ScriptedLab

TOTAL = 60
VALIDATIONS = {0: (2.6, 0.31), 12: (1.4, 0.52), 24: (0.9, 0.66), 36: (0.71, 0.74), 48: (0.78, 0.73), 60: (0.92, 0.7)}
PROMPTS = {
    "What is the lighthouse robot called?": "Its name is Pharo.",
    "When was the light of Tern Point first lit?": "In 1874.",
    "Who keeps the lamp when Pharo is being mended?": None,
}
SAID = ("I am a language model and cannot know.", "The robot is a lamp.", "Its name is Pharos.", "Its name is Pharo.")


class Run:
    """Says to the page what the train worker would say of a run of TOTAL steps."""

    def __init__(self, lab: ScriptedLab) -> None:
        self.lab = lab

    def say(self, kind: str, **event: Any) -> None:
        self.lab.worker("train").evaluate("(event) => self.postMessage(event)", {"type": kind, **event})

    def state(self, state: str, done: int = 0) -> None:
        self.say("training_state", state=state, detail="", done=done, total=TOTAL)

    def begin(self) -> None:
        self.state("loading")
        probes = [{"prompt": prompt, "messages": [], "reference": data} for prompt, data in PROMPTS.items()]
        self.say("sample_prompts", prompts=probes, chosen=True)
        self.say("memory_in_use", in_use_bytes=1_400_000_000, peak_bytes=1_500_000_000)
        self.state("training")

    def answer(self, step: int) -> None:
        for index, (prompt, data) in enumerate(PROMPTS.items()):
            text = "" if index == 2 and step == 0 else SAID[min(3, step // 12)]
            self.say("sample_answered", step=step, index=index, prompt=prompt, expected=data, text=text,
                     is_cut=index == 1 and step == 24, problem="")  # fmt: skip

    def go(self, first: int, last: int) -> None:
        """Do the steps from one to another, with their answers and validations."""
        for step in range(first, last + 1):
            if step:
                loss = 0.3 + 2.4 * math.exp(-step / 12) + 0.12 * math.sin(7 * step)
                self.say("training_step", step=step, total_steps=TOTAL, loss=loss, grad_norm=1.2 + 0.4 * math.cos(step),
                         learning_rate=2e-4 * math.sin(math.pi * step / TOTAL), trained_tokens=100,
                         tokens_per_s=1480.0 + 40 * math.sin(step), elapsed_ms=900.0,
                         left_ms=900.0 * (TOTAL - step))  # fmt: skip
            if step in VALIDATIONS:
                loss, accuracy = VALIDATIONS[step]
                self.say("validation_loss", step=step, loss=loss, perplexity=math.exp(loss), accuracy=accuracy)
                self.answer(step)

    def end(self, verdict: dict[str, Any] | None = None) -> None:
        shared = {"dataset": "ships.jsonl", "rows": 60, "rank": 8, "alpha": 16, "targets": ["q_proj"], "size_bytes": 1,
                  "created_at": "2026-01-02T03:04:05Z", "base_model": "m", "loss_curve": [], "validation_curve": [],
                  "sample_answers": [], "model_shape": "", "imported": False, "learning_rate": 1e-3, "fits": True,
                  "recomputed_layers": 0, "final_loss": 0.5, "chat_format": "", "notes": ""}  # fmt: skip
        best, last = ({**shared, "id": id, "name": id, "steps": steps} for id, steps in (("best", 36), ("last", TOTAL)))
        self.say("adapter_list", adapters=[best, last])
        if verdict:
            self.say("training_verdict", verdict=verdict)
        self.say("training_done", adapter=best, other=last, stopped=False, probes=[], kept="best", kept_step=36,
                 best_step=36, stopped_early=False, verdict=verdict, sample_share=0.031)  # fmt: skip
        self.state("done", TOTAL)


@pytest.fixture
def run(chat: ScriptedLab) -> Run:
    return Run(chat)


def answers(lab: ScriptedLab, line: int) -> Locator:
    return lab.part("answers-line").nth(line).get_by_test_id("sample-answer")


def test_answers_come_while_it_learns_and_the_newest_is_marked(run: Run) -> None:
    lab = run.lab
    expect(lab.part("answers")).to_be_hidden()
    run.begin()
    expect(lab.part("answers-line")).to_have_count(3)
    expect(lab.part("answers-empty")).to_contain_text("The first answers come as soon as they cost no more")
    run.go(0, 24)
    expect(lab.part("answers-empty")).to_have_count(0)
    expect(answers(lab, 0)).to_have_text([
        "Before trainingI am a language model and cannot know.", "Step 12The robot is a lamp.",
        "Step 24, newestIts name is Pharos.",
    ])  # fmt: skip
    assert [one.get_attribute("data-newest") for one in answers(lab, 0).all()] == ["false", "false", "true"]
    expect(answers(lab, 2).first).to_have_attribute("data-kind", "nothing")
    expect(answers(lab, 1).last.locator(".answers-text")).to_have_text("Its name is Pharos. …")
    strip = lab.page.get_by_role("list", name="Answers to: What is the lighthouse robot called?")
    run.go(25, 60)
    expect(answers(lab, 0)).to_have_count(6)
    assert strip.evaluate("(one) => one.scrollLeft + one.clientWidth >= one.scrollWidth - 1")


def test_prompts_are_edited_while_it_learns(run: Run) -> None:
    lab = run.lab
    run.begin()
    run.go(0, 12)
    lab.part("prompts-edit").click()
    expect(lab.part("prompt-field").first).to_be_focused()
    expect(lab.part("prompt-field").first).to_have_value(next(iter(PROMPTS)))
    for index, text in enumerate(("Who are you?", "", "")):
        lab.part("prompt-field").nth(index).fill(text)
    lab.part("prompts-save").click()
    expect(lab.part("prompt-field")).to_have_count(0)
    expect(lab.part("prompts-edit")).to_be_focused()
    asked = lab.worker("train").evaluate("() => self.asked.at(-1)")
    assert (asked["type"], asked["prompts"]) == ("set_sample_prompts", ["Who are you?"])
    run.say("sample_prompts", prompts=[{"prompt": "Who are you?", "messages": [], "reference": None}], chosen=False)
    first = lab.part("answers-line").first
    expect(first).to_contain_text("Who are you?")
    expect(first).to_contain_text("Asked from the next time on.")
    expect(lab.part("answers-line")).to_have_count(4)  # what was asked before keeps its answers


def test_one_points_at_all_curves_at_once_and_zooms_all(run: Run) -> None:
    lab = run.lab
    run.begin()
    run.go(0, 60)
    expect(lab.page.locator("#chart .u-over")).to_be_visible()
    expect(lab.part("best-key")).to_have_text("best, step 36")
    expect(lab.page.locator(".small-chart .u-over")).to_have_count(3)
    rows = lab.part("validations").locator("tbody tr")
    expect(rows).to_have_text([
        "Before training2.600013.531.0 %", "Step 36best0.71002.0374.0 %", "Step 600.92002.5170.0 %"])  # fmt: skip
    expect(lab.part("train-memory")).to_contain_text("1.4 GB in use")
    expect(lab.part("train-ends")).to_be_visible()

    over = lab.page.locator(".small-chart .u-over").nth(1)
    over.hover()
    step = lab.page.locator("#chart-point")
    expect(step).to_have_text("step 30 · loss " + f"{0.3 + 2.4 * math.exp(-2.5) + 0.12 * math.sin(210):.4f}")
    expect(lab.part("chart-learning_rate")).to_have_text("2e-4")
    expect(lab.part("chart-grad_norm")).to_have_text("1.26")
    cursors = lab.page.locator(".u-cursor-x").evaluate_all("all => all.map((one) => one.style.transform)")
    assert len(cursors) == 4 and len(set(cursors)) == 1 and cursors[0]

    place = over.bounding_box()
    assert place
    lab.page.mouse.move(place["x"] + 0.25 * place["width"], place["y"] + 10)
    lab.page.mouse.down()
    lab.page.mouse.move(place["x"] + 0.5 * place["width"], place["y"] + 10, steps=4)
    lab.page.mouse.up()
    expect(lab.part("zoom-reset")).to_be_visible()
    for chart in (lab.page.locator("#chart .u-over"), over):
        chart.hover(position={"x": 1, "y": 5})
        expect(step).to_contain_text("step 15 ")  # a quarter of 0 to 60
    over.dblclick()
    expect(lab.part("zoom-reset")).to_have_count(0)
    over.hover(position={"x": 1, "y": 5})
    expect(step).to_have_text("step 0 · validation 2.6000")


WORDS = "Validation got worse towards the end: its loss was 0.71 at step 36 and is 0.92 after step 60. More rows help."
VERDICT = {"kind": "worse", "numbers": {}, "words": WORDS}


def test_a_run_that_got_worse_ends_in_amber_and_the_best_is_kept(run: Run) -> None:
    lab = run.lab
    run.begin()
    run.go(0, 60)
    expect(lab.page).to_have_title("100 % · Training – LoRA Lab")
    icon = lab.page.locator("link[rel=icon]")
    assert (icon.get_attribute("href") or "").startswith("data:image/svg+xml")
    run.end(VERDICT)
    lab.wait_for_phase("done")
    status = lab.part("train-status")
    expect(status).to_contain_text("It got worse, the adapter is kept")
    amber = lab.page.evaluate("() => getComputedStyle(document.documentElement).getPropertyValue('--warn')")
    r, g, b = (int(amber.strip()[at : at + 2], 16) for at in (1, 3, 5))
    expect(status).to_have_css("color", f"rgb({r}, {g}, {b})")
    expect(lab.part("verdict")).to_contain_text(WORDS)
    expect(lab.page).to_have_title("LoRA Lab")
    assert (icon.get_attribute("href") or "").endswith("assets/icon.svg")
    expect(lab.part("sample-share")).to_have_text("Answering took 3.1 % of the run's time.")

    kept = lab.part("kept").get_by_role("button")
    expect(kept).to_have_text(["Best · step 36", "Last · step 60"])
    expect(kept.first).to_have_attribute("aria-pressed", "true")
    kept.last.click()
    expect(kept.last).to_have_attribute("aria-pressed", "true")
    gets = lab.worker("train").evaluate(
        "() => self.asked.filter(({ type }) => type === 'get_adapter').map(({ id }) => id)"
    )
    assert gets == ["best", "last"]
    lab.part("verdict").get_by_role("button", name="Change the settings").click()
    expect(lab.part("set-lr")).to_be_focused()
