// The table of runs. Loaded when the dialog is first opened.

import { useEffect } from "preact/hooks";
import { focusNext } from "../dom";
import { formatCount, formatDate, formatLearningRate, formatLoss, formatTime } from "../format";
import type { RunRow } from "../protocol";
import { whyNoPython } from "../store/page";
import { runsText } from "../text";
import { SORTS, type SortName } from "./order";
import { RunDetails } from "./details";
import { compare, placeInTable, runs, search, shown, sort, sortBy, tick, ticked, unfold, unfolded } from "./runs";

const COLUMNS = runsText.columns;
const NUMBERS: readonly SortName[] = ["steps", "learning_rate", "rank", "validation_loss", "training_s"];
const WIDTH = SORTS.length + 1; // and the boxes to tick

export function RunTable() {
  const all = runs.value;
  const isThere = Boolean(all?.length);
  useEffect(() => {
    if (isThere) focusNext(placeInTable(), "runs-search");
  }, [isThere]);
  if (!all?.length) return <p class="empty" data-testid="runs-empty">{all ? runsText.none : whyNoPython.value || runsText.looking}</p>;
  const rows = shown.value;
  const showAll = (): void => {
    search.value = "";
    focusNext("runs-search");
  };
  return (
    <>
      <div class="runs-tools">
        <input type="search" id="runs-search" data-testid="runs-search" aria-label={runsText.search} placeholder={runsText.placeholder} autoComplete="off"
          spellcheck={false} value={search.value} onInput={(event) => (search.value = event.currentTarget.value)} />
        <SortList />
        <p class="count" role="status" data-testid="runs-count">{runsText.count(rows.length, all.length)}</p>
        <button type="button" class="secondary small" id="runs-compare" data-testid="runs-compare" disabled={ticked.value.length < 2}
          title={ticked.value.length < 2 ? runsText.compareHint : undefined} onClick={compare}>
          {runsText.compare(ticked.value.length)}
        </button>
      </div>
      {rows.length ? <Rows rows={rows} /> : (
        <p class="empty" data-testid="runs-no-match">
          {runsText.noMatch(search.value.trim())}{" "}
          <button type="button" class="quiet small" onClick={showAll}>{runsText.showAll}</button>
        </p>
      )}
    </>
  );
}

/** The order, where there is no room for the columns' heads. */
const SortList = () => (
  <label class="runs-sort">
    <span class="visually-hidden">{runsText.sortBy}</span>
    <select value={sort.value?.by ?? ""} onChange={({ currentTarget: { value } }) => {
      sort.value = value ? { by: value as SortName, isDown: false } : null;
    }}>
      <option value="">{runsText.newest}</option>
      {SORTS.map((name) => <option value={name}>{COLUMNS[name]}</option>)}
    </select>
  </label>
);

function Rows({ rows }: { rows: readonly RunRow[] }) {
  const now = sort.value;
  return (
    <div class="runs-scroll" role="region" tabIndex={0} aria-label={runsText.title}>
      <table class="runs-table" data-testid="runs-table">
        <thead>
          <tr>
            <td />
            {SORTS.map((name) => (
              <th scope="col" class={NUMBERS.includes(name) ? `number of-${name}` : `of-${name}`}
                aria-sort={now?.by === name ? (now.isDown ? "descending" : "ascending") : "none"}>
                <button type="button" onClick={() => sortBy(name)}>
                  {COLUMNS[name]}<span class="sort-sign" aria-hidden="true">{now?.by === name ? (now.isDown ? "↓" : "↑") : ""}</span>
                </button>
              </th>
            ))}
          </tr>
        </thead>
        {rows.map((run) => <Row key={run.id} run={run} />)}
      </table>
    </div>
  );
}

function Row({ run }: { run: RunRow }) {
  const { id, name, dataset, rows, rank, verdict, notes, created_at } = run;
  const isOpen = unfolded.value === id;
  const [steps, rate, time] = [runsText.steps(run.steps, run.total_steps), rateOf(run), timeOf(run)];
  return (
    <tbody data-testid="run-row" data-id={id} data-open={isOpen}>
      <tr>
        <td><input type="checkbox" aria-label={runsText.choose(name)} checked={ticked.value.includes(id)} onChange={() => tick(id)} /></td>
        <th scope="row">
          <button type="button" class="run-name" aria-expanded={isOpen} aria-controls={isOpen ? `run-${id}` : undefined} onClick={() => unfold(id)}>
            {name}
          </button>
          <span class="run-line">
            {runsText.line([dataset, runsText.stepsOf(steps), runsText.rank(rank), run.learning_rate == null ? "" : runsText.rate(rate)])}
          </span>
          <span class="run-date">{runsText.line([formatDate(created_at), run.model])}</span>
          {verdict && <span class="run-wrong">{verdict}</span>}
          {notes && !isOpen && <span class="run-notes">{notes}</span>}
        </th>
        <td class="of-dataset">{dataset || runsText.notKnown}<span class="run-date">{rows ? runsText.rows(rows) : ""}</span></td>
        <td class="number of-steps">{steps}</td>
        <td class="number of-learning_rate">{rate}</td>
        <td class="number of-rank">{formatCount(rank)}</td>
        <td class="number of-validation_loss">{run.validation_loss == null ? runsText.notKnown : formatLoss(run.validation_loss)}</td>
        <td class="number of-training_s">{time}</td>
      </tr>
      {isOpen && <tr id={`run-${id}`}><td colSpan={WIDTH}><RunDetails run={run} /></td></tr>}
    </tbody>
  );
}

const rateOf = ({ learning_rate }: RunRow): string => (learning_rate == null ? runsText.notKnown : formatLearningRate(learning_rate));
const timeOf = ({ training_s }: RunRow): string => (training_s == null ? runsText.notKnown : formatTime(1000 * training_s));
