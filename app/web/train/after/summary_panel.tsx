// What came of a run: its sentence, the rows held back before and after, what else changed, its report.

import { formatChange, formatLoss, shortLoss } from "../../format";
import type { ElseChanged, HeldNumbers } from "../../protocol";
import { openRuns, saveReport } from "../../runs/runs";
import { Icon } from "../../shell/parts";
import { curveOf } from "../../store/train";
import { afterText, trainText } from "../../text";
import { card } from "../result";
import { summary } from "./summary";

/** The sentence, and the numbers below it. What is wrong with the run of this session its status says. */
export function RunHeadline() {
  const now = summary.value;
  return (
    <>
      <p class="run-headline" id="run-headline" data-testid="run-headline" role="status">{now?.headline}</p>
      {now?.verdict && curveOf.value && <p class="run-verdict">{now.verdict}</p>}
      {now?.after && <Numbers before={now.before} after={now.after} />}
    </>
  );
}

const ROWS = [
  [afterText.loss, ({ loss }: HeldNumbers) => formatLoss(loss)],
  [afterText.perplexity, ({ perplexity }: HeldNumbers) => perplexity?.toFixed(2)],
  [afterText.accuracy, ({ accuracy }: HeldNumbers) => (accuracy == null ? undefined : afterText.share(accuracy))],
] as const;

function Numbers({ before, after }: { before: HeldNumbers | null; after: HeldNumbers }) {
  const said = (one: HeldNumbers, words: (one: HeldNumbers) => string | undefined) => words(one) ?? afterText.notMeasured;
  return (
    <table class="held-numbers" data-testid="held-numbers">
      <caption class="visually-hidden">{afterText.numbers}</caption>
      <thead>
        <tr>
          <td />
          {before && <th scope="col">{afterText.before(before.step)}</th>}
          <th scope="col">{afterText.after(after.step)}</th>
        </tr>
      </thead>
      <tbody>
        {ROWS.map(([label, words]) => (
          <tr>
            <th scope="row">{label}</th>
            {before && <td>{said(before, words)}</td>}
            <td>{said(after, words)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** What else changed, and what can be done with the run. */
export function RunAfter() {
  const now = summary.value;
  const id = card.value?.adapter.id;
  if (!now || !id) return null;
  return (
    <>
      <section class="else-changed" data-testid="else-changed" aria-labelledby="else-title">
        <h4 id="else-title">{afterText.elseTitle}</h4>
        {now.else_changed ? <Else changed={now.else_changed} /> : <p class="hint">{afterText.notMeasuredElse}</p>}
      </section>
      <div class="after-buttons">
        <button type="button" class="secondary small" data-testid="run-report" title={afterText.reportHint} onClick={() => saveReport(id, "html")}>
          <Icon name="file" /><span>{afterText.report}</span>
        </button>
        <button type="button" class="quiet small" data-testid="run-json" title={afterText.jsonHint} onClick={() => saveReport(id, "json")}>
          {afterText.json}
        </button>
        <button type="button" class="quiet small" data-testid="all-runs" onClick={openRuns}>
          <Icon name="rows" /><span>{afterText.allRuns}</span>
        </button>
      </div>
    </>
  );
}

function Else({ changed: { base, tuned, rose, words, advice, answers } }: { changed: ElseChanged }) {
  return (
    <>
      <p class={advice.length ? "else-words risen" : "else-words"}>
        {afterText.elseWhat}: {afterText.elseLoss(shortLoss(base), shortLoss(tuned), formatChange(rose))}; <strong>{words}</strong>.
      </p>
      {advice.length > 0 && (
        <>
          <p class="else-words">{afterText.advice}</p>
          <ul class="else-advice">{advice.map((one) => <li>{one}</li>)}</ul>
        </>
      )}
      {answers.length > 0 && (
        <details class="fold else-answers" open={advice.length > 0}>
          <summary>{afterText.answers(answers.length)}</summary>
          {answers.map((one) => (
            <div class="else-answer">
              <p class="else-question">{one.prompt}</p>
              <div class="versus">
                <Said title={trainText.without} side="base" text={one.base} />
                <Said title={trainText.withAdapter} side="tuned" text={one.tuned} />
              </div>
            </div>
          ))}
        </details>
      )}
    </>
  );
}

const Said = ({ title, side, text }: { title: string; side: "base" | "tuned"; text: string }) => (
  <div class={`answer ${side}`}>
    <h5>{title}</h5>
    <p class={text.trim() ? "" : "no-words"}>{text.trim() || trainText.emptyAnswer}</p>
  </div>
);
