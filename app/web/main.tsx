// The page's beginning: which area hears what the workers say, and what is rendered where.

import "./link/early"; // first of all
import { render } from "preact";
import { addAdapter, chatAreas, chatRoots, offerModel, setUpConversations, setUpReplyFields } from "./chat";
import { dataAreas, dataRoots, dropData } from "./data";
import { bringToFront, byId, wantsStill } from "./dom";
import { begunMs } from "./link/begin";
import { pagePhase } from "./link/startup";
import { train } from "./link/workers";
import { DropVeil, type Take } from "./shell/drop";
import type { Root } from "./shell/parts";
import { Foot } from "./shell/foot";
import { Keys } from "./shell/keys";
import { NoGpu } from "./shell/no_gpu";
import { offlineArea, setUpOffline } from "./shell/offline";
import { openFirst, openingArea } from "./shell/opening";
import { OtherTab, otherTabsArea, setUpOtherTabs } from "./shell/other_tabs";
import { Toasts } from "./shell/problems";
import { reviveArea } from "./shell/revive";
import { Tabs, ThemeSwitch } from "./shell/nav";
import { Strip } from "./shell/strip";
import { join, receive } from "./store/bus";
import { pageArea } from "./store/page";
import { setUpLook } from "./store/shell";
import { setUpFields } from "./train/fields";
import { trainAreas, trainRoots } from "./train";
import { setUpSharing } from "./train/sharing/sharing";

pagePhase("page", 0, begunMs);
pagePhase("page's scripts", begunMs);

// In this order: the chat gets a model when the settings know it, and data is read again when all others do.
join([pageArea, openingArea, ...trainAreas, ...chatAreas, ...dataAreas, reviveArea, offlineArea, otherTabsArea]);

/** Files that were dropped beside every zone: each goes where it belongs. */
const take: Take = (use, files) => {
  if (use === "model") offerModel(files);
  else if (use === "adapter") addAdapter(files);
  else dropData(files);
};

/** What is rendered into which element of templates/. */
const ROOTS: readonly Root[] = [
  ["nav-root", Tabs],
  ["theme-root", ThemeSwitch],
  ["setup-root", Strip],
  ["no-gpu-root", NoGpu],
  ...dataRoots,
  ...trainRoots,
  ...chatRoots,
  ["other-tab-root", OtherTab],
  ["foot-root", Foot],
  ["keys-root", Keys],
  ["toasts", Toasts],
  ["drop-root", () => <DropVeil take={take} />],
];

setUpLook();
for (const [id, Part] of ROOTS) render(<Part />, byId(id));
setUpFields();
setUpReplyFields();
setUpConversations();
setUpOffline();
setUpOtherTabs();
byId("brand").addEventListener("click", (event) => {
  event.preventDefault();
  scrollTo({ top: 0, behavior: wantsStill() ? "auto" : "smooth" });
});
for (const link of document.querySelectorAll<HTMLAnchorElement>(".skip-link, .panel-skip")) {
  link.addEventListener("click", () => bringToFront(link.hash.slice(1))); // a narrow window shows that panel then
}
train.begin(receive);
setUpSharing();
openFirst();
