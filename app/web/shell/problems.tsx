// Errors in a box where they belong, and short notices at the foot of the page.

import { useEffect, useRef } from "preact/hooks";
import { closeToast, problems, showProblem, toasts, type Shown, type Slot, type Toast } from "../store/problems";
import { common } from "../text";
import { CopyButton } from "./parts";

const MOST_LINES = 40;

/** The box of a slot; nothing while nothing is wrong there. */
export function Problems({ slot, name = "problem-slot" }: { slot: Slot; name?: string }) {
  const shown = problems.value[slot];
  return <div class={name} id={slot} hidden={!shown}>{shown && <Box shown={shown} close={() => showProblem(slot, null)} />}</div>;
}

function Box({ shown: { message, details, action, isRemark }, close }: { shown: Shown; close: () => void }) {
  const [title, ...lines] = message.split("\n").filter(Boolean);
  return (
    <div class={isRemark ? "problem remark" : "problem"} role={isRemark ? "status" : "alert"}>
      <p>{title}</p>
      {lines.length > 0 && <ul>{lines.slice(0, MOST_LINES).map((line) => <li>{line}</li>)}</ul>}
      {lines.length > MOST_LINES && <p>{common.more(lines.length - MOST_LINES)}</p>}
      <div class="problem-buttons">
        {action && <button type="button" class="secondary small" onClick={action.run}>{action.label}</button>}
        {details && (
          <CopyButton icon label={common.copyDetails} done={common.copied} refused={common.copyRefused} text={() => `${message}\n\n${details}`} />
        )}
        <button type="button" class="quiet small" onClick={close}>{common.dismiss}</button>
      </div>
    </div>
  );
}

export const Toasts = () => <>{toasts.value.map((one) => <OneToast key={one.id} {...one} />)}</>;

function OneToast({ id, text, action, lasts_ms }: Toast) {
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const hold = (): void => clearTimeout(timer.current);
  const wait = (): void => {
    hold();
    timer.current = setTimeout(() => closeToast(id), lasts_ms);
  };
  useEffect(() => (wait(), hold), []);
  const run = (): void => {
    action?.run();
    closeToast(id);
  };
  return (
    <div class="toast" onPointerEnter={hold} onFocusIn={hold} onPointerLeave={wait} onFocusOut={wait}>
      <span>{text}</span>
      {action && <button type="button" class="quiet small" onClick={run}>{action.label}</button>}
    </div>
  );
}
