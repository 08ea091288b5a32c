// The line at the page's foot about use without a network, and the offer of a newer version.

import { offlineScript } from "../begin.js";
import { byId, setText } from "../dom.js";
import { isRunning, state, subscribe } from "../store.js";
import { Offline } from "./offline.js";

const BEGIN_ANYWAY_MS = 30000; // of a page that does not get ready: the next version may mend that

const words = { none: "", keeping: "Getting ready to work offline…", kept: "Works offline", update: "A new version is there" };
let known = { state: "none", others: 0 };
let offline;

/** Follow how things stand, and show it. `train` is the train worker's link: what it stores is looked at anew. */
export function setUpOffline(train) {
  const modelId = new URL(location.href).searchParams.get("model") ?? document.body.dataset.defaultModel;
  offline = new Offline({ script: offlineScript(), modelId, changed });
  train.on("storage", () => offline.look());
  byId("update-reload").addEventListener("click", () => offline.takeOver());
  const begin = once(() => offline.begin()); // after what the person waits for
  subscribe((now) => isUp(now) && begin());
  setTimeout(begin, BEGIN_ANYWAY_MS);
  subscribe(draw);
}

const isUp = ({ model, gpu, chatModel, worker }) =>
  worker.phase === "fatal" || (model && (gpu.state === "none" || ["ready", "released", "failed"].includes(chatModel)));

function once(work) {
  let begun = false;
  return () => {
    if (!begun) work();
    begun = true;
  };
}

function changed(now) {
  known = now;
  draw();
}

function draw() {
  const isOffered = known.state === "update";
  const held = isOffered && isRunning(); // a run is not disturbed
  byId("offline-status").dataset.state = known.state;
  setText(byId("offline-status"), held ? "" : isOffered && known.others ? othersWords(known.others) : words[known.state]);
  byId("update-reload").hidden = !isOffered || held;
}

const othersWords = (count) =>
  `A new version is there: close the ${count === 1 ? "other tab" : `${count} other tabs`} of LoRA Lab first`;
