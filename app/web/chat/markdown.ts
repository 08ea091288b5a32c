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

/** The HTML of each block of a text. */
export function blocks(text: string): string[] {
  const environment = {};
  const tokens = markdown.parse(text, environment);
  mend(tokens);
  const made: string[] = [];
  let begin = 0;
  let depth = 0;
  for (const [index, token] of tokens.entries()) {
    depth += token.nesting;
    if (depth) continue;
    made.push(markdown.renderer.render(tokens.slice(begin, index + 1), markdown.options, environment));
    begin = index + 1;
  }
  return made;
}

/** Headings go one level deeper at a time, as a page's should; a column's side is no style. */
function mend(tokens: Token[]): void {
  const above: number[] = []; // the levels, as written, of the headings that the next one stands below
  for (const token of tokens) {
    if (token.type === "heading_open") {
      const written = Number(token.tag.slice(1));
      while (above.length && above.at(-1)! >= written) above.pop();
      above.push(written);
    }
    if (token.type.startsWith("heading_")) token.tag = `h${Math.min(TOP_LEVEL - 1 + above.length, DEEPEST)}`;
    const side = /^text-align:(\w+)$/.exec(String(token.attrGet("style") ?? ""));
    if (side) token.attrs = [["align", side[1]!]];
  }
}
