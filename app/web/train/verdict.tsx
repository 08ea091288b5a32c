// What came of a run: what is wrong with it, in amber and with what to do; which of its adapters is kept.

import { focusNext } from "../dom";
import { Choices } from "../shell/parts";
import { adapters, wantedAdapter } from "../store/chat";
import { view } from "../store/settings";
import { curveOf, isRunning } from "../store/train";
import { left, verdict } from "../store/watch";
import { watchText } from "../text";
import { useKept } from "./watching";

function openSettings(): void {
  view.value = "open";
  focusNext("set-lr");
}

export function Verdict() {
  const found = isRunning.value || curveOf.value ? null : verdict.value;
  return (
    <div class="verdict-slot" role="status">
      {found && (
        <div class="problem remark verdict" data-testid="verdict" data-kind={found.kind}>
          <h3>{watchText.verdicts[found.kind] ?? watchText.looksBad}</h3>
          <p>{found.words}</p>
          <div class="problem-buttons">
            <button type="button" class="quiet small" onClick={openSettings}>{watchText.change}</button>
          </div>
        </div>
      )}
    </div>
  );
}

/** Which adapter is kept; where two are, which of them the chat uses. */
export function KeptAdapter() {
  const run = isRunning.value || curveOf.value ? null : left.value;
  const isThere = (id: string): boolean => adapters.value?.some((one) => one.id === id) ?? true;
  if (!run || !isThere(run.adapter.id)) return null;
  const { adapter, other, kept, kept_step, best_step } = run;
  const early = run.stopped_early ? `${watchText.endedEarly(other && kept === "best" ? other.steps : kept_step)}. ` : "";
  if (!other || !isThere(other.id)) {
    if (best_step === null) return null; // nothing was held back: there is one adapter, and nothing to choose
    return <p class="kept hint" data-testid="kept">{early}{watchText.keptOne(best_step === kept_step, kept_step)}</p>;
  }
  const both = [
    { id: adapter.id, isBest: kept === "best", step: kept_step },
    { id: other.id, isBest: kept !== "best", step: kept === "best" ? other.steps : best_step ?? other.steps },
  ].sort((one, next) => Number(next.isBest) - Number(one.isBest));
  return (
    <div class="kept" data-testid="kept">
      {early && <p class="hint">{early}</p>}
      <span>{watchText.kept}</span>
      <Choices class="presets" label={watchText.keptWhich}>
        {both.map(({ id, isBest, step }) => (
          <button type="button" data-kept={isBest ? "best" : "last"} aria-pressed={wantedAdapter.value === id} onClick={() => useKept(id)}>
            {isBest ? watchText.keptBest(step) : watchText.keptLast(step)}
          </button>
        ))}
      </Choices>
      <p class="hint">{watchText.keptHint}</p>
    </div>
  );
}

export const Outcome = () => (
  <>
    <Verdict />
    <KeptAdapter />
  </>
);
