// How data gets in: files chosen, dropped or pasted, folders, a sample, and text pasted into a small editor.

import { computed, signal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { focusNext } from "../dom";
import { formatCount, formatTime } from "../format";
import type { NamedBlob } from "../protocol";
import { onChoice, useDrop } from "../shell/files";
import { Fold, Icon } from "../shell/parts";
import { site } from "../site";
import { dataset, reading } from "../store/data";
import { gpu, missingWebGpu, modelProblem } from "../store/page";
import { toast } from "../store/problems";
import { tab } from "../store/shell";
import { isRunning } from "../store/train";
import { dataText } from "../text";
import { startWhenPlanned } from "../train/plan";
import { knownTime } from "../train/times";
import { ENDINGS, pasted, readable } from "./files";
import { add, take } from "./reading";

const words = dataText.input;

/** Read files in place of what is there, those of them that can be data. */
export function takeFiles(files: readonly NamedBlob[]): void {
  const good = readable(files);
  if (good.length) take({ files: good });
}

// --- nothing is open ---

export function Empty() {
  const drop = useDrop("drop-zone", takeFiles);
  return (
    <div class="when-empty">
      <label id="dataset-drop" {...drop}>
        <input type="file" class="visually-hidden" data-testid="dataset-input" id="dataset-input" multiple aria-label={words.chooseFiles}
          accept={ENDINGS} onChange={onChoice(takeFiles)} />
        <Icon name="rows" big />
        <span class="drop-title">{words.dropHere}</span>
        <span class="drop-sub">{words.or} <span class="as-link">{words.choose}</span></span>
        <span class="drop-kinds">{words.kinds}</span>
      </label>
      <button type="button" class="quiet small paste-open" id="paste-open" data-testid="paste-open" onClick={() => openPaste()}>
        <Icon name="copy" />{words.pasteInstead}
      </button>
      <Samples />
      <Forms />
    </div>
  );
}

const canTrain = computed(() => !missingWebGpu() && !["none", "lost"].includes(gpu.value.state) && !modelProblem.value);

/** The one filled button of a page without data: read the sample and train on it, with a line of what that will be. */
function TrainSample({ name, title, steps = 0 }: { name: string; title: string; steps?: number }) {
  const known = knownTime(title);
  const pace = known !== null ? words.tookHere(formatTime(known)) : gpu.value.is_software ? words.slowHere : words.usually;
  const train = (): void => {
    take({ sample: name });
    startWhenPlanned();
    tab.value = "train";
  };
  return (
    <div class="sample-train">
      <button type="button" class="primary" data-testid="sample-train" disabled={reading.value !== null} onClick={train}>
        <Icon name="play" />{words.trainOnIt}
      </button>
      <p class="hint" data-testid="sample-says">{words.whatHappens(steps)} {pace}</p>
    </div>
  );
}

const Samples = () => (
  <>
    {site.samples.map(({ name, title, description, rows, settings }, index) => (
      <div class="sample">
        <div>
          <h3>{title}</h3>
          <p>{description}</p>
        </div>
        {canTrain.value && <TrainSample name={name} title={title} steps={settings?.steps} />}
        <button type="button" class="secondary sample-button" data-sample={name} data-testid={index ? undefined : "sample-dataset"}
          disabled={reading.value !== null} onClick={() => take({ sample: name })}>
          {words.tryIt} <span class="count">{words.rows(formatCount(rows))}</span>
        </button>
      </div>
    ))}
  </>
);

const Forms = () => (
  <Fold class="forms" summary={words.whatRows}>
    <p>{words.oneExample}</p>
    {words.forms.map(({ name, note, example }) => (
      <>
        <h4>{name}{note && <> <span>{note}</span></>}</h4>
        <pre tabIndex={0} role="group" aria-label={words.anExample(name)}><code>{example}</code></pre>
      </>
    ))}
    <p>{words.otherNames}</p>
  </Fold>
);

// --- pasting ---

const paste = signal<{ readonly text: string } | null>(null); // the editor, when it is open

function openPaste(text = ""): void {
  paste.value = { text: text || (paste.peek()?.text ?? "") };
  setTimeout(() => {
    const field = document.getElementById("paste-text");
    field?.focus();
    field?.scrollIntoView({ block: "nearest" });
  });
}

const closePaste = (): void => {
  paste.value = null;
};

function onPaste(event: ClipboardEvent): void {
  if (event.target instanceof Element && event.target.closest("input, textarea, select, [contenteditable], dialog")) return;
  const files = [...(event.clipboardData?.files ?? [])].map((file) => ({ name: file.name, blob: file }));
  const text = event.clipboardData?.getData("text/plain") ?? "";
  if (!files.length && !text.trim()) return;
  event.preventDefault();
  if (isRunning.peek()) toast(dataText.notDuringRun);
  else if (files.length) takeFiles(files);
  else if (dataset.peek()) openPaste(text); // what is there is not given up for a slip of the fingers
  else if (!reading.peek()) take({ text });
}

export function PasteEditor() {
  useEffect(() => {
    document.addEventListener("paste", onPaste);
    return () => document.removeEventListener("paste", onPaste);
  }, []);
  const field = useRef<HTMLTextAreaElement>(null);
  const isReading = reading.value !== null && !reading.value.counting;
  useLayoutEffect(() => {
    if (isReading) closePaste(); // what comes takes its place
  }, [isReading]);
  const cancel = (): void => {
    closePaste();
    focusNext(dataset.peek() ? "dataset-title" : "paste-open");
  };
  const use = (give: (text: string) => void): void => {
    const text = paste.peek()?.text ?? "";
    if (!text.trim()) return field.current?.focus();
    closePaste();
    give(text);
  };
  const read = (event: Event): void => {
    event.preventDefault();
    use((text) => take({ text }));
  };
  const onKey = (event: KeyboardEvent & { currentTarget: HTMLFormElement }): void => {
    if (event.key === "Escape") cancel();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.currentTarget.requestSubmit();
  };
  return (
    <form class="paste" id="paste" hidden={paste.value === null || isReading} onSubmit={read} onKeyDown={onKey}>
      <label for="paste-text">{words.rowsToRead}</label>
      <textarea id="paste-text" data-testid="paste-text" rows={7} spellcheck={false} autocomplete="off" ref={field}
        placeholder={words.pasteExample} value={paste.value?.text ?? ""} onInput={({ currentTarget }) => (paste.value = { text: currentTarget.value })} />
      <div class="button-row">
        <button type="submit" class="primary small" id="paste-read" data-testid="paste-read">{words.readIt}</button>
        <button type="button" class="secondary small" id="paste-add" hidden={!dataset.value} onClick={() => use((text) => add([pasted(text)]))}>
          {words.addToRows}
        </button>
        <button type="button" class="quiet small" id="paste-cancel" onClick={cancel}>{words.cancel}</button>
      </div>
    </form>
  );
}
