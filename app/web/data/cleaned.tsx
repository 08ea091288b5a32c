// The cleaned file: its pieces come from Python one by one and are put together where the browser may keep them on disk.

import { effect, signal } from "@preact/signals";
import { useState } from "preact/hooks";
import { saveFile } from "../dom";
import { formatCount } from "../format";
import { train } from "../link/workers";
import { Bar, Fold, Icon } from "../shell/parts";
import type { Area } from "../store/bus";
import { dataset, shownDataset } from "../store/data";
import { showProblem } from "../store/problems";
import { dataText } from "../text";

const words = dataText.cleaned;
const writing = signal<{ readonly done: number; readonly total: number } | null>(null);
const written = signal(""); // what became of the last one
let pieces: Blob[] = []; // of the file that is being written

function save(mended: boolean, as_conversations: boolean): void {
  if (writing.peek() || !dataset.peek()) return;
  pieces = [];
  written.value = "";
  writing.value = { done: 0, total: 0 };
  showProblem("dataset-problem", null);
  train.send("save_cleaned", { mended, as_conversations });
}

function end(said = ""): void {
  if (!writing.peek()) return;
  pieces = [];
  writing.value = null;
  written.value = said;
}

// The worker gives it up when other data comes; when the same is only cut otherwise it goes on.
const open = { name: "", request: 0 };
effect(() => {
  const { name = "", request = 0 } = dataset.value ?? {};
  if (name === open.name && request === open.request) return;
  Object.assign(open, { name, request });
  end();
  written.value = "";
});

export const cleanedArea: Area = {
  train: {
    cleaned_piece: ({ data, done_rows, total_rows }) => {
      if (!writing.peek()) return;
      pieces.push(new Blob([data as BlobPart]));
      writing.value = { done: done_rows, total: total_rows };
    },
    cleaned_done: ({ file_name, rows }) => {
      if (!writing.peek()) return;
      saveFile(file_name, new Blob(pieces), "application/jsonl");
      end(words.saved(file_name, dataText.rows(rows)));
    },
    failed: ({ where }) => {
      if (where === "dataset") end();
    },
  },
  own: { train_gone: () => end(), train_anew: () => end() },
};

export function Cleaned() {
  const [mended, setMended] = useState(true);
  const [form, setForm] = useState("same");
  const { good = 0, mendable = 0, improvable = 0 } = shownDataset.value?.report ?? {};
  const now = writing.value;
  if (good + mendable === 0) return null;
  return (
    <Fold id="cleaned" summary={words.title}>
      <p class="hint">{words.hint}</p>
      <label class="check-row" id="cleaned-mended-row" hidden={mendable + improvable === 0}>
        <input type="checkbox" id="cleaned-mended" data-testid="cleaned-mended" checked={mended}
          onChange={({ currentTarget }) => setMended(currentTarget.checked)} />
        <span id="cleaned-mended-text">{words.withMended(mendable + improvable)}</span>
      </label>
      <div class="cleaned-form">
        <label for="cleaned-form">{words.writtenAs}</label>
        <select id="cleaned-form" data-testid="cleaned-form" value={form} onChange={({ currentTarget }) => setForm(currentTarget.value)}>
          <option value="same">{words.ownForm}</option>
          <option value="conversations">{words.conversations}</option>
        </select>
        <button type="button" class="secondary small" id="cleaned-save" data-testid="cleaned-save" disabled={now !== null}
          onClick={() => save(mended, form === "conversations")}>
          <Icon name="download" />{words.save}
        </button>
      </div>
      <Bar id="cleaned-progress" label={words.writing} hidden={!now} part={now?.total ? now.done / now.total : null} />
      <p class="hint" id="cleaned-status" role="status">
        {now ? (now.total ? words.soFar(formatCount(now.done), formatCount(now.total)) : "") : written.value}
      </p>
    </Fold>
  );
}
