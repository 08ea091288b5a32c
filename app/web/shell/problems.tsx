// Errors in a box where they belong, and short notices at the foot of the page.

import { useEffect, useRef } from "preact/hooks";
import { scrollTo, wantsStill } from "../dom";
import { closeToast, problems, showProblem, toast, toasts, type Shown, type Slot, type Toast } from "../store/problems";
import { common } from "../text";
import { CopyButton } from "./parts";

const MOST_LINES = 40;

/** The box of a slot; nothing while nothing is wrong there. */
export function Problems({ slot, name = "problem-slot" }: { slot: Slot; name?: string }) {
  const shown = problems.value[slot];
  return <div class={name} id={slot} hidden={!shown}>{shown && <Box shown={shown} slot={slot} close={() => showProblem(slot, null)} />}</div>;
}

/** Have an element stand where the eye is: scrolled to, or told of where its panel is not shown. */
function bringToEye(element: HTMLElement, slot: Slot, title: string): void {
  if (!element.checkVisibility()) return toast(title, { label: common.show, run: () => scrollTo(slot, "center") });
  const { top, bottom } = element.getBoundingClientRect();
  if (top < 0 || bottom > innerHeight) element.scrollIntoView({ block: "center", behavior: wantsStill() ? "auto" : "smooth" });
}

function Box({ shown: { message, details, action, isRemark }, slot, close }: { shown: Shown; slot: Slot; close: () => void }) {
  const [title = "", ...lines] = message.split("\n").filter(Boolean);
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (box.current) bringToEye(box.current, slot, title);
  }, [message]);
  return (
    <div ref={box} class={isRemark ? "problem remark" : "problem"} role={isRemark ? "status" : "alert"}>
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
