// The dialog that takes an adapter along: for which program, in which form, how large, where to; then how it is used there.

import { useEffect, useRef } from "preact/hooks";
import { focusNext, hasVisibleFocus } from "../../dom";
import { Bar, CopyButton, Icon } from "../../shell/parts";
import { Problems } from "../../shell/problems";
import {
  FORMS, form, kind, KINDS, leftMs, planned, planProblem, system, taken, takenAdapter, whyNotTaken, writing, written,
} from "../../store/exports";
import { model } from "../../store/page";
import { common, takeText } from "../../text";
import { hubName, stepsOf, type Step } from "./commands";
import { canPick, chooseForm, chooseKind, download, drop, stop, writeToFolder } from "./take";

export function TakeDialog() {
  const box = useRef<HTMLDialogElement>(null);
  const isOpen = taken.value !== null;
  useEffect(() => {
    if (isOpen && !box.current?.open) box.current?.showModal();
    if (!isOpen) box.current?.close();
  }, [isOpen]);
  const closed = (): void => {
    taken.value = null;
  };
  const beside = (event: Event): void => {
    if (event.target === box.current) box.current?.close();
  };
  return (
    <dialog id="take-dialog" aria-labelledby="take-dialog-title" ref={box} onClose={closed} onClick={beside}>
      <form method="dialog">
        <header class="dialog-head">
          <h2 id="take-dialog-title">{takeText.titleOf(takenAdapter.value?.name ?? "")}</h2>
          <button class="quiet icon-only" aria-label={takeText.close} value="close"><Icon name="close" /></button>
        </header>
      </form>
      {isOpen && (whyNotTaken.value && !writing.value && !written.value
        ? <p class="empty" data-testid="take-why-not">{whyNotTaken.value}</p>
        : <Offer />)}
    </dialog>
  );
}

const Offer = () => (
  <>
    <Kinds />
    <Forms />
    {kind.value === "ollama" && <SystemPrompt />}
    <div class="take-foot">
      {writing.value ? <Progress /> : <Ways />}
      <Problems slot="export-problem" />
    </div>
    <Done />
  </>
);

const Kinds = () => (
  <fieldset class="take-kinds" disabled={writing.value !== null}>
    <legend>{takeText.kindsTitle}</legend>
    {KINDS.map((one) => (
      <label key={one} data-chosen={kind.value === one} data-testid={`take-${one}`}>
        <input type="radio" name="take-kind" id={`take-kind-${one}`} value={one} checked={kind.value === one} onChange={() => chooseKind(one)} />
        <span class="take-name">{takeText.kinds[one].name}</span>
        <span class="take-what">{takeText.kinds[one].what}</span>
      </label>
    ))}
  </fieldset>
);

function Forms() {
  const forms = FORMS[kind.value];
  if (forms.length < 2) return null;
  return (
    <fieldset class="take-forms" disabled={writing.value !== null}>
      <legend>{takeText.formTitle}</legend>
      {forms.map((one) => (
        <label key={one} data-chosen={form.value === one} data-testid={`take-form-${one}`}>
          <input type="radio" name="take-form" value={one} checked={form.value === one} onChange={() => chooseForm(one)} />
          <span>{takeText.forms[one]}</span>
        </label>
      ))}
    </fieldset>
  );
}

const SystemPrompt = () => (
  <div class="take-system">
    <label for="take-system">{takeText.system}</label>
    <textarea id="take-system" data-testid="take-system" rows={2} aria-describedby="take-system-hint" disabled={writing.value !== null}
      value={system.value} onInput={(event) => (system.value = event.currentTarget.value)} />
    <p class="hint" id="take-system-hint">{takeText.systemHint}</p>
  </div>
);

