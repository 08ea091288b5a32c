// The page's foot: what is stored, and a report for whoever shall help.

import { report } from "../link/report";
import { storage } from "../store/page";
import { readSettings } from "../store/settings";
import { common, pageText } from "../text";
import { CopyButton } from "./parts";

export function Foot() {
  const kept = storage.value;
  const words = !kept ? "" : kept.available ? pageText.kept(kept.persistent, kept.used_bytes) : kept.reason;
  return (
    <>
      <span id="storage-note" class={kept && (!kept.available || kept.reason) ? "warn" : ""}>{words}</span>
      <CopyButton id="copy-report" data-testid="copy-report" label={pageText.report} done={pageText.reportCopied}
        refused={common.copyRefused} text={() => report(readSettings() ?? undefined)} />
    </>
  );
}
