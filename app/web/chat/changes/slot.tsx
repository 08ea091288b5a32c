// The button under a reply that shows what the adapter changed about it, and where that is shown once it is loaded.

import { signal } from "@preact/signals";
import { Icon } from "../../shell/parts";
import { canSend, writer, type Turn, type Wording } from "../../store/chat";
import { looked } from "../../store/comparing";
import { changesText } from "../../text";
import { look } from "./changes";

const shown = signal<typeof import("./panel") | "missing" | null>(null);

/** Fetched when somebody looks for the first time; where that fails, the next press tries again. */
async function load(): Promise<void> {
  if (shown.peek() && shown.peek() !== "missing") return;
  try {
    shown.value = await import("./panel");
  } catch {
    shown.value = "missing";
  }
}

const isLookedAt = ({ key, chosen }: Turn): boolean => looked.value?.key === key && looked.value.wording === chosen;

export function ChangesTool({ turn, wording }: { turn: Turn; wording: Wording }) {
  const isOpen = isLookedAt(turn);
  const hasAdapter = wording.adapters.length > 0 || writer.value.length > 0;
  if (wording.isWriting || !wording.content || !(hasAdapter || isOpen)) return null;
  const run = (): void => {
    void load();
    look(turn);
  };
  return (
    <button type="button" class="quiet icon-only tool" id={`changes-${turn.key}`} data-testid="chat-changes" aria-label={changesText.look}
      title={changesText.look} aria-expanded={isOpen} disabled={!isOpen && !canSend.value} onClick={run}>
      <Icon name="changes" />
    </button>
  );
}

export function ChangesSlot({ turn }: { turn: Turn }) {
  if (!isLookedAt(turn) || !looked.value) return null;
  if (shown.value === "missing") return <p class="hint" role="alert">{changesText.notLoaded}</p>;
  const Panel = shown.value?.Changes;
  return Panel ? <Panel looked={looked.value} key={looked.value.request} /> : null;
}