/** How large it will be, and the ways to get it. */
function Ways() {
  const known = planned.value;
  const picks = canPick();
  useEffect(() => {
    if (!written.peek() && !hasVisibleFocus()) focusNext("take-folder", "take-download", `take-kind-${kind.peek()}`); // it was on Stop
  }, []);
  return (
    <>
      <p class="take-size" role="status" data-testid="take-size" hidden={planProblem.value !== ""}>
        {known ? takeText.size(known.size_bytes, known.files) : takeText.measuring}
      </p>
      <p class="field-error" role="alert" data-testid="take-problem">{planProblem.value}</p>
      {known?.requantised && <p class="hint">{takeText.rounds}</p>}
      {known?.remarks.map((one) => <p class="hint">{one}</p>)}
      <div class="dialog-row">
        {picks && (
          <button type="button" class="primary" id="take-folder" data-testid="take-folder" disabled={!known} onClick={writeToFolder}>
            {takeText.toFolder}
          </button>
        )}
        <button type="button" class={picks ? "secondary" : "primary"} id="take-download" data-testid="take-download"
            disabled={!known} onClick={download}>
          <Icon name="download" /><span>{takeText.download}</span>
        </button>
      </div>
    </>
  );
}

function Progress() {
  const now = writing.value;
  const stopButton = useRef<HTMLButtonElement>(null);
  useEffect(() => stopButton.current?.focus({ preventScroll: true }), []); // what was pressed is gone
  if (!now) return null;
  const { done_bytes, total_bytes, stops, name } = now;
  const left = leftMs(now);
  const words = stops ? takeText.stops
    : !done_bytes ? takeText.beginning
    : [takeText.done(done_bytes, total_bytes), left === null ? "" : takeText.left(left)].filter(Boolean).join(", ");
  return (
    <div class="fetching" data-testid="take-progress">
      <Bar label={takeText.writing(name)} part={done_bytes ? done_bytes / total_bytes : null} />
      <div class="fetching-row">
        <span class="hint">{words}</span>
        <button type="button" class="secondary small" data-testid="take-stop" ref={stopButton} disabled={stops} onClick={stop}>
          {takeText.stop}
        </button>
      </div>
    </div>
  );
}

/** Where it went, and what to do with it there. */
function Done() {
  const now = written.value;
  const isShown = now !== null && now.id === taken.value;
  const box = useRef<HTMLElement>(null);
  useEffect(() => {
    box.current?.scrollIntoView({ block: "nearest" });
    if (!hasVisibleFocus()) box.current?.focus({ preventScroll: true }); // it was on Stop
  }, [now]);
  if (!isShown) return <p class="visually-hidden" role="status" data-testid="take-said" />;
  const { kind: of, name, folder, place, size_bytes, again, model: said } = now;
  const base = hubName(takenAdapter.value?.base_model ?? "") || hubName(model.value?.base_model ?? "");
  const steps = stepsOf(of, { name, base, archive: folder ? "" : place, isFolder: folder !== null, model: said });
  return (
    <section class="take-done" ref={box} tabIndex={-1} data-testid="take-done">
      <p role="status" data-testid="take-said">{folder ? takeText.inFolder(place, size_bytes) : takeText.downloaded(place, size_bytes)}</p>
      {again && (
        <p class="hint">
          {takeText.keeps}{" "}
          <button type="button" class="quiet small" onClick={again}>{takeText.downloadAgain}</button>
          <button type="button" class="quiet small" data-testid="take-drop" onClick={drop}>{takeText.drop}</button>
        </p>
      )}
      <h3>{takeText.next}</h3>
      <ol class="take-steps">{steps.map((step) => <OneStep key={step.code} step={step} />)}</ol>
    </section>
  );
}

const OneStep = ({ step: { words, code } }: { step: Step }) => (
  <li>
    <div class="take-step-head">
      <span>{words}</span>
      <CopyButton icon label={takeText.copy} done={common.copied} refused={common.copyRefused} text={() => code} />
    </div>
    <pre tabIndex={0}><code>{code}</code></pre>
  </li>
);
