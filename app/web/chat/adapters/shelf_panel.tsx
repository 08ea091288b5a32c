// The shelf of adapters.

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { focusNext } from "../../dom";
import { formatBytes, formatDate } from "../../format";
import { RunsButton } from "../../runs/dialog";
import type { AdapterInfo } from "../../protocol";
import { onChoice, useDrop } from "../../shell/files";
import { Icon } from "../../shell/parts";
import { Problems } from "../../shell/problems";
import { adapters, applied, wantedAdapter } from "../../store/chat";
import { writing } from "../../store/exports";
import { worker } from "../../store/page";
import { isRunning } from "../../store/train";
import { shelfText, takeText } from "../../text";
import { showRun } from "../../train/result";
import { useAdapter } from "../applied";
import { takeAlong } from "../taking/take";
import { BaseModel } from "./base_model";
import { addAdapter, deleteAdapter, downloadAdapter, renameAdapter } from "./shelf";

const FILES = ".zip,.safetensors,.json,.jinja,.md,.gguf";

export function Shelf() {
  const zone = useDrop("adapter-zone", addAdapter);
  const all = adapters.value;
  const none = all ? shelfText.none : worker.value.phase === "fatal" ? "" : shelfText.looking;
  return (
    <div {...zone}>
      <header class="panel-head minor">
        <h2 id="adapters-title">{shelfText.title}</h2>
        <RunsButton />
        <label class="as-button quiet small" for="adapter-input" id="adapter-drop">
          <input type="file" class="visually-hidden" data-testid="adapter-input" id="adapter-input" multiple accept={FILES}
            disabled={isRunning.value} onChange={onChoice(addAdapter)} />
          <Icon name="plus" /><span>{shelfText.add}</span>
        </label>
      </header>
      <div class="panel-body">
        <Problems slot="adapter-problem" />
        <ul class="adapter-list" data-testid="adapter-list" id="adapter-list" data-state={all ? "ready" : "loading"}>
          {(all ?? []).map((adapter) => <Item key={adapter.id} adapter={adapter} />)}
        </ul>
        <p class="empty" id="adapter-empty" hidden={Boolean(all?.length)}>{none}</p>
        <BaseModel />
      </div>
    </div>
  );
}

function Item({ adapter }: { adapter: AdapterInfo }) {
  const { id, name, fits } = adapter;
  const [isRenamed, setRenamed] = useState(false);
  const isWanted = wantedAdapter.value === id;
  const isUnusable = fits === false;
  const isWritten = writing.value?.id === id;
  const isInUse = applied.value?.id === id;
  const hasRun = adapter.loss_curve.length > 0 || adapter.sample_answers.length > 0;
  const remove = (): void => {
    deleteAdapter(id);
    focusNext("adapter-input");
  };
  return (
    <li data-id={id} data-testid="adapter-item" data-used={isWanted}>
      {isRenamed ? <Rename id={id} name={name} close={() => setRenamed(false)} /> : (
        <button type="button" class="adapter-use" data-action="use" aria-pressed={isWanted} disabled={isUnusable || isRunning.value}
          title={isUnusable ? shelfText.madeFor(adapter.base_model) : undefined} onClick={() => useAdapter(id)}>
          <span class="radio" aria-hidden="true" />
          <span class="adapter-name">{name}</span>
          {isInUse ? <span class="tag">{shelfText.inUse}</span>
            : isWanted ? <span class="tag off">{shelfText.waits}</span>
            : isUnusable && <span class="tag off">{shelfText.otherModel}</span>}
        </button>
      )}
      <p class="adapter-about">{about(adapter)}</p>
      <div class="adapter-tools">
        {hasRun && <button type="button" class="quiet small" data-action="show" onClick={() => showRun(adapter)}>{shelfText.showRun}</button>}
        <Tool action="rename" id={`rename-${id}`} label={shelfText.rename} name={name} icon="pen" run={() => setRenamed(true)} />
        <Tool action="download" label={shelfText.download} name={name} icon="download" run={() => downloadAdapter(id)} />
        <button type="button" class="quiet small" id={`take-${id}`} data-action="take" aria-label={shelfText.named(takeText.title, name)}
          onClick={() => takeAlong(id)}>
          {isWritten ? takeText.isWritten : takeText.title}
        </button>
        <Tool action="delete" label={shelfText.delete} name={name} icon="bin" run={remove} />
      </div>
    </li>
  );
}

const Tool = ({ action, label, name, icon, run, id }: {
  action: string; label: string; name: string; icon: string; run: () => void; id?: string;
}) => (
  <button type="button" class="quiet icon-only" id={id} data-action={action} aria-label={shelfText.named(label, name)} title={label} onClick={run}>
    <Icon name={icon} />
  </button>
);

function about(adapter: AdapterInfo): string {
  const { created_at, imported, dataset, rows, steps, final_loss, chat_format, rank, size_bytes } = adapter;
  return [
    formatDate(created_at),
    ...(imported ? [shelfText.fromFile] : shelfText.trainedOn(dataset, rows, steps)),
    final_loss == null ? "" : shelfText.loss(final_loss),
    chat_format ? shelfText.chatFormat(chat_format) : "",
    shelfText.rank(rank),
    formatBytes(size_bytes),
  ].filter(Boolean).join(" · ");
}

function Rename({ id, name, close }: { id: string; name: string; close: () => void }) {
  const field = useRef<HTMLInputElement>(null);
  const isOver = useRef(false);
  useLayoutEffect(() => {
    field.current?.focus();
    field.current?.select();
  }, []);
  const finish = (keep: boolean): void => {
    if (isOver.current) return; // the field loses the focus as it goes
    isOver.current = true;
    const chosen = field.current?.value.trim();
    if (keep && chosen && chosen !== name) renameAdapter(id, chosen);
    close();
  };
  const key = (event: KeyboardEvent): void => {
    if (event.isComposing || (event.key !== "Enter" && event.key !== "Escape")) return;
    event.preventDefault(); // the focus goes to a button, which the same key press would push
    finish(event.key === "Enter");
    focusNext(`rename-${id}`);
  };
  return (
    <input type="text" ref={field} defaultValue={name} maxLength={80} aria-label={shelfText.newName(name)} data-testid="adapter-rename"
      onKeyDown={key} onBlur={() => finish(true)} />
  );
}
