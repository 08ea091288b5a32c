"""Training as the page's store knows it: what is shown follows from what the workers said, and from nothing else."""

from __future__ import annotations

import pytest

from tests.web import run_page

ADAPTER = """const adapter = (id, more = {}) => ({
  id, name: `the ${id}`, steps: 7, loss_curve: [[1, 3], [7, 1.5]], validation_curve: [], final_loss: 1.5,
  sample_answers: [], ...more });
"""


def test_start_right_after_typing_waits_for_the_plan_of_what_was_typed() -> None:
    told = run_page("""
      begin();
      settings.setField("steps", "9");
      plan.planSoon();
      run.startNow();
      const before = names();
      const asked = lastPlan().settings.steps;
      answerPlan();
      answer({ before, asked, after: names(), steps: sent.at(-1).settings.steps });
    """)
    assert told == {"before": ["plan_training"], "asked": 9, "after": ["plan_training", "start_training"], "steps": 9}


def test_a_plan_with_problems_starts_nothing() -> None:
    told = run_page("""
      begin();
      settings.setField("rank", "999");
      plan.planSoon();
      run.startNow();
      answerPlan({ problems: [{ field: "rank", message: "At most 128." }] });
      answer({ sent: names(), why: state.whyNot.value, problems: settings.fieldProblems.value });
    """)
    assert told["sent"] == ["plan_training"]
    assert told["why"] == "Some settings cannot be used."
    assert told["problems"] == [{"field": "rank", "message": "At most 128."}]


def test_a_plan_as_it_stands_starts_at_once() -> None:
    assert run_page("begin(); run.startNow(); answer(names());") == ["start_training"]


def test_late_answers_to_earlier_plans_are_dropped() -> None:
    told = run_page("""
      begin();
      plan.planNow();
      const first = lastPlan().request;
      plan.planNow();
      hear("training_planned", { request: first, total_steps: 1, problems: [], notes: [] });
      const between = state.plan.value.total_steps;
      answerPlan({ total_steps: 2 });
      answer([between, state.plan.value.total_steps]);
    """)
    assert told == [5, 2]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("", ""),
        ('hear("gpu", { state: "lost", message: "gone", losses: 1 });', "There is no GPU any more."),
        ("data.dataset.value = null;", "Add a dataset first."),
        ("data.dataset.value = { ...data.dataset.value, problem_count: 2 };", "Some rows are bad"),
        ('hear("training_state", { state: "loading", detail: "", done: 0, total: 0 });', "A run is going on."),
        ('hear("model_progress", { phase: "read", done: 0, total: 1 });', "The model is on its way."),
    ],
)
def test_why_training_cannot_start(change: str, why: str) -> None:
    said = run_page(f"begin(); {change} answer(state.whyNot.value);")
    assert said.startswith(why) and bool(said) == bool(why)


def test_the_run_of_a_kept_adapter_is_shown_with_its_own_numbers() -> None:
    told = run_page(
        ADAPTER
        + """
      begin();
      globalThis.document = { getElementById: () => ({ scrollIntoView() {}, closest: () => null }) };
      globalThis.matchMedia = () => ({ matches: true });
      hear("training_state", { state: "loading", detail: "", done: 0, total: 0 });
      hear("training_step", { step: 3, total_steps: 5, loss: 9, tokens_per_s: 5, left_ms: 1 });
      hear("training_state", { state: "done", detail: "", done: 5, total: 5 });
      result.showRun(adapter("other"));
      answer({ step: state.lastStep.value, of: state.curveOf.value, curve: curve.columns()[1] });
    """
    )
    assert told == {
        "step": {"step": 7, "total_steps": 7, "loss": 1.5},
        "of": {"id": "other", "name": "the other"},
        "curve": [3, 1.5],
    }


DONE = 'hear("training_done", { adapter: one, probes: [], stopped: STOPPED }); hear("training_state", END);'
END = '{ state: "done", detail: "", done: 5, total: 5 }'


@pytest.mark.parametrize(
    ("stopped", "kept", "said"),
    [
        ("false", "[one]", "Done, the adapter is kept"),
        ("true", "[one]", "Stopped at step 7, the adapter is kept"),
        ("false", "[]", "Done; the adapter was deleted"),
        ("true", "[]", "Stopped at step 7; the adapter was deleted"),
    ],
)
def test_the_end_is_told_as_it_is_now(stopped: str, kept: str, said: str) -> None:
    told = run_page(
        ADAPTER
        + 'begin(); const one = adapter("a"); hear("adapter_list", { adapters: [one] });'
        + DONE.replace("STOPPED", stopped).replace("END", END)
        + f'hear("adapter_list", {{ adapters: {kept} }}); chat.adapters.value = {kept}; answer(panel.status.value);'
    )
    assert told == said


def test_one_event_is_seen_whole() -> None:
    """A run's end changes the phase, what was learned and the card: whoever looks sees all of it or nothing."""
    told = run_page(
        ADAPTER
        + """
      begin();
      hear("adapter_learned", { file_name: "a.zip", data: null });
      const seen = [];
      state.learned.subscribe(() => seen.push([state.learned.value === null, result.card.value !== null]));
      hear("training_done", { adapter: adapter("a"), probes: [], stopped: false });
      answer(seen);
    """
    )
    assert told == [[False, False], [True, True]]
