// What stands among the settings' fields and is no field: the learning rate's presets, the fold, the chat formats' lines.

import { Choices } from "../shell/parts";
import { site, type Preset } from "../site";
import { model } from "../store/page";
import { choosePreset, fields, preset, setField, view } from "../store/settings";
import { keepLook } from "../store/shell";
import { isRunning } from "../store/train";
import { trainText } from "../text";
import { planNow } from "./plan";

const RATES = [["5e-5", trainText.gentle], ["2e-4", trainText.usual], ["1e-3", trainText.strong]] as const;

export const RatePresets = () => (
  <Choices class="presets" label={trainText.ratePresets}>
    {RATES.map(([rate, label]) => {
      const choose = (): void => {
        setField("learning_rate", rate);
        planNow();
      };
      const isChosen = Number(fields.learning_rate.text.value) === Number(rate);
      return <button type="button" data-rate={rate} aria-pressed={isChosen} onClick={choose}>{label}</button>;
    })}
  </Choices>
);

/** The settings in one line: a preset, what it means, and a way to all of them. */
export function SettingsLine() {
  const line = trainText.settingsLine(fields.steps.text.value, fields.rank.text.value, fields.learning_rate.text.value);
  const isOpen = view.value === "open";
  return (
    <div class="settings-line">
      <Choices class="presets" label={trainText.presets}>
        {site.presets.map((one) => (
          <button type="button" aria-pressed={preset.value === one} title={one.help} disabled={isRunning.value} onClick={() => choose(one)}>
            {one.label}
          </button>
        ))}
      </Choices>
      <button type="button" class="quiet small" id="settings-toggle" aria-controls="settings-fields" aria-expanded={isOpen}
        onClick={() => showSettings(isOpen ? "line" : "open")}>
        {trainText.settingsToggle[view.value]}
      </button>
      <p id="settings-said">{preset.value ? line : trainText.own(line)}</p>
    </div>
  );
}

function showSettings(how: "open" | "line"): void {
  view.value = how;
  keepLook({ settings: how });
}

function choose(one: Preset): void {
  choosePreset(one);
  planNow();
}

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
