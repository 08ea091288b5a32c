// A run that was stopped: by a pause, a reload, a crash. It can be gone on with, or given up.

import { computed } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { focusNext } from "../dom";
import { Icon } from "../shell/parts";
import { gpu, model, worker } from "../store/page";
import { isRunning, stoppedRun } from "../store/train";
import { trainText } from "../text";
import { discard, resume } from "./run";

const isReady = computed(() => model.value !== null && gpu.value.state === "found");

/** The box above the settings; nothing while a run goes on or there is none to go on with. */
export function Stopped() {
  const run = isRunning.value ? null : stoppedRun.value;
  const box = useRef<HTMLDivElement>(null);
  // The buttons go while the keyboard stands on one of them: it goes on at the run, or at Start.
  const hadFocus = useRef(false);
  useEffect(() => {
    if (!run && hadFocus.current) focusNext("train-stop", "train-start");
    hadFocus.current = false;
  }, [run]);
  if (!run) return null;
  const note = isReady.value ? trainText.goesOn : gpu.value.state === "lost" ? trainText.onceGpu : trainText.onceReady;
  return (
    <div class="stopped-run" id="stopped-run" data-testid="stopped-run" role="status" ref={box}
      onFocusIn={() => (hadFocus.current = true)} onFocusOut={() => (hadFocus.current = false)}>
      <p>
        <strong id="stopped-at">{trainText.stoppedAt(run.step, run.total_steps)}</strong>{" "}
        <span id="stopped-what">{trainText.stoppedWhat(run.dataset, run.model, run.saved_at)}</span>
      </p>
      <p class="stopped-note" id="stopped-note">{note}</p>
      <div class="problem-buttons">
        <button type="button" class="primary small" data-testid="train-resume" id="train-resume" onClick={resume}
          disabled={!isReady.value || worker.value.phase !== "ready"}>
          <Icon name="play" /><span>{trainText.resume}</span>
        </button>
        <button type="button" class="quiet small" data-testid="train-discard" id="train-discard" onClick={discard}>
          {trainText.discard}
        </button>
      </div>
    </div>
  );
}
