// What is wrong, or worth a look, kind by kind as Python counted it: each can be unfolded, with its lines and its cure.

import { useState } from "preact/hooks";
import { formatCount } from "../format";
import type { DatasetReport } from "../protocol";
import { dataText } from "../text";
import { asSentence } from "./row_parts";

type Group = DatasetReport["groups"][number];
type Problem = DatasetReport["problems"][number];

const words = dataText.problems;
const LISTED = 10; // problems of a kind that are shown at first
const MORE = 50;
const OPEN_AT_ONCE = 6; // so few problems need no unfolding
const SHOWN_LINES = 4;

/** The groups of a report, few of them unfolded where that is wanted. What a person unfolded stays unfolded. */
export function Kinds({ groups, report, opens = true }: { groups: readonly Group[]; report: DatasetReport; opens?: boolean }) {
  const total = groups.reduce((sum, { count }) => sum + count, 0);
  const open = opens && (total <= OPEN_AT_ONCE || groups.length === 1);
  return <>{groups.map((group) => <Kind key={`${group.severity} ${group.kind}`} group={group} report={report} open={open} />)}</>;
}

function Kind({ group, report, open }: { group: Group; report: DatasetReport; open: boolean }) {
  const [wanted, want] = useState(LISTED);
  const own = report.problems.filter(({ kind, severity }) => kind === group.kind && severity === group.severity);
  const several = report.files.length > 1;
  const oneHint = own.every(({ hint }) => hint === group.hint);
  const listed = Math.min(wanted, own.length);
  const lines = group.about_file ? "" : firstLines(group);
  const rest = own.length ? words.moreOfThisKind(formatCount(group.count - own.length)) : group.message;
  return (
    <details class="kind" data-kind={group.kind} data-severity={group.severity} open={open}>
      <summary>
        <span class="kind-title">{group.title}</span>
        {!group.about_file && <span class="count" title={words.count(group.count)}>{formatCount(group.count)}</span>}
        {lines && <span class="kind-lines">{lines}</span>}
      </summary>
      <ol class="kind-list">
        {own.slice(0, listed).map((problem) => <One problem={problem} group={group} several={several} oneHint={oneHint} />)}
      </ol>
      <button type="button" class="quiet small" hidden={listed >= own.length} onClick={() => want(listed + MORE)}>
        {words.showMore(formatCount(Math.min(MORE, own.length - listed)))}
      </button>
      <p class="hint" hidden={own.length > 0 && (listed < own.length || group.count <= own.length)}>{rest}</p>
      {oneHint && group.hint && <p class="kind-hint">{asSentence(group.hint)}</p>}
    </details>
  );
}

function firstLines({ count, first_lines }: Group): string {
  const lines = first_lines.slice(0, SHOWN_LINES).map(formatCount).join(", ");
  return words.lines(first_lines.length, lines, count > Math.min(SHOWN_LINES, first_lines.length));
}

function One({ problem, group, several, oneHint }: { problem: Problem; group: Group; several: boolean; oneHint: boolean }) {
  const { line, column, message, hint, near, before, after, repair, source } = problem;
  const place = group.about_file ? "" : words.place(formatCount(line), column ? formatCount(column) : "");
  const where = [several || (group.about_file && source) ? source : "", place].filter(Boolean).join(", ");
  const mends = Boolean(repair && after);
  return (
    <li>
      {where && <strong>{where}</strong>}
      <span>{asSentence(message)}</span>
      {!oneHint && hint && <span class="kind-hint">{asSentence(hint)}</span>}
      {near && !mends && <code>{near}</code>}
      {mends && (
        <div class="change">
          <p class="before"><span>{words.asItIs}</span><code>{before}</code></p>
          <p class="after"><span>{words.mended}</span><code>{after}</code></p>
        </div>
      )}
    </li>
  );
}
