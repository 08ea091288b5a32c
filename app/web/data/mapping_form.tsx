// The editor of the columns, and the line that says how they are read.

import { formatCount } from "../format";
import { isFromMemory, shownDataset } from "../store/data";
import { isRunning } from "../store/train";
import { dataText } from "../text";
import {
  change, choose, chosen, closeEditor, columns, draft, forget, isComplete, isNeeded, openEditor, previewed, ROLES, shows, type Role, type RowKind,
} from "./mapping";
import { useMapping } from "./reading";
import { columnLabel, describe, Turns } from "./row_parts";

const words = dataText.mapping;
const SHOWN_ROWS = 2;
const ORDER: readonly Role[] = ["prompt", "context", "conversation", "reply", "system", "history", "label", "text"];
const KINDS: readonly RowKind[] = ["pair", "conversation", "text"];

/** How the columns are read, and what can be changed of that. */
export function MappedLine() {
  const mapping = shownDataset.value?.report.mapping;
  const isOff = isRunning.value;
  const remembered = Boolean(mapping) && isFromMemory.value;
  return (
    <div class="mapped" id="mapped" hidden={!shows.value.line}>
      <p id="mapped-text" role="status">
        {!shows.value.line ? "" : mapping ? words.readAs(describe(mapping), remembered) : words.otherNames}
      </p>
      <div class="button-row">
        <button type="button" class="quiet small" id="mapped-undo" hidden={!remembered} disabled={isOff} onClick={() => useMapping(null)}>
          {words.undo}
        </button>
        <button type="button" class="quiet small" id="mapped-change" onClick={openEditor}>{mapping ? words.change : words.chooseColumns}</button>
        <button type="button" class="quiet small" id="mapped-forget" hidden={!mapping} disabled={isOff} onClick={forget}>{words.forget}</button>
      </div>
    </div>
  );
}

export function MappingForm() {
  const report = shownDataset.value?.report;
  const { editor, cancel } = shows.value;
  const { kind, atLeast } = draft.value;
  const { rows, problem } = previewed.value;
  const submit = (event: Event): void => {
    event.preventDefault();
    if (isComplete.peek() && !isRunning.peek()) choose(chosen.peek());
  };
  const unknown = report?.unknown ?? 0;
  const hint = !unknown || !report?.good ? words.hint : words.hintSome(formatCount(unknown), formatCount(report.rows));
  return (
    <form class="mapping" id="mapping" data-testid="mapping" aria-labelledby="mapping-title" hidden={!editor} onSubmit={submit}>
      <h3 id="mapping-title">{words.title}</h3>
      <p class="hint" id="mapping-hint">{hint}</p>
      <fieldset class="presets mapping-kind">
        <legend class="visually-hidden">{words.rowIs}</legend>
        {KINDS.map((one) => (
          <label>
            <input type="radio" name="mapping-kind" value={one} checked={kind === one} onChange={() => change({ kind: one }, 0)} />
            <span>{words.kinds[one]}</span>
          </label>
        ))}
      </fieldset>
      <div class="mapping-columns">
        {ORDER.map((role) => <Column role={role} />)}
        <label class="mapping-column" data-role="label" hidden={!isRoleOf(kind, "label") || draft.value.columns.label === undefined}>
          <span>{words.ratedAtLeast}</span>
          <input id="map-at_least" data-testid="map-at_least" inputMode="decimal" autocomplete="off" placeholder={words.noRating} value={atLeast}
            onInput={({ currentTarget }) => change({ atLeast: currentTarget.value }, 300)} />
        </label>
      </div>
      <p class="field-error" id="mapping-problem" role="alert">{problem}</p>
      <div class="mapping-preview" id="mapping-preview" data-testid="mapping-preview" role="group" aria-label={words.firstRows}>
        {rows.slice(0, SHOWN_ROWS).map((row) => <Turns row={row} />)}
      </div>
      <div class="button-row">
        <button type="submit" class="primary small" id="mapping-use" data-testid="mapping-use" disabled={!isComplete.value || isRunning.value}>
          {words.use}
        </button>
        <button type="button" class="quiet small" id="mapping-cancel" hidden={!cancel} onClick={closeEditor}>{words.cancel}</button>
      </div>
    </form>
  );
}

const isRoleOf = (kind: RowKind, role: Role): boolean => (ROLES[kind] as readonly Role[]).includes(role);

/** One role's choice among the columns; an option's value is the column's place. */
function Column({ role }: { role: Role }) {
  const { kind, columns: picked } = draft.value;
  const names = columns.value;
  const pick = (place: string): void => {
    const { [role]: _, ...others } = draft.peek().columns;
    change({ columns: place === "" ? others : { ...others, [role]: names[Number(place)] } }, 150);
  };
  const place = names.indexOf(picked[role] ?? "");
  return (
    <label class="mapping-column" data-role={role} hidden={!isRoleOf(kind, role)}>
      <span>{words.roles[role]}</span>
      <select id={`map-${role}`} data-testid={`map-${role}`} value={picked[role] === undefined || place < 0 ? "" : String(place)}
        onChange={({ currentTarget }) => pick(currentTarget.value)}>
        <option value="">{isNeeded(role) ? words.choose : words.none}</option>
        {names.map((name, index) => <option value={String(index)}>{columnLabel(name)}</option>)}
      </select>
    </label>
  );
}
