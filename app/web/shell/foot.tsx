// The page's foot: what is stored, and a report for whoever shall help.

import { report } from "../link/report";
import { storage } from "../store/page";
import { readSettings } from "../store/settings";
import { common, pageText } from "../text";
import { offline, takeOver } from "./offline";
import { CopyButton } from "./parts";

function Offline() {
  const { state, others, isHeld } = offline.value;
  return (
    <span class="offline">
      <span id="offline-status" data-testid="offline-status" data-state={state} role="status">
        {isHeld ? "" : state === "update" && others ? pageText.otherTabs(others) : pageText.offline[state]}
      </span>
      <button type="button" class="quiet small" id="update-reload" data-testid="update-reload" hidden={state !== "update" || isHeld}
        onClick={() => void takeOver()}>{pageText.reload}</button>
    </span>
  );
}

export function Foot() {
  const kept = storage.value;
  const words = !kept ? "" : kept.available ? pageText.kept(kept.persistent, kept.used_bytes) : kept.reason;
  return (
    <>
      <span id="storage-note" class={kept && (!kept.available || kept.reason) ? "warn" : ""}>{words}</span>
      <Offline />
      <CopyButton id="copy-report" data-testid="copy-report" label={pageText.report} done={pageText.reportCopied}
        refused={common.copyRefused} text={() => report(readSettings() ?? undefined)} />
    </>
  );
}
