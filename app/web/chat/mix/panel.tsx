// The adapters that answer together with the one in use, each with its strength, and the choice of another one.

import { focusNext } from "../../dom";
import { Icon } from "../../shell/parts";
import { adapters, applied, isAdapterOn, others } from "../../store/chat";
import { mixText } from "../../text";
import { addToMix, leaveMix, setStrength } from "./mix";
import { StrengthField } from "./strength";

export function Mix() {
  if (!applied.value) return null;
  const first = applied.value.id;
  const more = others.value;
  const free = (adapters.value ?? []).filter(({ id, fits }) => fits !== false && id !== first && !more.some((one) => one.id === id));
  const remove = (id: string): void => {
    leaveMix(id);
    focusNext("mix-add", "chat-adapter");
  };
  return (
    <>
      {more.length > 0 && (
        <ul class={isAdapterOn.value ? "mix" : "mix off"} data-testid="mix" aria-label={mixText.title}>
          {more.map(({ id, name, strength, isHere }) => (
            <li key={id} data-id={id} data-state={isHere ? "here" : "coming"}>
              <span class="mix-name"><span aria-hidden="true">+ </span>{name}</span>
              <StrengthField id={`mix-strength-${id}`} label={mixText.strengthOf(name)} value={strength} set={(value) => setStrength(id, value)} />
              <button type="button" class="quiet icon-only" aria-label={mixText.remove(name)} title={mixText.remove(name)} onClick={() => remove(id)}>
                <Icon name="close" />
              </button>
            </li>
          ))}
        </ul>
      )}
      {free.length > 0 && (
        <select class="mix-add" id="mix-add" data-testid="mix-add" aria-label={mixText.add} value="" onChange={(event) => {
          addToMix(event.currentTarget.value);
          event.currentTarget.value = "";
        }}>
          <option value="">{mixText.addShort}</option>
          {free.map(({ id, name }) => <option key={id} value={id}>{name}</option>)}
        </select>
      )}
    </>
  );
}
