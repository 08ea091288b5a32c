// Settings given away: copied as a link or a command, saved as a file. And taken from a file.

import { useState } from "preact/hooks";
import { copyText, saveFile } from "../../dom";
import type { SettingsShared } from "../../protocol";
import { onChoice } from "../../shell/files";
import { Problems } from "../../shell/problems";
import { view } from "../../store/settings";
import { isRunning } from "../../store/train";
import { common, sharingText } from "../../text";
import { linkTo, loadSettings, share, type Shared } from "./sharing";

const WORDS = {
  link: ({ fragment }: SettingsShared) => linkTo(fragment),
  command: ({ command }: SettingsShared) => command,
};
type Word = keyof typeof WORDS;
const SAID_MS = 3000;

/** The buttons that give settings away; where the browser refuses to copy, the text to be copied by hand. */
export function ShareButtons({ of, slot }: { of: Shared; slot: "runs-problem" | "sharing-problem" }) {
  const [done, setDone] = useState<Word | null>(null); // what was just copied
  const [byHand, setByHand] = useState("");
  const copy = async (word: Word): Promise<void> => {
    setByHand("");
    const text = share(of, slot).then(WORDS[word]);
    const hasCopied = await copyText(text);
    if (hasCopied) {
      setDone(word);
      setTimeout(() => setDone((now) => (now === word ? null : now)), SAID_MS);
    } else await text.then(setByHand, () => {}); // why there is none is said where `slot` is
  };
  const save = (): void => {
    const give = ({ file_name, file }: SettingsShared): void => saveFile(file_name, file as BlobPart, "application/json");
    share(of, slot).then(give, () => {});
  };
  return (
    <>
      <button type="button" class="quiet small" data-testid="copy-settings-link" onClick={() => void copy("link")}>
        {done === "link" ? common.copied : sharingText.copyLink}
      </button>
      <button type="button" class="quiet small" data-testid="save-settings" onClick={save}>{sharingText.save}</button>
      <button type="button" class="quiet small" data-testid="copy-command" title={sharingText.commandHint} onClick={() => void copy("command")}>
        {done === "command" ? common.copied : sharingText.copyCommand}
      </button>
      {byHand && (
        <label class="by-hand">
          <span>{sharingText.byHand}</span>
          <textarea readOnly data-testid="by-hand" value={byHand} onFocus={(event) => event.currentTarget.select()} />
        </label>
      )}
    </>
  );
}

/** Below the form: its settings given away, and others taken from a file. */
export function Sharing() {
  return (
    <>
      {view.value === "open" && (
        <div class="sharing" role="group" aria-label={sharingText.title}>
          <span class="sharing-title">{sharingText.title}</span>
          <ShareButtons of="form" slot="sharing-problem" />
          <label class="as-button quiet small" for="settings-input">
            <input type="file" class="visually-hidden" id="settings-input" data-testid="settings-input" accept=".json" disabled={isRunning.value}
              onChange={onChoice((files) => void loadSettings(files))} />
            {sharingText.load}
          </label>
        </div>
      )}
      <Problems slot="sharing-problem" />
    </>
  );
}
