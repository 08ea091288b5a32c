"""The settings' form as the page's store knows it: what is read, what a preset means, what a dataset suggests."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from lora_lab.settings import PRESETS
from lora_lab.workers.protocol import TrainSettings
from lora_lab.workers.wire.codec import from_dict
from tests.web import run_page

SITE = {
    "models": {"default": None, "titles": {}},
    "hub": None,
    "samples": [],
    "presets": [asdict(one) for one in PRESETS],
}
SUITED = """const suited = (more) => ({ ...settings.read.value.settings, steps: 90, rank: 16, alpha: 32, ...more });
const shown = () => ["steps", "rank", "alpha"].map((name) => settings.fields[name].text.value);
begin();
const [quick, balanced, thorough] = site.presets;
"""


def run(script: str) -> Any:
    return run_page(SUITED + script, site=SITE)


def test_what_is_read_are_settings_that_the_worker_takes() -> None:
    settings = run("settings.checks.shuffle.value = true; answer(settings.read.value.settings);")
    taken = from_dict(TrainSettings, settings)
    assert (taken.steps, taken.masking, taken.targets, taken.shuffle) == (5, "assistant", ("q_proj",), True)
    assert taken.validation_fraction == 0.05


def test_what_is_no_number_is_named_by_its_field() -> None:
    told = run("""
      settings.fields.steps.text.value = "many";
      settings.fields.rank.text.value = "1.5"; settings.fields.rank.isWhole = true;
      settings.fields.seed.text.value = "";
      settings.fields.warmup_steps.text.value = ""; settings.fields.warmup_steps.mayBeEmpty = true;
      settings.fields.checkpoint_every.text.value = ""; settings.fields.checkpoint_every.mayBeEmpty = true;
      settings.fields.checkpoint_every.isBroken.value = true;
      answer(settings.read.value.problems.map(({ field }) => field));
    """)
    assert told == ["steps", "rank", "seed", "checkpoint_every"]


def test_a_preset_is_a_factor_of_what_suits_the_data() -> None:
    told = run("""
      settings.suggest(suited({}));
      const first = [settings.preset.value.label, ...shown()];
      settings.choosePreset(quick);
      const chosen = [settings.preset.value.label, ...shown()];
      settings.suggest(suited({ steps: 300 }));  // other data
      answer([first, chosen, [settings.preset.value.label, ...shown()]]);
    """)
    assert told == [["Balanced", "90", "16", "32"], ["Quick", "30", "8", "16"], ["Quick", "100", "8", "16"]]


def test_what_a_person_has_typed_is_no_preset_and_stays() -> None:
    told = run("""
      settings.suggest(suited({}));
      settings.setField("rank", "4");
      const own = settings.preset.value;
      settings.suggest(suited({ steps: 300 }));
      const kept = shown();
      settings.choosePreset(thorough);
      answer([own, kept, shown(), [...settings.touched.value]]);
    """)
    assert told == [None, ["300", "4", "32"], ["600", "32", "64"], []]


def test_layers_that_two_models_share_stay_as_they_were() -> None:
    told = run("""
      settings.offerTargets(["q_proj", "v_proj"]);
      settings.targets.value = new Set(["v_proj"]);
      settings.offerTargets(["v_proj", "w1", "q_proj"]);
      answer([...settings.read.value.settings.targets]);
    """)
    assert told == ["v_proj", "w1"]
