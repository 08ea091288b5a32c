// A text of markdown as elements: the one place of the page where a string becomes markup, through DOMPurify.

import DOMPurify from "dompurify";
import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { copyText } from "../dom";
import { chatText, common } from "../text";
import { draw, type Drawn } from "./markdown";

const ALLOWED = {
  FORBID_TAGS: ["style", "form", "input", "img", "video", "audio", "iframe"],
  FORBID_ATTR: ["style", "id", "class"],
  RETURN_TRUSTED_TYPE: true, // where the browser has Trusted Types, nothing else may become markup
};
const SAID_MS = 1500;

// A link in a reply must not take the page's place, with all that is open in it. One to a place of this site leads nowhere.
if (DOMPurify.isSupported) {
  DOMPurify.addHook("afterSanitizeAttributes", (node) => {
    if (node.nodeName !== "A") return;
    if (!/^(?:https?|mailto):/i.test(node.getAttribute("href") ?? "")) return node.removeAttribute("href");
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer");
  });
}

/** A reply's text. While it is written, only the end of it is looked at. */
export function Markup({ text, isWriting }: { text: string; isWriting: boolean }) {
  const before = useRef<Drawn | undefined>(undefined);
  const { blocks } = useMemo(() => (before.current = draw(text, isWriting ? before.current : undefined)), [text, isWriting]);
  return <div class="markup" onClick={copyCode}>{blocks.map((html, index) => <Block key={index} html={html} />)}</div>;
}

function Block({ html }: { html: string }) {
  const box = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    if (box.current) box.current.innerHTML = DOMPurify.sanitize(html, ALLOWED);
  }, [html]);
  return <div class="block" ref={box} />;
}

/** The button of a code block was pressed. It is no component: it came out of the markup. */
async function copyCode(event: MouseEvent): Promise<void> {
  const button = (event.target as Element).closest<HTMLButtonElement>("[data-copy]");
  const written = button?.closest("figure")?.querySelector("pre")?.textContent;
  if (!button || written == null) return;
  button.textContent = (await copyText(written)) ? common.copied : common.copyRefused;
  setTimeout(() => (button.textContent = chatText.copy), SAID_MS);
}
