// Start, Pause, Stop, the run's status and how far it is; the page's title; a warning before the page is left in mid-run.

import { computed, useSignalEffect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { focusNext } from "../dom";
import { formatBytes, formatCount } from "../format";
import { Bar, Icon } from "../shell/parts";
import { Problems } from "../shell/problems";
import { adapters } from "../store/chat";
import { isRunning, mayEnd, outcome, phase, phaseDetail, phaseProgress, whyNot } from "../store/train";
import { verdict } from "../store/watch";
import { trainText, watchText } from "../text";
import { showIcon, showTitle } from "./far";
import { NoticeButton } from "./notice_button";
import { setUpNotice } from "./notice";
import { pause, stop } from "./run";

/** What the status says. */
export const status = computed((): string => {
  const now = phase.value;
  if (now === "idle" && !phaseDetail.value) return whyNot.value || trainText.ready;
  const ended = now === "error";
  if (now === "done") return endWords() + (whyNot.value ? `. ${whyNot.value}` : "");
  return describe() + (ended && whyNot.value ? `. ${whyNot.value}` : "");
});

/** What has become of the run, as long as it is true. */
function endWords(): string {
  const left = outcome.value;
  const isGone = left !== null && adapters.value !== null && !adapters.value.some(({ id }) => id === left.adapterId);
  const found = verdict.value ? watchText.verdicts[verdict.value.kind] ?? watchText.looksBad : "";
  return trainText.ended(phaseDetail.value, left?.stoppedAt ?? null, isGone, found);
}

function describe(): string {
  const { done, total } = phaseProgress.value;
  const words = trainText.phases[phase.value];
  if (phase.value === "loading" && total) return `${words}: ${trainText.of(formatBytes(done), formatBytes(total))}`;
  if (phase.value === "compiling" && total) return `${words}: ${trainText.kernels(formatCount(done), formatCount(total))}`;
  return phaseDetail.value || words;
}

export function RunPanel() {
  const running = isRunning.value;
  const stopping = phase.value === "stopping";
  const { done, total } = phaseProgress.value;
  const row = useRef<HTMLDivElement>(null);
  const hadFocus = useRef(false);
  // The buttons stand in each other's place, and the fields rest while a run goes on: the focus goes along, to Stop when
  // it begins and to what came of it at its end, or keyboards would lose their place.
  useEffect(() => {
    const fromForm = running && document.activeElement?.closest("#settings-fields");
    if (hadFocus.current || fromForm) focusNext(...(running ? ["train-stop"] : ["result", "train-start"]));
    hadFocus.current = false;
  }, [running]);
  useSignalEffect(showTitle);
  useSignalEffect(showIcon);
  useEffect(setUpNotice, []);
  useEffect(() => {
    const ask = (event: Event): void => {
      if (isRunning.peek()) event.preventDefault(); // the browser asks in its own words
    };
    addEventListener("beforeunload", ask);
    return () => removeEventListener("beforeunload", ask);
  }, []);
  return (
    <>
      <div class="run-row" ref={row} onFocusIn={() => (hadFocus.current = true)}
        onFocusOut={(event) => (hadFocus.current = event.relatedTarget === null && !(event.target as Element).checkVisibility())}>
        <button type="submit" form="settings" class="primary" data-testid="train-start" id="train-start" disabled={whyNot.value !== ""} hidden={running}>
          <Icon name="play" /><span>{phase.value === "done" ? trainText.startAgain : trainText.start}</span>
        </button>
        <button type="button" class="secondary" data-testid="train-pause" id="train-pause" onClick={pause} hidden={!running}
          disabled={phase.value !== "training"}>
          <Icon name="pause" /><span>{trainText.pause}</span>
        </button>
        <button type="button" class="stop" data-testid="train-stop" id="train-stop" onClick={stop} hidden={!running}
          disabled={!running || (stopping && !mayEnd.value)}>
          <Icon name="stop" /><span>{stopping && mayEnd.value ? trainText.endAtOnce : trainText.stop}</span>
        </button>
        <p class="run-status" data-testid="train-status" id="train-status" data-state={phase.value} data-verdict={running ? undefined : verdict.value?.kind}
          role="status" aria-live="polite">
          {status.value}
        </p>
        {running && <NoticeButton />}
      </div>
      <Bar id="train-progress" label={trainText.training} part={total ? done / total : null} hidden={!running} />
      <Problems slot="train-problem" />
    </>
  );
}
