// The wish to be told when the run is done. The browser asks the person then, and only then.

import { watchText } from "../text";
import { allowed, wanted, wantNotice } from "./notice";

export function NoticeButton() {
  if (allowed.value === "missing") return null;
  if (allowed.value === "denied") return <span class="hint">{watchText.mayNot}</span>;
  return (
    <button type="button" class="quiet small" data-testid="tell-me" aria-pressed={wanted.value} onClick={() => void wantNotice()}>
      {wanted.value ? watchText.willTell : watchText.tellMe}
    </button>
  );
}
