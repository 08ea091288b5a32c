// Rows to check on from a file of their own, in place of a share of the dataset that is held back.

import { focusNext } from "../dom";
import { formatCount } from "../format";
import { train } from "../link/workers";
import type { DatasetReady, NamedBlob, ValidationPart } from "../protocol";
import { onChoice, useDrop } from "../shell/files";
import { Problems } from "../shell/problems";
import type { Area } from "../store/bus";
import { asked, dataset, reading, validationReading } from "../store/data";
import { showProblem } from "../store/problems";
import { isRunning } from "../store/train";
import { dataText } from "../text";
import { planNow } from "../train/plan";
import { ENDINGS } from "./files";
import { Kinds } from "./kinds";
import { isOutdated } from "./reading";

const words = dataText.validation;
const SHOWN_LINES = 4;
let used: { readonly files: readonly NamedBlob[]; readonly of: string } | null = null; // to be read again when that dataset is
let isAsking = false; // the worker was told of another file, or of none

function take(files: readonly NamedBlob[]): void {
  showProblem("validation-problem", null);
  validationReading.value = { files, name: files.map(({ name }) => name).join(", "), done: 0, total: 0 };
  isAsking = true;
  train.send("read_validation", { files });
}

const mayTake = (): boolean => dataset.peek() !== null && !isRunning.peek() && !reading.peek() && !validationReading.peek();

function remove(): void {
  used = null;
  isAsking = true;
  showProblem("validation-problem", null);
  train.send("read_validation", { files: [] });
  focusNext("validation-input");
}

function ready(event: DatasetReady): void {
  if (isOutdated(event)) return;
  const { title, suggested, validation } = event;
  const now = validationReading.peek();
  if (validation && now) used = { files: now.files, of: title };
  if (isAsking) planNow();
  isAsking = false;
  validationReading.value = null;
  if (now || !suggested || validation || !used) return;
  if (used.of === title) take(used.files); // the dataset was read anew, with other columns or mended rows
  else used = null;
}

export const validationArea: Area = {
  train: {
    dataset_ready: ready,
    dataset_cleared: () => {
      if (asked.peek() === null) used = null; // else other data is being read already
      validationReading.value = null;
      isAsking = false;
    },
    failed: (event) => {
      if (event.where !== "dataset" || !validationReading.peek()) return;
      isAsking = false;
      validationReading.value = null;
      showProblem("validation-problem", event);
    },
  },
};

export function Validation() {
  const drop = useDrop("validation", (files) => {
    if (mayTake()) take(files);
  });
  const data = dataset.value;
  const part = data?.validation ?? null;
  const now = validationReading.value;
  const isOff = now !== null || isRunning.value;
  const groups = part?.report.groups.filter(({ severity }) => severity !== "info") ?? [];
  return (
    <div id="validation" data-testid="validation" data-state={now ? "reading" : part ? "used" : "none"} {...drop}>
      <div class="validation-head">
        <h4 id="validation-title">{part ? part.name : words.title}</h4>
        <label class="as-button secondary small" id="validation-choose">
          <input type="file" class="visually-hidden" id="validation-input" data-testid="validation-input" multiple accept={ENDINGS}
            aria-describedby="validation-text" disabled={!data || isOff}
            onChange={onChoice((files) => mayTake() && take(files))} />
          {words.choose}
        </label>
        <button type="button" class="quiet small" id="validation-remove" data-testid="validation-remove" hidden={!part} disabled={isOff} onClick={remove}>
          {words.remove}
        </button>
      </div>
      <p id="validation-text" data-testid="validation-text" aria-live="polite">
        {now ? words.reading(now.name) : part ? about(part) : data ? words.ownRows : words.dataFirst}
      </p>
      <div class="kinds" id="validation-kinds" data-testid="validation-kinds">
        {part && <Kinds key={part.name} groups={groups} report={part.report} opens={false} />}
      </div>
      <Problems slot="validation-problem" />
    </div>
  );
}

function about({ rows, good_rows, overlap, overlap_lines }: ValidationPart): string {
  const lines = overlap_lines.slice(0, SHOWN_LINES).map(([line, other]) => words.lineThere(formatCount(line), formatCount(other)));
  const found = overlap ? words.inTraining(overlap, lines.join(", "), Math.max(0, overlap - SHOWN_LINES)) : words.noneInTraining;
  return `${words.toCheckOn(good_rows, rows)} ${found}`;
}
