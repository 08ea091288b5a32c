// Small pieces that several parts of the data panel show: a row's turns, a column's name, how a mapping is said.

import { formatCount } from "../format";
import type { Mapping, ReadRow } from "../protocol";
import { dataText } from "../text";
import { columnsOf } from "./remembered_columns";

const SHOWN_CHARACTERS = 280;
const SHOWN_TURNS = 6;
const SHOWN_NAME = 40; // characters of a column's name

/** A row as it is read: its turns, its text, or why it cannot be read so. */
export function Turns({ row: { messages, text, problem } }: { row: ReadRow }) {
  if (problem) return <p class="mapping-bad">{problem}</p>;
  const turns = messages ?? [{ role: "text", content: text ?? "" }];
  return (
    <div class="turns">
      {turns.slice(0, SHOWN_TURNS).map(({ role, content }) => (
        <div class={`turn ${role}`}>
          <span class="turn-role">{role}</span>
          <p>{short(content)}</p>
        </div>
      ))}
      {turns.length > SHOWN_TURNS && <p class="hint">{dataText.moreTurns(formatCount(turns.length - SHOWN_TURNS))}</p>}
    </div>
  );
}

const short = (text: string): string => (text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text);

/** A column's name so that it can stand in a list: short, without characters that turn the text around it. */
export function columnLabel(name: string): string {
  const plain = name.replace(/[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu, "\ufffd");
  return plain.length > SHOWN_NAME ? `${plain.slice(0, SHOWN_NAME - 1)}…` : plain || dataText.noName;
}

/** How a mapping is said: "prompt = frage, reply = antwort". */
export const describe = (mapping: Mapping): string => (mapping.as ? dataText.mapping.asItStands : columnsOf(mapping).map(([role, name]) =>
  `${role} = ${columnLabel(name)}${role === "label" && mapping.at_least ? dataText.mapping.orBetter(mapping.at_least) : ""}`).join(", "));

/** A text as a sentence: its first letter large where it is a plain word, a full stop at its end. */
export function asSentence(text: string): string {
  const whole = /^[a-z]+[ ,]/.test(text) ? text.charAt(0).toUpperCase() + text.slice(1) : text; // names stay as they are
  return endSentence(whole);
}

export const endSentence = (text: string): string => (/[.!?…]$/.test(text) ? text : `${text}.`);
