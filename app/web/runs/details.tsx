// What can be seen of a run, and done with it: its numbers, notes, settings, report.

import { useEffect, useRef, useState } from "preact/hooks";
import { formatChange } from "../format";
import type { RunRow } from "../protocol";
import { Icon } from "../shell/parts";
import { adapters } from "../store/chat";
import { isRunning } from "../store/train";
import { afterText, common, runsText, sharingText } from "../text";
import { showRun } from "../train/result";
import { ShareButtons } from "../train/sharing/buttons";
import { useRunSettings } from "../train/sharing/sharing";
import { bringNotesBack, closeRuns, note, replaced, saveReport } from "./runs";

export function RunDetails({ run }: { run: RunRow }) {
  const { id, perplexity, accuracy, rose, notes, has_record } = run;
  const adapter = adapters.value?.find((one) => one.id === id);
  const said = [
    perplexity == null ? "" : runsText.perplexity(perplexity.toFixed(2), accuracy == null ? "" : afterText.share(accuracy)),
    rose == null ? "" : runsText.rose(formatChange(rose)),
  ];
  const show = (): void => {
    closeRuns();
    if (adapter) showRun(adapter);
  };
  const hint = isRunning.value ? sharingText.notDuringRun : undefined;
  return (
    <div class="run-details">
      {has_record ? said.some(Boolean) && <p>{runsText.line(said)}</p> : <p>{runsText.noRecord}</p>}
      <div class="run-buttons">
        <button type="button" class="secondary small" data-testid="use-settings" disabled={isRunning.value} title={hint}
          onClick={() => useRunSettings(run)}>
          {runsText.use}
        </button>
        <button type="button" class="quiet small" disabled={!adapter || isRunning.value} title={hint} onClick={show}>{runsText.show}</button>
        <button type="button" class="quiet small" title={afterText.reportHint} onClick={() => saveReport(id, "html")}>
          <Icon name="file" /><span>{afterText.report}</span>
        </button>
        <button type="button" class="quiet small" title={afterText.jsonHint} onClick={() => saveReport(id, "json")}>{afterText.json}</button>
        <ShareButtons of={{ id }} slot="runs-problem" />
      </div>
      <Notes id={id} notes={notes} />
    </div>
  );
}

function Notes({ id, notes }: Pick<RunRow, "id" | "notes">) {
  const [text, setText] = useState(notes);
  const last = useRef(text);
  last.current = text;
  useEffect(() => setText(notes), [notes]);
  useEffect(() => () => note(id, last.current), [id]); // the dialog is closed in the middle of a word
  return (
    <div class="run-noted">
      <label for={`notes-${id}`}>{runsText.notes} <span class="hint">{runsText.notesHint}</span></label>
      <textarea id={`notes-${id}`} data-testid="run-notes" rows={2} maxLength={10000} value={text}
        onInput={(event) => setText(event.currentTarget.value)} onChange={() => note(id, text)} />
      <p role="status">
        {replaced.value?.id === id && (
          <>{runsText.noteWas} <button type="button" class="quiet small" onClick={bringNotesBack}>{common.undo}</button></>
        )}
      </p>
    </div>
  );
}
