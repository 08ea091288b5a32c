// Settings that came with the page's address: shown above the panels, used when the person says so.

import { formatLearningRate } from "../../format";
import type { TrainSettings } from "../../protocol";
import { isRunning } from "../../store/train";
import { common, sharingText, trainText } from "../../text";
import { brought, decide } from "./sharing";

const line = ({ steps, rank, learning_rate }: TrainSettings): string =>
  trainText.settingsLine(String(steps), String(rank), formatLearningRate(learning_rate));

export function BroughtSettings() {
  const now = brought.value;
  return (
    <div class="root" role="status">
      {now && (
        <section class={now.problem ? "brought bad" : "brought"} data-testid="brought-settings">
          {now.problem ? (
            <p><strong>{sharingText.broughtBad}</strong><br /><span class="brought-why">{now.problem}</span></p>
          ) : now.taken ? (
            <p>
              {sharingText.brought} <strong>{line(now.taken.settings)}</strong>
              {now.taken.remarks.map((one) => <><br /><span class="brought-why">{one}</span></>)}
            </p>
          ) : <p>{sharingText.broughtLooking}</p>}
          <div class="brought-buttons">
            {!now.problem && (
              <button type="button" class="primary small" data-testid="brought-use" disabled={!now.taken || isRunning.value}
                title={isRunning.value ? sharingText.notDuringRun : undefined} onClick={() => decide(true)}>
                {sharingText.usesThem}
              </button>
            )}
            <button type="button" class="quiet small" data-testid="brought-leave" onClick={() => decide(false)}>
              {now.problem ? common.dismiss : sharingText.leavesThem}
            </button>
          </div>
        </section>
      )}
    </div>
  );
}
