// What the model answers while it learns: for each prompt its answers over the steps, the newest in blue.

import { useLayoutEffect, useRef } from "preact/hooks";
import { Icon } from "../shell/parts";
import { fields, view } from "../store/settings";
import { curveOf, isRunning, whyNot } from "../store/train";
import { editing, left, newestStep, prompts, strip, watched, watchProblem, type Watched } from "../store/watch";
import { trainText, watchText } from "../text";
import { PromptEditor } from "./prompt_editor";

/** The strip; nothing before a run as long as the settings are folded, and nothing beside the curve of another run. */
export function Answers() {
  const lines = strip.value;
  const isIdle = !isRunning.value && watched.value.length === 0;
  if (!isRunning.value && curveOf.value) return null;
  if (isIdle && !editing.value && (view.value !== "open" || whyNot.value === trainText.whyNot.noData)) return null;
  const told = emptyWords();
  const share = left.value?.sample_share ?? 0;
  return (
    <section class="answers" id="answers" data-testid="answers" aria-labelledby="answers-title">
      <div class="answers-head">
        <h3 id="answers-title">{watchText.title}</h3>
        {lines.length > 0 && prompts.value && <span class="answers-kind">{prompts.value.chosen ? watchText.chosen : watchText.own}</span>}
        <button type="button" class="quiet small" id="prompts-edit" data-testid="prompts-edit" aria-expanded={editing.value}
          onClick={() => (editing.value = !editing.value)}>
          <Icon name="pen" /><span>{watchText.edit}</span>
        </button>
      </div>
      {editing.value && <PromptEditor />}
      {told && <p class="hint" data-testid="answers-empty">{told}</p>}
      {watchProblem.value && <p class="answers-problem" role="alert">{watchProblem.value}</p>}
      {lines.map((line) => <Line key={line.prompt} line={line} />)}
      {share > 0 && <p class="hint" data-testid="sample-share">{watchText.share(share)}</p>}
    </section>
  );
}

/** What is to be said where there is no answer yet; "" where there are some. */
function emptyWords(): string {
  const words = watchText.empty;
  if (watched.value.length || watchProblem.value) return "";
  if (fields.sample_every.text.value.trim() === "0") return words.off;
  if (!isRunning.value) return prompts.value?.all.length ? words.ready : words.before;
  if (prompts.value && !prompts.value.all.length) return words.none;
  return fields.sample_every.text.value.trim() ? words.coming : words.inTime; // an empty field: by time
}

function Line({ line: { prompt, expected, answers } }: { line: Watched }) {
  const list = useRef<HTMLOListElement>(null);
  const isAtEnd = useRef(true); // and stays there, unless the person has scrolled back
  const stay = (): void => {
    if (list.current && isAtEnd.current) list.current.scrollLeft = list.current.scrollWidth;
  };
  useLayoutEffect(stay, [answers]);
  const hasAnswers = answers.length > 0;
  useLayoutEffect(() => {
    const sizes = new ResizeObserver(stay); // a panel that was not shown has no end to go to
    if (list.current) sizes.observe(list.current);
    return () => sizes.disconnect();
  }, [hasAnswers]);
  const note = (event: Event): void => {
    const { scrollLeft, clientWidth, scrollWidth } = event.currentTarget as HTMLElement;
    isAtEnd.current = scrollLeft + clientWidth > scrollWidth - 24;
  };
  const isAsked = prompts.value?.all.some((one) => one.prompt === prompt) ?? true;
  return (
    <div class="answers-line" data-testid="answers-line">
      <p class="answers-prompt">{prompt}</p>
      {expected && <p class="reference"><span>{watchText.expected}</span> {expected}</p>}
      {hasAnswers && (
        <ol class="answers-strip" ref={list} tabIndex={0} aria-label={watchText.answers(prompt)} onScroll={note}>
          {answers.map((one, index) => {
            const isNewest = isAsked && index === answers.length - 1 && one.step === newestStep.value;
            return <Card key={one.step} {...one} isNewest={isNewest} />;
          })}
        </ol>
      )}
      {!hasAnswers && watched.value.length > 0 && <p class="hint">{watchText.empty.next}</p>}
    </div>
  );
}

function Card({ step, text, is_cut, problem, isNewest }: Watched["answers"][number] & { isNewest: boolean }) {
  const said = text.trim();
  const kind = problem ? "problem" : said ? "said" : "nothing";
  return (
    <li data-testid="sample-answer" data-step={step} data-kind={kind} data-newest={isNewest}>
      <span class="answers-step">{watchText.atStep(step)}{isNewest && <span class="visually-hidden">, {watchText.newest}</span>}</span>
      <span class="answers-text" title={is_cut ? watchText.cut : undefined}>{problem || said || trainText.emptyAnswer}{is_cut && " …"}</span>
    </li>
  );
}
