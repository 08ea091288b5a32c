// What the adapter changed, token by token. Loaded when somebody looks.
//
// Each token is coloured and underlined by how much likelier the adapter made it. One of them is the Tab key's stop; arrows go
// on from it. What is said of the one that is pointed at, or has the focus, stands below: a finger can have it too.

import { useEffect, useRef, useState } from "preact/hooks";
import { formatCount } from "../../format";
import type { ChangedToken, LikelyToken } from "../../protocol";
import { Bar } from "../../shell/parts";
import type { Looked } from "../../store/comparing";
import { changesText } from "../../text";
import { whoText } from "../who";

/** From which factor on a token is of which degree: 1.25, 2 and 10 times likelier, or less likely. */
export const FACTORS = [1.25, 2, 10] as const;
const TWICE = Math.log(2);

/** How much a token has changed: 0 hardly, 1 to 3 likelier, -1 to -3 less likely. */
export function degreeOf({ base, tuned }: Pick<ChangedToken, "base" | "tuned">): number {
  const change = tuned - base;
  const degree = FACTORS.filter((factor) => Math.abs(change) >= Math.log(factor) - 1e-9).length;
  return change < 0 ? -degree || 0 : degree;
}

/** A token's text where it is shown by itself. */
export const visible = (text: string): string => text.replaceAll("\n", "↵").replaceAll("\t", "⇥") || "·";

export function Changes({ looked: { tokens, total, state, by } }: { looked: Looked }) {
  const [place, setPlace] = useState(0);
  const box = useRef<HTMLDivElement>(null);
  const hasFocused = useRef(false);
  useEffect(() => {
    if (hasFocused.current) box.current?.querySelector<HTMLElement>(`[data-place="${place}"]`)?.focus();
    hasFocused.current = false;
  }, [place]);
  const key = (event: KeyboardEvent): void => {
    const to = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: tokens.length - 1 }[event.key];
    if (to === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    hasFocused.current = true;
    setPlace(Math.max(0, Math.min(to, tokens.length - 1)));
  };
  const at = tokens[place];
  const likelier = tokens.filter(({ base, tuned }) => tuned - base >= TWICE).length;
  const lessLikely = tokens.filter(({ base, tuned }) => base - tuned >= TWICE).length;
  const said = state === "coming" ? changesText.coming(tokens.length, total)
    : state === "ended" ? changesText.ended
    : changesText.summary(tokens.length, likelier, lessLikely);
  return (
    <section class="changes" data-testid="changes" data-state={state} aria-label={changesText.title}>
      <p class="changes-head"><b>{changesText.title}</b> <span>{whoText(by)}</span></p>
      <p class="hint" role="status" data-testid="changes-summary">{said}</p>
      {state === "coming" && <Bar part={total ? tokens.length / total : null} label={changesText.title} />}
      <div class="changes-tokens" ref={box} role="group" aria-label={changesText.tokens} onKeyDown={key}>
        {tokens.map((token, index) => (
          <span key={index} class="changed" data-testid="changed-token" data-place={index} data-degree={degreeOf(token)} role="button"
            aria-pressed={index === place} tabIndex={index === place ? 0 : -1} aria-label={changesText.token(visible(token.text), token.base, token.tuned)}
            onPointerEnter={() => setPlace(index)} onFocus={() => setPlace(index)} onClick={() => setPlace(index)}>
            {token.text.replaceAll("\n", "↵\n") || "·"}
          </span>
        ))}
      </div>
      <Legend />
      {at && <About token={at} number={place + 1} count={tokens.length} />}
    </section>
  );
}

function Legend() {
  return (
    <ul class="changes-legend" aria-label={changesText.legend}>
      {[-3, -2, -1, 0, 1, 2, 3].map((degree) => (
        <li key={degree}><span class="changed" data-degree={degree}>{changesText.degree(degree, FACTORS[Math.abs(degree) - 1] ?? 1)}</span></li>
      ))}
    </ul>
  );
}

function About({ token, number, count }: { token: ChangedToken; number: number; count: number }) {
  return (
    <div class="changes-about" data-testid="changes-about">
      <p><code>{visible(token.text)}</code> <span class="term">{changesText.place(formatCount(number), formatCount(count))}</span></p>
      <p>{changesText.from(token.base, token.tuned)} <b>{changesText.factor(token.base, token.tuned)}</b></p>
      <div class="changes-tops">
        <Likeliest title={changesText.baseTop} likely={token.base_top} by="base" said={token.token_id} />
        <Likeliest title={changesText.tunedTop} likely={token.tuned_top} by="tuned" said={token.token_id} />
      </div>
    </div>
  );
}

function Likeliest({ title, likely, by, said }: { title: string; likely: readonly LikelyToken[]; by: "base" | "tuned"; said: number }) {
  return (
    <table>
      <caption>{title}</caption>
      <tbody>
        {likely.map((one) => (
          <tr key={one.token_id} data-said={one.token_id === said}>
            <th scope="row"><code>{visible(one.text)}</code></th>
            <td>{changesText.percent(one[by])}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
