// Step 1's panel: empty, reading or ready. What stands in it is in the other files of this folder.

import { computed } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import { focusNext, hasVisibleFocus } from "../dom";
import { formatBytes, formatCount, formatTime, sentence } from "../format";
import type { NamedBlob } from "../protocol";
import { onChoice } from "../shell/files";
import { Bar, Icon } from "../shell/parts";
import { Problems } from "../shell/problems";
import { asked, dataset, panelState, reading, shownDataset, type Reading } from "../store/data";
import { worker } from "../store/page";
import { isRunning } from "../store/train";
import { dataText } from "../text";
import { Cleaned } from "./cleaned";
import { ENDINGS } from "./files";
import { Empty, PasteEditor } from "./input";
import { MappedLine, MappingForm } from "./mapping_form";
import { PreviewSlot } from "./preview_slot";
import { Consent, Encodings, Errors, Mend, Remarks } from "./problems";
import { add, counterpart, leaveOut, removeData, stopReading } from "./reading";
import { Readings, Unused } from "./readings";
import { More, Report } from "./report";

const words = dataText.panel;

const isBusy = computed(() => reading.value !== null);
const isCounting = computed(() => reading.value?.counting === true);

export function DataPanel() {
  const now = panelState.value;
  const places = useKeyboard();
  return (
    <div class="panel-body" id="data-body" data-state={now} aria-busy={isBusy.value} {...places}>
      <PasteEditor />
      <Empty />
      <Progress />
      <div class="when-ready">
        <Name />
        <MappedLine />
        <Readings />
        <MappingForm />
        <Errors />
        <Mend />
        <Encodings />
        <Consent />
        <Unused />
        <Report />
        <Remarks />
        <PreviewSlot />
        <More />
        <Cleaned />
      </div>
      <Problems slot="dataset-problem" />
    </div>
  );
}

/** What the keyboard stood on may be gone when the panel changes: it goes on at its counterpart, or at the panel's head. */
function useKeyboard() {
  const isOwed = useRef(false); // it stands in the panel, or stood there when that place went
  const [now, data, counts] = [panelState.value, dataset.value, isCounting.value];
  useLayoutEffect(() => {
    // Other parts of the panel are drawn right after this one.
    const timer = setTimeout(() => {
      if (!isOwed.current || hasVisibleFocus()) return;
      if (panelState.peek() === "empty") focusNext("dataset-input");
      else if (panelState.peek() === "reading") focusNext("reading-stop");
      else focusNext(counterpart(), counts ? "reading-stop" : "", "dataset-title");
    });
    return () => clearTimeout(timer);
  }, [now, data, counts]);
  return {
    onFocusIn: () => {
      isOwed.current = true;
    },
    onFocusOut: ({ relatedTarget, target }: FocusEvent) => {
      const left = target as Element;
      isOwed.current = relatedTarget === null && (!left.checkVisibility() || left.matches(":disabled"));
    },
  };
}

// ------------------------------------------------------------------------------------------------------------- reading

function Progress() {
  const now = reading.value;
  const { done = 0, total = 0, stopping = false } = now ?? {};
  return (
    <div class="reading" id="reading" hidden={panelState.value !== "reading" && !now?.counting}>
      <p id="reading-text" role="status">{now ? progressWords(now) : ""}</p>
      <Bar id="reading-progress" label={words.readingData} part={total && !stopping ? done / total : null} />
      <div class="reading-foot">
        <span class="hint" id="reading-left">{now ? leftWords(now) : ""}</span>
        <button type="button" class="secondary small" id="reading-stop" data-testid="reading-stop" disabled={stopping} onClick={stopReading}>
          {words.stop}
        </button>
      </div>
    </div>
  );
}

function progressWords({ total, unit, name, stopping }: Reading): string {
  if (stopping) return words.stopping;
  if (!total && worker.value.phase !== "ready") return words.comesNext(sentence(name));
  return unit === "rows" ? words.counting : words.reading(name);
}

function leftWords({ done, total, unit, left_ms, stopping }: Reading): string {
  if (!total || stopping) return "";
  const amount = unit === "rows" ? words.rowsOf(formatCount(done), formatCount(total)) : words.bytesOf(formatBytes(done), formatBytes(total));
  return left_ms != null && left_ms > 1000 ? words.left(amount, formatTime(left_ms)) : amount;
}

// -------------------------------------------------------------------------------------------------------- what is open

/** What the data is called, and its files where there are several. */
function Name() {
  const files = asked.value?.files ?? [];
  const isOff = isRunning.value;
  return (
    <>
      <div class="dataset-name">
        <Icon name="file" />
        <strong id="dataset-title" tabIndex={-1}>{shownDataset.value?.title}</strong>
        <label class="as-button quiet small" id="dataset-add-label" hidden={!asked.value}>
          <input type="file" class="visually-hidden" data-testid="dataset-add" id="dataset-add" multiple aria-label={words.addFilesLong}
            accept={ENDINGS} disabled={isOff} onChange={onChoice(add)} />
          <span>{words.addFiles}</span>
        </label>
        <button type="button" class="quiet small" id="dataset-remove" disabled={isOff} onClick={removeData}>{words.replace}</button>
      </div>
      <ul class="dataset-files" id="dataset-files" hidden={files.length < 2}>
        {files.length > 1 && files.map((file) => <File file={file} />)}
      </ul>
    </>
  );
}

const File = ({ file }: { file: NamedBlob }) => (
  <li>
    <span>{file.name}</span>
    <span class="count">{formatBytes(file.blob.size)}</span>
    <button type="button" class="quiet icon-only" aria-label={words.leaveOut(file.name)} disabled={isRunning.value} onClick={() => leaveOut(file)}>
      <Icon name="close" />
    </button>
  </li>
);
