// How strongly an adapter answers. Its bounds are those of the strength of the one in use, which jinja2 made.

import { byId } from "../../dom";
import { chatText } from "../../text";

export function StrengthField({ id, label, value, set }: { id: string; label: string; value: number; set: (value: number) => void }) {
  const { min, max, step } = byId<HTMLInputElement>("chat-strength");
  return (
    <label class="strength">
      <span class="visually-hidden">{label}</span>
      <span aria-hidden="true">{chatText.strength}</span>
      <input type="range" id={id} data-testid={id} min={min} max={max} step={step} value={value} onInput={(event) => set(Number(event.currentTarget.value))} />
      <output for={id}>{value.toFixed(2)}</output>
    </label>
  );
}
