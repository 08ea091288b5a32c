// The card of a run: the same question answered without the adapter and with it.

import { useSignalEffect } from "@preact/signals";
import { takeAlong } from "../chat/taking/take";
import { Icon } from "../shell/parts";
import { Problems } from "../shell/problems";
import { applied, chatModel, comparing, others, replying } from "../store/chat";
import { isRunning } from "../store/train";
import { takeText, trainText } from "../text";
import { RunAfter, RunHeadline } from "./after/summary_panel";
import { askNext, card, choose, download, type Answer } from "./result";

export function ResultPanel() {
  // Each of these may have been what the next question waited for.
  useSignalEffect(() => {
    void [card.value, comparing.value, applied.value, others.value, replying.value, isRunning.value, chatModel.value];
    askNext();
  });
  const now = card.value;
  const answer = now?.answers[now.shown];
  const writing = now?.writing?.index === now?.shown ? now?.writing?.side : undefined;
  return (
    <section class={answer ? "result" : "result bare"} id="result" tabIndex={-1} aria-labelledby="result-title" hidden={!now} data-adapter={now?.adapter.id}>
      <div class="result-head">
        <div>
          <h3 id="result-title">{trainText.beforeAndAfter}</h3>
          <p class="hint" id="result-sub">{now?.note}</p>
        </div>
        <div class="result-ways">
          <button type="button" class="secondary" data-testid="export-adapter" id="export-adapter" onClick={download}>
            <Icon name="download" /><span>{trainText.download}</span>
          </button>
          <button type="button" class="secondary" data-testid="take-result" id="take-result" onClick={() => now && takeAlong(now.adapter.id)}>
            {takeText.title}
          </button>
        </div>
      </div>
      <RunHeadline />
      <div class="probe">
        <p class="probe-question" id="probe-question">{answer?.prompt}</p>
        <Tabs count={now?.answers.length ?? 0} shown={now?.shown ?? 0} />
      </div>
      <div class="versus">
        <Side side="base" title={trainText.without} answer={answer} isBusy={writing === "base"} />
        <Side side="tuned" title={trainText.withAdapter} answer={answer} isBusy={writing === "tuned"} />
      </div>
      <p class="reference" id="reference" hidden={!answer?.reference}>
        <span>{trainText.inTheData}</span> <span id="reference-text">{answer?.reference}</span>
      </p>
      <RunAfter />
      <Problems slot="compare-problem" />
    </section>
  );
}

const Tabs = ({ count, shown }: { count: number; shown: number }) => (
  <div class="probe-tabs" id="probe-tabs" role="group" aria-label={trainText.questions} hidden={count < 2}>
    {Array.from({ length: count }, (_, index) => (
      <button type="button" aria-label={trainText.question(index + 1)} aria-pressed={index === shown} onClick={() => choose(index)}>
        {index + 1}
      </button>
    ))}
  </div>
);

function Side({ side, title, answer, isBusy }: { side: "base" | "tuned"; title: string; answer: Answer | undefined; isBusy: boolean }) {
  const text = answer?.[side].trim() ?? "";
  const state = isBusy ? "streaming" : answer?.isDone || text ? "done" : "waiting";
  const isEmpty = state === "done" && answer?.isDone && !text;
  return (
    <div class={`answer ${side}`}>
      <h4>{title}</h4>
      <p data-testid={`validation-${side}`} id={`validation-${side}`} data-state={state} class={isEmpty ? "no-words" : ""}>
        {isEmpty ? trainText.emptyAnswer : text}
      </p>
    </div>
  );
}
