// A model that a person has chosen files of: what they say, and whether a run fits, before it takes the open one's place.

import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { train } from "../../link/workers";
import type { ModelChecked, NamedBlob } from "../../protocol";
import { openModel } from "../../shell/opening";
import type { Area } from "../../store/bus";
import { modelDialog } from "../../store/page";
import { toast } from "../../store/problems";
import { readSettings } from "../../store/settings";
import { isRunning } from "../../store/train";
import { modelText, pageText } from "../../text";

interface Candidate {
  readonly files: readonly NamedBlob[];
  readonly name: string;
  readonly about: string;
  readonly verdict: ModelChecked["verdict"] | "reading";
  readonly words: string;
}

const candidate = signal<Candidate | null>(null);
let request = 0; // answers about other files are told by it

/** Show the dialog with these files in it. */
export function offerModel(files: readonly NamedBlob[]): void {
  if (isRunning.peek()) return toast(pageText.notDuringRun);
  modelDialog.value = true;
  request += 1;
  const name = files.length === 1 ? files[0]!.name : modelText.files(files.length);
  candidate.value = { files, name, about: "", verdict: "reading", words: modelText.readingFiles };
  train.send("check_model", { files, settings: readSettings(), request });
}

export const forgetCandidate = (): void => {
  candidate.value = null;
};

export const candidateArea: Area = {
  train: {
    model_checked: ({ request: about, ...said }) => {
      const now = candidate.peek();
      if (now && about === request) candidate.value = { ...now, ...said, name: said.name || now.name };
    },
  },
  own: { train_gone: forgetCandidate }, // nothing will be said of it
};

export function CandidateBox() {
  const now = candidate.value;
  const box = useRef<HTMLElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    box.current?.scrollIntoView({ block: "nearest" });
    if (!button.current?.hidden) button.current?.focus();
  }, [now]);
  const isLarge = now?.verdict === "too large";
  const use = (): void => {
    if (!now) return;
    modelDialog.value = false;
    openModel({ files: now.files });
  };
  return (
    <section class="candidate" id="candidate" data-testid="candidate" aria-live="polite" hidden={!now} data-verdict={now?.verdict} ref={box}>
      <p class="candidate-name" id="candidate-name">{now?.name}</p>
      <p class="hint" id="candidate-about">{now?.about}</p>
      <p class="candidate-words">
        <span class="lamp" aria-hidden="true" /><span id="candidate-words" data-testid="candidate-words">{now?.words}</span>
      </p>
      <button type="button" class={isLarge ? "secondary" : "primary"} id="candidate-open" data-testid="candidate-open" ref={button}
        hidden={!now || ["reading", "refused"].includes(now.verdict)} onClick={use}>
        {isLarge ? modelText.useAnyway : modelText.use}
      </button>
    </section>
  );
}
