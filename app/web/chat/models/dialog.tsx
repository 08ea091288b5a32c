// The dialog for another model: the built-in one, those that are kept, the hub's, files of one's own.

import { useEffect, useRef } from "preact/hooks";
import { formatBytes } from "../../format";
import type { KeptModel } from "../../protocol";
import { onChoice, useDrop } from "../../shell/files";
import { openSiteModel } from "../../shell/opening";
import { Icon } from "../../shell/parts";
import { site } from "../../site";
import { fetching } from "../../store/chat";
import { model, modelDialog, modelProblem } from "../../store/page";
import { isRunning } from "../../store/train";
import { modelText } from "../../text";
import { CandidateBox, forgetCandidate, offerModel } from "./candidate";
import { checkAgain, chosen, goOn, kept, keptProblem, listed, removeKept, takeModel } from "./hub";
import { Fetching, HubPanel } from "./hub_panel";

const FILES = ".gguf,.json,.safetensors,.jinja,.txt,.model";

export function ModelDialog() {
  const box = useRef<HTMLDialogElement>(null);
  const isOpen = modelDialog.value;
  useEffect(() => {
    if (isOpen && !box.current?.open) {
      box.current?.showModal();
      checkAgain();
    }
    if (!isOpen) box.current?.close();
  }, [isOpen]);
  const closed = (): void => {
    modelDialog.value = false;
    forgetCandidate();
  };
  const beside = (event: Event): void => {
    if (event.target === box.current) box.current?.close();
  };
  return (
    <dialog id="model-dialog" aria-labelledby="model-dialog-title" ref={box} onClose={closed} onClick={beside}>
      <form method="dialog">
        <header class="dialog-head">
          <h2 id="model-dialog-title">{modelText.title}</h2>
          <button class="quiet icon-only" aria-label={modelText.close} value="close"><Icon name="close" /></button>
        </header>
      </form>
      <InUse />
      <OfSite />
      <Kept />
      <HubPanel />
      <OwnFiles />
      <CandidateBox />
    </dialog>
  );
}

function InUse() {
  if (!site.models.default) return null;
  const isBuiltIn = !modelProblem.value && (!model.value || model.value.built_in);
  const back = (): void => {
    modelDialog.value = false;
    openSiteModel();
  };
  return (
    <div class="in-use" id="model-in-use" hidden={isBuiltIn}>
      <p>{modelText.inUse} <strong id="model-in-use-name">{model.value?.title ?? modelText.none}</strong></p>
      <button type="button" class="secondary small" id="model-built-in" data-testid="model-built-in" onClick={back}>{modelText.builtIn}</button>
    </div>
  );
}

function OfSite() {
  const all = Object.entries(site.models.titles);
  if (all.length < 2) return null;
  return (
    <>
      <h3>{modelText.onSite}</h3>
      <ul class="site-models">
        {all.map(([id, title]) => <li><a href={`?model=${encodeURIComponent(id)}`}>{title || id}</a></li>)}
      </ul>
    </>
  );
}

function Kept() {
  const isElsewhere = fetching.value !== null && !(listed.value && chosen.value === fetching.value.id); // no row of the list shows it
  return (
    <section id="kept-section" aria-labelledby="kept-title" hidden={!kept.value.length}>
      <h3 id="kept-title">{modelText.kept}</h3>
      <ul class="model-list" id="kept-models" data-testid="kept-models">{kept.value.map((one) => <KeptOne key={one.id} one={one} />)}</ul>
      <p class="field-error" id="kept-problem" role="alert">{keptProblem.value}</p>
      {isElsewhere && <Fetching />}
    </section>
  );
}

function KeptOne({ one: { id, title, repository, licence, form, size_bytes, done_bytes, whole, in_use, coming } }: { one: KeptModel }) {
  const size = whole || coming ? formatBytes(size_bytes) : modelText.partHere(done_bytes, size_bytes);
  const button = (label: string, action: string, run: () => void, isOff = false) => (
    <button type="button" class="secondary small" data-action={action} disabled={isOff} onClick={run}>{label}</button>
  );
  return (
    <li data-testid="kept-model" data-id={id} data-whole={whole}>
      <div class="model-row">
        <div class="model-words">
          <span class="model-title">{title}</span>
          <span class="model-about">{[size, form, licence, repository].filter(Boolean).join(" · ")}</span>
        </div>
        {in_use ? <span class="tag">{modelText.isInUse}</span>
          : coming ? <span class="tag">{modelText.coming}</span>
          : whole ? button(modelText.open, "open", () => takeModel({ kept: id }), isRunning.value)
          : button(modelText.goOn, "continue", () => goOn(id))}
        <button type="button" class="quiet icon-only" data-action="remove" aria-label={modelText.removeNamed(title)} disabled={in_use}
          title={in_use ? modelText.notRemoved : modelText.remove} onClick={() => removeKept(id)}>
          <Icon name="bin" />
        </button>
      </div>
    </li>
  );
}

function OwnFiles() {
  const zone = useDrop("drop-zone", offerModel);
  return (
    <>
      <h3>{modelText.ownFiles}</h3>
      <label {...zone} id="model-drop">
        <input type="file" class="visually-hidden" data-testid="model-input" id="model-input" multiple accept={FILES} onChange={onChoice(offerModel)} />
        <Icon name="cube" big />
        <span class="drop-title">{modelText.drop}</span>
        <span class="drop-sub">{modelText.dropWhat.map((part, index) => (index % 2 ? <code>{part}</code> : part))}</span>
      </label>
      <div class="dialog-row">
        <label class="as-button secondary" for="model-folder">
          <input type="file" class="visually-hidden" id="model-folder" data-testid="model-folder-input" onChange={onChoice(offerModel)}
            {...{ webkitdirectory: true }} />
          {modelText.folder}
        </label>
        <p class="hint">{modelText.kinds}</p>
      </div>
    </>
  );
}
