// How long the rows are, in tokens: bars, and the lengths that matter as lines across them.

import { useState } from "preact/hooks";
import { formatCount } from "../format";
import type { TokenReport } from "../protocol";
import { dataText } from "../text";

const words = dataText.histogram;
const LEAST_HEIGHT = 2; // of a bar that stands for some rows, in hundredths

type Bin = TokenReport["histogram"][number];

export function Histogram({ tokens, onLong }: { tokens: TokenReport | null; onLong: string }) {
  const [pointed, point] = useState("");
  const bins = tokens?.histogram ?? [];
  const end = bins.at(-1)?.[1] ?? 0;
  const highest = Math.max(0, ...bins.map(([, , count]) => count));
  const { p50 = 0, p95 = 0, max = 0, max_length = 0 } = tokens ?? {};
  const lines = [["p50", p50], ["p95", p95], ["max", max], ["cut", max_length]] as const;
  const said = { ...words.lines, cut: onLong === "drop" ? words.leftOutOver : words.cutAt };
  return (
    <figure class="histogram" id="histogram" data-testid="histogram" hidden={!bins.length}>
      <figcaption>
        <span>{words.title}</span>
        <span class="histogram-point" id="histogram-point" aria-hidden="true">{pointed || words.tallest(highest)}</span>
      </figcaption>
      <div class="histogram-plot" id="histogram-plot" aria-hidden="true">
        <svg viewBox={`0 0 ${end} 100`} preserveAspectRatio="none" onPointerLeave={() => point("")}>
          {bins.map((bin) => <Bar key={bin[0]} bin={bin} highest={highest} maxLength={max_length} point={point} />)}
        </svg>
        {lines.filter(([, value]) => value < end).map(([name, value]) => (
          <span key={name} class={`rule ${name}`} style={{ left: `${(100 * (value + 0.5)) / end}%` }} />
        ))}
      </div>
      <div class="histogram-axis" aria-hidden="true"><span>0</span><span id="histogram-end">{words.tokens(formatCount(end))}</span></div>
      <dl class="histogram-key" id="histogram-key">
        {lines.map(([name, value]) => (
          <div key={name}><span class={`rule ${name}`} aria-hidden="true" /><dt>{said[name]}</dt><dd>{formatCount(value)}</dd></div>
        ))}
      </dl>
      <div class="visually-hidden">
        <table>
          <caption>{words.caption}</caption>
          <thead><tr><th scope="col">{words.tokensHead}</th><th scope="col">{words.rowsHead}</th></tr></thead>
          <tbody id="histogram-table">
            {bins.filter(([, , count]) => count).map(([from, to, count]) => (
              <tr key={from}><th scope="row">{range(from, to)}</th><td>{formatCount(count)}</td></tr>
            ))}
          </tbody>
        </table>
      </div>
    </figure>
  );
}

/** A bar in up to two colours (what is beyond the longest row of the settings stands out), and its place to point at. */
function Bar({ bin: [from, to, rows], highest, maxLength, point }: { bin: Bin; highest: number; maxLength: number; point: (said: string) => void }) {
  const height = rows ? Math.max(LEAST_HEIGHT, (100 * rows) / highest) : 0;
  const gap = (to - from) * 0.08;
  const split = Math.min(Math.max(maxLength + 1, from), to); // a row of the length itself is whole
  const part = (left: number, right: number, name: string) => {
    const x = left === from ? left + gap : left;
    const width = right - x - (right === to ? gap : 0);
    return right > left && height > 0 && <rect class={name} x={x} y={100 - height} width={Math.max(width, 0.01)} height={height} />;
  };
  return (
    <>
      {part(from, split, "bar-fill")}
      {part(split, to, "bar-fill beyond")}
      <rect class="bar-hit" x={from} y={0} width={to - from} height={100} onPointerOver={() => point(words.bar(range(from, to), rows))} />
    </>
  );
}

const range = (from: number, to: number): string => (to - from === 1 ? formatCount(from) : `${formatCount(from)}–${formatCount(to - 1)}`);
