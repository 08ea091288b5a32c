// How long a dataset's run took to measure here: what is said of a sample before it is opened another time.

import { dataset } from "../store/data";
import { gpu, model } from "../store/page";
import { preset } from "../store/settings";
import { readRemembered, remember } from "../store/remembered";

const KEY = "lora-lab times"; // localStorage: {GPU, model and data: ms}
const REMEMBERED = 50;

const keyOf = (title: string): string => `${gpu.value.name} | ${model.value?.name ?? ""} | ${title}`;

/** The run of the data that is open takes so long on this GPU, if the settings are those that suit it. */
export function rememberTime(ms: number): void {
  const title = dataset.peek()?.title;
  if (title && preset.peek()?.steps === 1) remember(KEY, keyOf(title), Math.round(ms), REMEMBERED);
}

/** How long the run of such data took here, null where nobody has measured it. */
export function knownTime(title: string): number | null {
  const ms = readRemembered(KEY)[keyOf(title)];
  return typeof ms === "number" && ms > 0 ? ms : null;
}
