// The dialog of all runs. What it shows is fetched when it is first opened.

import { signal } from "@preact/signals";
import type { ComponentType } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { Icon } from "../shell/parts";
import { Problems } from "../shell/problems";
import { showProblem } from "../store/problems";
import { pageText, runsText } from "../text";
import { closeRuns, comparison, isOpen, leaveComparison, openRuns } from "./runs";

interface Parts { readonly RunTable: ComponentType; readonly Comparison: ComponentType }
const parts = signal<Parts | null>(null);

async function load(): Promise<void> {
  try {
    const [{ RunTable }, { Comparison }] = await Promise.all([import("./table"), import("./comparison")]);
    parts.value = { RunTable, Comparison };
  } catch {
    showProblem("runs-problem", { message: runsText.notLoaded });
  }
}

/** Where the page leads to them. */
export const RunsButton = () => (
  <button type="button" class="quiet small" id="runs-open" data-testid="runs-open" aria-haspopup="dialog" onClick={openRuns}>
    <Icon name="rows" /><span>{runsText.title}</span>
  </button>
);

export function RunsDialog() {
  const box = useRef<HTMLDialogElement>(null);
  const open = isOpen.value;
  const compared = comparison.value;
  useEffect(() => {
    if (open && !box.current?.open) box.current?.showModal();
    if (!open) box.current?.close();
    if (open && !parts.peek()) void load();
  }, [open]);
  const cancel = (event: Event): void => {
    if (!comparison.peek()) return;
    event.preventDefault(); // first out of what was opened last
    leaveComparison();
  };
  const beside = (event: Event): void => {
    if (event.target === box.current) closeRuns();
  };
  const { RunTable, Comparison } = parts.value ?? {};
  return (
    <dialog id="runs-dialog" class="runs" aria-labelledby="runs-title" ref={box} onClose={closeRuns} onCancel={cancel} onClick={beside}>
      <div class="dialog-head">
        {compared && (
          <button type="button" class="quiet small" id="runs-back" data-testid="runs-back" onClick={leaveComparison}>
            <Icon name="left" /><span>{runsText.back}</span>
          </button>
        )}
        <h2 id="runs-title">{compared ? runsText.compared(compared.runs.length) : runsText.title}</h2>
        <button type="button" class="quiet icon-only" aria-label={pageText.close} onClick={closeRuns}><Icon name="close" /></button>
      </div>
      <Problems slot="runs-problem" />
      {open && (compared ? Comparison && <Comparison /> : RunTable ? <RunTable /> : <p class="empty">{runsText.looking}</p>)}
    </dialog>
  );
}
