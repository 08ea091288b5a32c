"""A run as the page watches it: answers, validations, time, memory, what came of it, and how far it says to be."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.web import run_page

WORDS = """
const probe = (prompt, reference = null) => ({ prompt, messages: [], reference });
const prompts = (...all) => hear("sample_prompts", { prompts: all, chosen: true });
const says = (step, prompt, text, more = {}) => hear("sample_answered",
  { step, index: 0, prompt, expected: null, text, is_cut: false, problem: "", ...more });
const goes = (state, done = 0) => hear("training_state", { state, detail: "", done, total: 8 });
const step = (at, more = {}) => hear("training_step", { step: at, total_steps: 8, loss: 2, grad_norm: 1,
  learning_rate: 1e-3, trained_tokens: 9, tokens_per_s: 50, elapsed_ms: 10, left_ms: 4000, ...more });
const checked = (at, loss) => hear("validation_loss", { step: at, loss, perplexity: Math.exp(loss), accuracy: 0.5 });
const adapter = (id, steps) => ({ id, name: id, steps, loss_curve: [], validation_curve: [], sample_answers: [] });
const done = (more = {}) => hear("training_done", { adapter: adapter("a", 4), other: adapter("b", 8), probes: [],
  stopped: false, kept: "best", kept_step: 4, best_step: 4, stopped_early: false, verdict: null,
  sample_share: 0.03, ...more });
