// Runs beside each other: their curves in one picture, what came of each, what differs. Loaded when the dialog is first opened.

import { useSignal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { focusNext } from "../dom";
import { formatLoss } from "../format";
import type { ComparedRun, SettingDifference } from "../protocol";
import { Choices } from "../shell/parts";
import { isRunning } from "../store/train";
import { runsText, sharingText } from "../text";
import { useRunSettings } from "../train/sharing/sharing";
import { CompareChart, type Picked } from "./compare_chart";
import { comparison } from "./runs";

const CURVES = [["validation_curve", runsText.validation], ["loss_curve", runsText.training]] as const;
type CurveName = (typeof CURVES)[number][0];

export function Comparison() {
  const { runs, differences } = comparison.value!;
  const [which, choose] = useState<CurveName>(runs.some(({ validation_curve }) => validation_curve.length) ? "validation_curve" : "loss_curve");
  const picked = useSignal<Picked | null>(null); // the step that is pointed at
  useEffect(() => focusNext("runs-back"), []);
  const what = CURVES.find(([name]) => name === which)![1];
  const hasCurve = runs.some((run) => run[which].length);
  return (
    <>
      <Choices class="presets" label={runsText.curves}>
        {CURVES.map(([name, label]) => (
          <button type="button" aria-pressed={name === which} onClick={() => choose(name)}>{label}</button>
        ))}
      </Choices>
      {hasCurve ? <Curves key={which} runs={runs} which={which} what={what} point={(one) => (picked.value = one)} />
        : <p class="empty">{runsText.noCurves}</p>}
      <p class="hint picked-step">{hasCurve && (picked.value ? runsText.atStep(picked.value.step) : runsText.atEnd)}</p>
      <ol class="compared" data-testid="compared-runs">
        {runs.map((run, place) => {
          const loss = picked.value ? picked.value.values[place] : run[which].at(-1)?.[1];
          return (
            <li key={run.id}>
              <span class={`run-key run-key-${place % 6}`} data-dashes={Math.floor(place / 6) % 3} aria-hidden="true" />
              <div>
                <p class="compared-name">{run.name} <output>{loss == null ? runsText.notKnown : formatLoss(loss)}</output></p>
                <p class="hint">{run.headline}</p>
              </div>
              <button type="button" class="quiet small" disabled={isRunning.value} title={isRunning.value ? sharingText.notDuringRun : undefined}
                onClick={() => useRunSettings(run)}>
                {runsText.use}
              </button>
            </li>
          );
        })}
      </ol>
      <h3>{runsText.differences}</h3>
      {differences.length ? <Differences runs={runs} differences={differences} /> : <p class="empty">{runsText.alike}</p>}
    </>
  );
}

function Curves({ runs, which, what, point }: {
  runs: readonly ComparedRun[]; which: CurveName; what: string; point: (picked: Picked | null) => void;
}) {
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!box.current) return;
    const chart = new CompareChart(box.current, runs.map((run) => run[which]), point);
    return () => chart.destroy();
  }, [runs]);
  return <div class="compare-chart" data-testid="compare-chart" role="img" aria-label={runsText.chart(what, runs.map(({ name }) => name))} ref={box} />;
}

const Differences = ({ runs, differences }: { runs: readonly ComparedRun[]; differences: readonly SettingDifference[] }) => (
  <div class="runs-scroll" role="region" tabIndex={0} aria-label={runsText.differences}>
    <table class="runs-table differences" data-testid="run-differences">
      <thead>
        <tr>
          <th scope="col">{runsText.setting}</th>
          {runs.map(({ id, name }) => <th key={id} scope="col">{name}</th>)}
        </tr>
      </thead>
      <tbody>
        {differences.map(({ name, label, values }) => (
          <tr key={name}>
            <th scope="row">{label}</th>
            {values.map((value) => <td>{value}</td>)}
          </tr>
        ))}
      </tbody>
    </table>
  </div>
);
