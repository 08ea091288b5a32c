// What Python says is in the dataset: the facts, the lengths, and folded away what else there is to know.

import type { ComponentChildren } from "preact";
import { formatCount } from "../format";
import type { DatasetReady, DatasetReport, Duplicates, TokenReport } from "../protocol";
import { reading, shownDataset } from "../store/data";
import { model } from "../store/page";
import { dataText } from "../text";
import { Histogram } from "./histogram";
import { showLine } from "./preview";
import { countTokens } from "./reading";

const words = dataText.report;
const SHOWN_PAIRS = 8;
const SHOWN_PROMPTS = 4;
const LITTLE = 0.005; // a share that is told as none, or as under 1 %

export function Report() {
  const data = shownDataset.value;
  return (
    <>
      <dl class="facts" data-testid="dataset-summary" id="dataset-summary" hidden={data?.rows === 0 /* what is wrong says it all */}>
        {data?.facts.map(({ label, value, hint }) => <div key={label} title={hint || undefined}><dt>{label}</dt><dd>{value}</dd></div>)}
      </dl>
      <NoTokens />
      <Histogram tokens={data?.report.tokens ?? null} onLong={data?.on_long ?? ""} />
    </>
  );
}

function NoTokens() {
  const { good = 0, tokens = null } = shownDataset.value?.report ?? {};
  const hasModel = model.value !== null;
  return (
    <div class="no-tokens" id="no-tokens" hidden={!good || Boolean(tokens) || (reading.value !== null && hasModel)}>
      <p class="hint" id="no-tokens-text">{hasModel ? words.notCounted : words.countedByModel}</p>
      <button type="button" class="secondary small" id="count-tokens" data-testid="count-tokens" hidden={!hasModel} onClick={countTokens}>
        {words.count}
      </button>
    </div>
  );
}

/** The folded part: headings, each with what stands below it. */
export function More() {
  const data = shownDataset.value;
  const isHidden = !data || !Object.keys(data.report.formats).length;
  return (
    <details class="fold data-more" id="data-more" data-testid="data-more" hidden={isHidden}>
      <summary>{words.more}</summary>
      <div id="data-more-body">{!isHidden && <Contents data={data} />}</div>
    </details>
  );
}

function Contents({ data: { report, validation } }: { data: DatasetReady }) {
  const { content, tokens, formats } = report;
  const roles = Object.entries(content.turns);
  const scripts = Object.entries(content.scripts);
  return (
    <>
      <h4>{words.rowsAre}</h4>
      <Counts entries={Object.entries(formats).map(([name, count]) => [words.formats[name] ?? name, dataText.rows(count)])} />
      {roles.length > 0 && (
        <>
          <h4>{words.turns}</h4>
          <Counts entries={[
            ...roles.map(([role, count]) => [words.roles[role] ?? role, formatCount(count)] as const),
            [words.mostInOne, formatCount(content.turns_per_row_max)],
          ]} />
        </>
      )}
      <h4>{words.sameRows}</h4>
      <Repeats found={content.exact_duplicates} said={words.exactCopies} none={words.noCopies} />
      <Repeats found={content.near_duplicates} said={words.nearCopies} />
      {validation && <Overlap {...validation} />}
      <h4>{words.systemPrompts}</h4>
      <SystemPrompts {...content} />
      {scripts.length > 0 && (
        <>
          <h4>{words.writing}</h4>
          <Counts entries={scripts.map(([script, count]) => [script, dataText.rows(count)])} />
        </>
      )}
      {tokens && <Tokens {...tokens} />}
    </>
  );
}

const Counts = ({ entries }: { entries: readonly (readonly [name: string, value: string])[] }) => (
  <dl class="counts">{entries.map(([name, value]) => <div><dt>{name}</dt><dd>{value}</dd></div>)}</dl>
);

function Repeats({ found: { count, examples }, said, none }: { found: Duplicates; said: (count: number) => string; none?: string }) {
  if (!count) return none ? <p>{none}</p> : null;
  return (
    <>
      <p>{said(count)}</p>
      <Pairs lines={examples} count={count}>{(line, other) => <><LineButton line={line} /> {words.repeats} <LineButton line={other} /></>}</Pairs>
    </>
  );
}

/** Rows of the training data that stand in the validation file: there the second line is one of that file. */
const Overlap = ({ overlap, overlap_lines, name }: NonNullable<DatasetReady["validation"]>) => (
  <>
    <h4>{words.inValidation}</h4>
    <p>{overlap ? words.overlap(overlap, name) : words.noOverlap(name)}</p>
    {overlap > 0 && (
      <Pairs lines={overlap_lines} count={overlap}>{(line, other) => <><LineButton line={line} /> {words.isThere} {formatCount(other)}</>}</Pairs>
    )}
  </>
);

function Pairs({ lines, count, children }: {
  lines: readonly (readonly [number, number])[]; count: number; children: (line: number, other: number) => ComponentChildren;
}) {
  const shown = lines.slice(0, SHOWN_PAIRS);
  return (
    <ul class="pairs">
      {shown.map(([line, other]) => <li>{children(line, other)}</li>)}
      {count > shown.length && <li>{dataText.andMore(formatCount(count - shown.length))}</li>}
    </ul>
  );
}

/** A line that leads to its row. */
const LineButton = ({ line }: { line: number }) => (
  <button type="button" class="quiet" aria-label={words.showLine(formatCount(line))} onClick={() => showLine(line)}>{words.line(formatCount(line))}</button>
);

function SystemPrompts({ system_prompts, system_prompt_count: count }: DatasetReport["content"]) {
  if (!count) return <p>{words.noPrompts}</p>;
  return (
    <>
      <p>{words.prompts(count, count > SHOWN_PROMPTS)}</p>
      <ul class="system-prompts">
        {system_prompts.slice(0, SHOWN_PROMPTS).map(([text, rows]) => (
          <li><span class="count">{dataText.rows(rows)}</span><q dir="auto">{text}</q></li>
        ))}
      </ul>
    </>
  );
}

const Tokens = ({ total, tokens_cut, trained, kept, padding_share, packing_saves }: TokenReport) => (
  <>
    <h4>{words.tokens}</h4>
    <Counts entries={[
      [words.inAll, formatCount(total)], [words.cutOff, formatCount(tokens_cut)],
      [words.trained, words.of(formatCount(trained), formatCount(kept))],
    ]} />
    <h4>{words.padding}</h4>
    <p>{words.wouldBePadding(percent(padding_share))} {packing_saves < LITTLE ? words.packingSavesNothing : words.packingSaves(percent(packing_saves))}</p>
  </>
);

const percent = (share: number): string => (share > 0 && share < LITTLE ? words.underOne : `${Math.round(100 * share)} %`);
