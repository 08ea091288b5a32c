// The wish to be told when the run is done. The browser asks the person then, and only then.

import { watchText } from "../text";
import { allowed, refused, wanted, wantNotice } from "./notice";

export function NoticeButton() {
  if (refused.value) return <span class="hint" role="status">{watchText.mayNot}</span>;
  if (allowed.value === "missing" || allowed.value === "denied") return null;
  return (
    <button type="button" class="quiet small" data-testid="tell-me" aria-pressed={wanted.value} onClick={() => void wantNotice()}>
      {wanted.value ? watchText.willTell : watchText.tellMe}
    </button>
  );
}
