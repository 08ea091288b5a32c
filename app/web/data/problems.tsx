// What is wrong with the data; mending it, before and after; and going on with the good rows.

import type { DatasetReady } from "../protocol";
import { asksFor, consent, shownDataset } from "../store/data";
import { isRunning } from "../store/train";
import { dataText } from "../text";
import { Kinds } from "./kinds";
import { readAgain } from "./reading";

const words = dataText.problems;

export function Errors() {
  const data = shownDataset.value;
  const report = data?.report;
  const asks = report ? asksFor(report) : false; // then the editor above says it all
  const groups = report?.groups.filter(({ severity, kind }) => severity === "error" && !(asks && kind === "unknown-columns")) ?? [];
  return (
    <section class="dataset-errors" data-testid="dataset-errors" id="dataset-errors" aria-labelledby="errors-title" hidden={!groups.length}>
      <div role="status"><h3 id="errors-title">{data && groups.length ? errorsTitle(data) : ""}</h3></div>
      <div class="kinds" id="errors-kinds">{data && <Kinds key={data.name} groups={groups} report={data.report} opens={!asks} />}</div>
    </section>
  );
}

function errorsTitle({ report: { files, unknown, readings }, problem_count, rows, good_rows }: DatasetReady): string {
  if (rows === 0) return files.length > 1 ? words.noRows : words.unusableFile;
  if (!good_rows && (unknown || readings.length)) return words.asItStandsNone;
  if (!problem_count) return words.wrongWithFile;
  return words.unusableRows(problem_count, rows);
}

export function Mend() {
  const data = shownDataset.value;
  const { mendable = 0, improvable = 0, groups = [] } = data?.report ?? {};
  const mended = groups.filter(({ severity }) => severity === "warning").reduce((sum, { repairable }) => sum + repairable, 0);
  const isOn = Boolean(data?.use_mended) && mended > 0;
  const isHidden = !isOn && mendable + improvable === 0;
  const isOff = isRunning.value;
  return (
    <div class="mend" id="mend" data-testid="mend" hidden={isHidden} data-on={isOn}>
      <p id="mend-text" role="status">{isHidden ? "" : isOn ? words.areMended(mended) : words.canBeMended(mendable, improvable)}</p>
      <button type="button" class="secondary small" id="mend-use" data-testid="mend-use" hidden={isOn} disabled={isOff}
        onClick={() => readAgain({ use_mended: true })}>
        {words.mend(mendable + improvable)}
      </button>
      <button type="button" class="quiet small" id="mend-undo" data-testid="mend-undo" hidden={!isOn} disabled={isOff}
        onClick={() => readAgain({ use_mended: false })}>
        {words.leave}
      </button>
    </div>
  );
}

/** Leaving the bad rows out needs a person's word. */
export function Consent() {
  const { problem_count = 0, can_train = false, good_rows = 0 } = shownDataset.value ?? {};
  return (
    <label class="consent" id="consent-row" hidden={problem_count === 0 || !can_train}>
      <input type="checkbox" id="consent" data-testid="dataset-consent" checked={consent.value} disabled={isRunning.value}
        onChange={({ currentTarget }) => (consent.value = currentTarget.checked)} />
      <span id="consent-text">{words.consent(good_rows)}</span>
    </label>
  );
}

export function Remarks() {
  const data = shownDataset.value;
  const groups = data?.report.groups.filter(({ severity }) => severity !== "error") ?? [];
  return (
    <section class="remarks" id="remarks" data-testid="dataset-remarks" aria-labelledby="remarks-title" hidden={!groups.length}>
      <h3 id="remarks-title">{words.remarks}</h3>
      <div class="kinds" id="remarks-kinds">{data && <Kinds key={data.name} groups={groups} report={data.report} opens={false} />}</div>
    </section>
  );
}

/** Bytes that are no UTF-8: what they read like in other encodings, as Python made it; the person chooses by looking. */
export function Encodings() {
  const { encoding = null, encodings = [] } = shownDataset.value?.report ?? {};
  const isHidden = !encodings.length && !encoding;
  const isOff = isRunning.value;
  return (
    <div class="encodings" id="encodings" data-testid="encodings" role="group" aria-labelledby="encodings-title" hidden={isHidden}>
      <div class="encodings-head">
        <p id="encodings-title" role="status">{isHidden ? "" : encoding ? words.readAs(encoding) : words.whichEncoding}</p>
        <button type="button" class="quiet small" id="encoding-undo" data-testid="encoding-undo" hidden={!encoding} disabled={isOff}
          onClick={() => readAgain({ encoding: null })}>
          {words.undo}
        </button>
      </div>
      <div class="encodings-list" id="encodings-list" hidden={!encodings.length || Boolean(encoding)}>
        {encodings.map(({ name, label, text }) => (
          <button type="button" value={name} data-encoding={name} disabled={isOff} onClick={() => readAgain({ encoding: name })}>
            <span class="encoding-text" dir="auto">{text}</span>
            <span class="hint">{label} · {name}</span>
          </button>
        ))}
      </div>
    </div>
  );
}
