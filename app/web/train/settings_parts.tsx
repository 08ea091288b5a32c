// What stands among the settings' fields and is no field: the learning rate's presets, the fold, the chat formats' lines.

import { model } from "../store/page";
import { expanded, fields, setField } from "../store/settings";
import { phase } from "../store/train";
import { trainText } from "../text";
import { planNow } from "./plan";

const RATES = [["5e-5", trainText.gentle], ["2e-4", trainText.usual], ["1e-3", trainText.strong]] as const;

export const RatePresets = () => (
  <div class="presets" role="group" aria-label={trainText.ratePresets}>
    {RATES.map(([rate, label]) => {
      const choose = (): void => {
        setField("learning_rate", rate);
        planNow();
      };
      const isChosen = Number(fields.learning_rate.text.value) === Number(rate);
      return <button type="button" data-rate={rate} aria-pressed={isChosen} onClick={choose}>{label}</button>;
    })}
  </div>
);

/** Folds the settings up or down, once there was a run. */
export const SettingsToggle = () => (
  <button type="button" class="quiet small" id="settings-toggle" aria-controls="settings" aria-expanded={expanded.value}
    hidden={phase.value === "idle" && expanded.value} onClick={() => (expanded.value = !expanded.value)}>
    {expanded.value ? trainText.foldSettings : trainText.allSettings}
  </button>
);

/** A line for each chat format that a model without a template may have. */
export const FormatLines = () => (
  <>
    {(model.value?.chat_formats ?? []).map(({ value, title, help, note }) => (
      <li data-value={value} class={value === fields.chat_format.text.value ? "chosen" : ""}>
        <strong>{title}</strong>: {help.slice(0, 1).toLowerCase()}{help.slice(1)}{note ? `; ${note}` : ""}.
      </li>
    ))}
  </>
);
