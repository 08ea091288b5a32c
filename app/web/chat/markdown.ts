// Markdown to HTML, block by block, so that what is written already stays as it is while more comes.
//
// What a model writes is text: no HTML of its own is taken, and what comes out of here goes through DOMPurify
// (markup.tsx) before it is shown.

import MarkdownIt, { type Token } from "markdown-it";
import { chatText } from "../text";

const TOP_LEVEL = 3; // of headings: the panel has the second
const DEEPEST = 6;

const markdown = new MarkdownIt({ html: false, linkify: false, breaks: true });
const { escapeHtml } = markdown.utils;

const code = (content: string, language: string): string =>
  `<figure><figcaption><span>${escapeHtml(language || chatText.code)}</span><button type="button" data-copy>${chatText.copy}</button>`
  + `</figcaption><pre tabindex="0"><code>${escapeHtml(content)}</code></pre></figure>`;

markdown.renderer.rules.fence = (tokens, index) => {
  const { content, info } = tokens[index]!;
  return code(content, info.trim().split(/\s+/)[0] ?? "");
};
markdown.renderer.rules.code_block = (tokens, index) => code(tokens[index]!.content, "");
markdown.renderer.rules.image = (tokens, index) => escapeHtml(tokens[index]!.content); // nothing is fetched: its words
markdown.renderer.rules.table_open = () => '<div tabindex="0" data-wide><table>';
markdown.renderer.rules.table_close = () => "</table></div>";

/** A text as HTML, block by block; and what it takes to go on when more of it comes. */
export interface Drawn {
  readonly blocks: readonly string[];
  readonly text: string;
  readonly open: number; // where in the text its last block begins: what comes may change that one,
  readonly closed: number; // and none of so many before
  readonly above: readonly number[]; // the headings that it stands below, by their levels as written
}

const nothing = (): Drawn => ({ blocks: [], text: "", open: 0, closed: 0, above: [] });

const DEFINITION = /^ {0,3}\[[^\]]+\]:/m; // of a link, which counts for the whole text

/** Return a text as HTML. Of one that begins with `before` only what may have changed is looked at. */
export function draw(text: string, before = nothing()): Drawn {
  const known = text.startsWith(before.text) && !DEFINITION.test(text) ? before : nothing();
  const environment = {};
  const rest = text.slice(known.open);
  const tokens = markdown.parse(rest, environment);
  const blocks = known.blocks.slice(0, known.closed);
  const levels = [...known.above];
  let { open, closed, above } = known;
  let first = 0;
  let depth = 0;
  for (const [index, token] of tokens.entries()) {
    depth += token.nesting;
    if (depth) continue;
    const block = tokens.slice(first, index + 1);
    open = known.open + startOfLine(rest, block[0]!.map?.[0] ?? 0);
    closed = blocks.length;
    above = [...levels];
    for (const one of block) mend(one, levels);
    blocks.push(markdown.renderer.render(block, markdown.options, environment));
    first = index + 1;
  }
  return { blocks, text, open, closed, above };
}

function startOfLine(text: string, line: number): number {
  let place = 0;
  for (let passed = 0; passed < line; passed += 1) place = text.indexOf("\n", place) + 1;
  return place;
}

/** Headings go one level deeper at a time, as a page's should; a column's side is no style. */
function mend(token: Token, above: number[]): void {
  if (token.type === "heading_open") {
    const written = Number(token.tag.slice(1));
    while (above.length && above.at(-1)! >= written) above.pop();
    above.push(written);
  }
  if (token.type.startsWith("heading_")) token.tag = `h${Math.min(TOP_LEVEL - 1 + above.length, DEEPEST)}`;
  const side = /^text-align:(\w+)$/.exec(String(token.attrGet("style") ?? ""));
  if (side) token.attrs = [["align", side[1]!]];
}
