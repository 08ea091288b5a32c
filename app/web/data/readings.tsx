// The ways in which the rows can be read, each with its first row, to choose from; and the columns that are not used.

import { formatCount, sentence } from "../format";
import type { DatasetReport, ReadingShown, UnusedColumn } from "../protocol";
import { shownDataset } from "../store/data";
import { isRunning } from "../store/train";
import { dataText } from "../text";
import { choose, isOpen, openEditor, shows } from "./mapping";
import { columnLabel, endSentence, Turns } from "./row_parts";

const words = dataText.readings;
const SHOWN_COLUMNS = 12;
const whole = (text: string): string => endSentence(sentence(text));

export function Readings() {
  const report = shownDataset.value?.report;
  const isHidden = !shows.value.readings;
  const asks = report && !isHidden ? report.asks : [];
  return (
    <section class="readings" id="readings" data-testid="readings" aria-labelledby="readings-title" hidden={isHidden} data-asks={asks.length > 0}>
      <h3 id="readings-title">{report && report.readings.length > 1 ? words.which : words.likeThis}</h3>
      <p class="readings-why" id="readings-why" role="status">{asks.map(whole).join(" ")}</p>
      <ul id="readings-list">{report?.readings.map((way) => <Way way={way} report={report} />)}</ul>
      <button type="button" class="quiet small" id="readings-other" data-testid="readings-other" hidden={isOpen.value} onClick={openEditor}>
        {words.byHand}
      </button>
    </section>
  );
}

function Way({ way: { mapping, title, row, unused }, report }: { way: ReadingShown; report: DatasetReport }) {
  const now = isSame(mapping, report.mapping ?? { as: "known" }) && (report.good > 0 || Boolean(report.mapping)) && !report.asks.length;
  return (
    <li class="reading-way" data-now={now}>
      <p class="reading-title">{whole(title)}</p>
      <Turns row={row} />
      {unused.length > 0 && <p class="hint">{words.leavesOut(unused.map(columnLabel).join(", "))}</p>}
      <button type="button" class={`${now ? "quiet" : "secondary"} small`} disabled={isRunning.value} onClick={() => choose(mapping)}>
        {now ? words.keep : words.read}
      </button>
    </li>
  );
}

const isSame = (one: object, other: object): boolean =>
  JSON.stringify(Object.entries(one).sort()) === JSON.stringify(Object.entries(other).sort());

/** The columns that nothing is made of: those that may matter one by one, numbers and repeats by their names. */
export function Unused() {
  const unused = shownDataset.value?.report.unused ?? [];
  const loud = unused.filter(({ quiet }) => !quiet);
  const quiet = unused.filter((column) => column.quiet).map(({ column }) => columnLabel(column));
  const more = loud.length > SHOWN_COLUMNS ? words.moreColumns(formatCount(loud.length - SHOWN_COLUMNS)) : "";
  const names = quiet.slice(0, SHOWN_COLUMNS).join(", ") + (quiet.length > SHOWN_COLUMNS ? ", …" : "");
  return (
    <section class="unused" id="unused" data-testid="unused" aria-labelledby="unused-title" hidden={!unused.length}>
      <h3 id="unused-title" hidden={!loud.length}>{loud.length ? words.notUsed(loud.length) : ""}</h3>
      <dl id="unused-list">{loud.slice(0, SHOWN_COLUMNS).map((column) => <Column key={column.column} {...column} />)}</dl>
      <p class="hint" id="unused-quiet">{more}{quiet.length > 0 && words.notUsedEither(names)}</p>
    </section>
  );
}

const Column = ({ column, rows, meaning, example, asks }: UnusedColumn) => (
  <div data-asks={asks}>
    <dt><code>{columnLabel(column)}</code><span class="count">{dataText.rows(rows)}</span></dt>
    <dd>{meaning ? `${whole(meaning)} ` : ""}<q dir="auto">{example}</q></dd>
  </div>
);