const said = (answers) => answers.map(({ step, text }) => `${step} ${text}`);
const lines = () => watch.strip.value.map(({ prompt, answers }) => [prompt, said(answers)]);
begin();
"""


def page(script: str) -> Any:
    return run_page(WORDS + script)


def test_answers_stand_under_their_prompts_in_the_order_of_the_steps() -> None:
    told = page("""
      prompts(probe("p", "x"), probe("q"));
      const empty = watch.strip.value;
      says(0, "p", "old"); says(0, "q", "old too"); says(5, "p", "new");
      answer([empty, lines(), watch.newestStep.value]);
    """)
    assert [one["expected"] for one in told[0]] == ["x", None] and [one["answers"] for one in told[0]] == [[], []]
    assert told[1:] == [[["p", ["0 old", "5 new"]], ["q", ["0 old too"]]], 5]


def test_a_run_that_went_back_says_its_answers_again() -> None:
    told = page("""
      prompts(probe("p"));
      says(0, "p", "a"); says(4, "p", "b"); says(8, "p", "c"); says(4, "p", "B");
      answer(lines());
    """)
    assert told == [["p", ["0 a", "4 B"]]]


def test_prompts_that_are_no_longer_asked_keep_their_answers_below() -> None:
    told = page("""
      prompts(probe("p"));
      says(0, "p", "a");
      prompts(probe("mine"));
      answer(lines());
    """)
    assert told == [["mine", []], ["p", ["0 a"]]]


def test_of_a_long_run_the_first_answer_and_the_newest_are_shown() -> None:
    told = page('prompts(probe("p")); for (let at = 0; at < 500; at += 1) says(at, "p", "t"); answer(lines()[0][1]);')
    assert len(told) == 61 and told[0] == "0 t" and told[1] == "440 t" and told[-1] == "499 t"


def test_why_nothing_is_answered_is_told_once_and_is_no_answer() -> None:
    told = page('says(0, "", "", { problem: "No room" }); answer([watch.watchProblem.value, watch.watched.value]);')
    assert told == ["No room", []]


def test_own_prompts_are_sent_and_told_again_to_a_fresh_worker() -> None:
    told = page("""
      watching.setPrompts([" mine ", "", "  "]);
      hear("ready", { version: "1", python: "3" });
      answer(sent.filter(({ type }) => type === "set_sample_prompts").map(({ prompts }) => prompts));
    """)
    assert told == [["mine"], ["mine"]]


def test_the_best_validation_is_the_first_of_the_lowest() -> None:
    told = page("""
      checked(0, 3); checked(4, 1.5); checked(6, 1.5); checked(8, 2);
      answer([watch.best.value.step, curve.bestCheck(), curve.columns()[4]]);
    """)
    assert told == [4, [4, 1.5], [None, 1.5, None, None]]


def test_a_resumed_run_has_its_validations_and_accuracies() -> None:
    told = page("""
      hear("training_resumed", { step: 4, total_steps: 8, loss_curve: [[1, 3]], validation_curve: [[0, 2], [4, 1]],
        accuracy_curve: [[4, 0.25]], differs: "" });
      answer(watch.validations.value);
    """)
    assert [(one["step"], one["accuracy"]) for one in told] == [(0, None), (4, 0.25)]
    assert told[1]["perplexity"] == pytest.approx(math.e, rel=1e-12)


def test_the_curves_hold_every_value_of_a_step_and_nothing_where_there_is_none() -> None:
    told = page("""
      curve.clearCurve(8);
      step(1); step(2, { loss: 4, grad_norm: Infinity });
      checked(3, 1);
      const live = [curve.columns(), curve.facts().hasMore];
      curve.showCurve([[1, 3]], [], 1);
      answer([live, curve.columns().slice(5), curve.facts().hasMore]);
    """)
    steps, losses, _, validation, best, rates, norms, speeds = told[0][0]
    assert (steps, losses, validation) == ([1, 2, 3], [2, 4, None], [None, None, 1]) and best == validation
    assert (rates, norms, speeds) == ([1e-3, 1e-3, None], [1, None, None], [50, 50, None])
    assert told[0][1] is True and told[1] == [[None], [None], [None]] and told[2] is False


def test_points_of_a_long_run_are_means() -> None:
    told = page("""
      curve.clearCurve(2048);
      for (let at = 1; at <= 2048; at += 1) step(at, { loss: at, learning_rate: 2 * at });
      const [steps, losses, , , , rates] = curve.columns();
      answer([steps.length, steps.slice(0, 2), losses.slice(0, 2), rates.slice(0, 2), steps.at(-1)]);
    """)
    count, steps, losses, rates, last = told
    assert count == 512 and steps == [4, 8] and losses == [2.5, 6.5] and rates == [5, 13] and last == 2048


@pytest.mark.parametrize("end", ["done", "idle", "error"])
def test_time_begins_with_the_first_step_and_ends_with_the_run(end: str) -> None:
    told = page(
        """
      let now = 1000;
      Date.now = () => now;
      goes("loading"); goes("compiling");
      const before = watch.begunAt.value;
      goes("training"); now = 3000; step(1);
      const during = [watch.begunAt.value, watch.endsAt.value, watch.tookMs.value];
      now = 9000; goes("END", 8); now = 20000;
      answer([before, during, [watch.endsAt.value, watch.tookMs.value]]);
    """.replace("END", end)
    )
    assert told == [None, [1000, 7000, None], [None, 8000]]


END = [
    ("null", "Done, the adapter is kept"),
    ('{ kind: "worse", words: "w", numbers: {} }', "It got worse, the adapter is kept"),
]


@pytest.mark.parametrize(("verdict", "said"), END)
def test_a_run_that_got_worse_is_not_called_done(verdict: str, said: str) -> None:
    told = page(f"""
      goes("training");
      if ({verdict}) hear("training_verdict", {{ verdict: {verdict} }});
      done({{ verdict: {verdict} }}); goes("done", 8);
      answer(panel.status.value);
    """)
    assert told == said


def test_what_the_last_run_left_goes_when_another_begins() -> None:
    told = page("""
      prompts(probe("p")); says(0, "p", "a"); checked(0, 1); hear("memory_in_use", { in_use_bytes: 5, peak_bytes: 6 });
      done({ verdict: { kind: "worse", words: "w", numbers: {} } }); goes("done", 8);
      const before = [watch.left.value.kept_step, watch.verdict.value.kind, watch.memoryInUse.value.peak_bytes];
      run.startNow();
      const after = [watch.left, watch.verdict, watch.memoryInUse, watch.watched, watch.validations];
      answer([before, sent.at(-1).type, ...after.map(({ value }) => value)]);
    """)
    assert told == [[4, "worse", 6], "start_training", None, None, None, [], []]


def test_either_of_the_two_adapters_is_used_and_none_is_taken_off() -> None:
    told = page("""
      done(); goes("done", 8);
      const asked = () => sent.filter(({ type }) => type === "get_adapter").map(({ id }) => id);
      const first = asked();
      watching.useKept("a"); watching.useKept("b");
      answer([first, asked(), chat.wantedAdapter.value]);
    """)
    assert told == [["a"], ["a", "b"], "b"]


def test_the_title_and_the_icon_say_how_far_it_is_until_the_end_is_seen() -> None:
    told = page("""
      const far_ = () => [far.title.value, far.icon.value.split('dasharray="')[1]?.split(" ")[0] ?? ""];
      const all = [far_()];
      goes("loading"); all.push(far_());
      goes("training"); step(4); all.push(far_());
      globalThis.document = { visibilityState: "hidden" };
      goes("done", 8); all.push(far_());
      notice.unseen.value = false; all.push(far_());
      answer(all);
    """)
    assert told == [
        ["LoRA Lab", ""],
        ["Loading the model – LoRA Lab", "0"],
        ["50 % · Training – LoRA Lab", "50"],
        ["Done – LoRA Lab", "100"],
        ["LoRA Lab", ""],
    ]


NOTICES = """
  const asked = [], shown = [];
  globalThis.Notification = class {
    static permission = "default";
    static async requestPermission() { asked.push(1); Notification.permission = PERMISSION; }
    constructor(title, { body }) { shown.push([title, body]); }
  };
  globalThis.document = { visibilityState: SEEN };
  goes("training");
  const before = asked.length;
  WANTS && await notice.wantNotice();
  done(); goes("done", 8);
  answer([before, asked.length, shown, notice.refused.value]);
"""


@pytest.mark.parametrize(
    ("permission", "seen", "wants", "asked", "shown"),
    [
        ("granted", "hidden", "true", 1, [["The run is done", "The adapter is kept, and in use in the chat."]]),
        ("granted", "visible", "true", 1, []),
        ("denied", "hidden", "true", 1, []),
        ("granted", "hidden", "false", 0, []),
    ],
)
def test_a_notification_is_asked_for_by_a_press_and_shown_to_who_looks_elsewhere(
    permission: str, seen: str, wants: str, asked: int, shown: list
) -> None:
    script = NOTICES.replace("PERMISSION", repr(permission)).replace("SEEN", repr(seen)).replace("WANTS", wants)
    assert page(script) == [0, asked, shown, wants == "true" and permission == "denied"]
