// Whether the page works without a network, and whether a newer version waits. The work is the service worker's.
//
// Where a browser has no service workers (a page from a file or by http from the local network, a private window), or
// refuses this one, nothing is shown and everything goes on as it would without.

const CHECK_AGAIN_MS = 60 * 60 * 1000;

/**
 * Follow the service worker. `given`: script, its address (trusted); modelId, the model that the page begins with or "".
 *
 * Calls `changed({ state, others })` with state "none", "keeping" (its files are coming), "kept" (the page, and the model
 * that it begins with, are here to the last byte) or "update" (a newer version is here and waits); `others` is how many
 * other tabs keep that from beginning, once somebody has asked for it.
 */
export class Offline {
  constructor({ script, modelId, changed }) {
    [this.script, this.modelId, this.changed] = [script, modelId, changed];
    this.registration = null;
    this.looked = performance.now();
  }

  /** Have the files kept, from now on. */
  async begin() {
    const container = navigator.serviceWorker;
    if (!container) return;
    try {
      this.registration = await container.register(this.script, { updateViaCache: "none" });
    } catch (error) {
      return console.info("This page will not open without a network:", error.message);
    }
    if (!this.registration) return;
    this.registration.addEventListener("updatefound", () => this.follow(this.registration.installing));
    this.follow(this.registration.installing);
    document.addEventListener("visibilitychange", () => this.checkAgain());
    await this.look();
  }

  follow(worker) {
    worker?.addEventListener("statechange", () => this.look());
  }

  /** Find out anew how things stand. */
  async look() {
    if (!this.registration) return;
    const { installing, waiting, active } = this.registration;
    if (active && waiting) return this.changed({ state: "update", others: 0 });
    if (!active) return this.changed({ state: installing || waiting ? "keeping" : "none", others: 0 });
    const { whole, models } = await ask(active, { type: "state" });
    if (this.registration.waiting) return this.changed({ state: "update", others: 0 });
    const isKept = whole && (!this.modelId || models.includes(this.modelId));
    this.changed({ state: isKept ? "kept" : "none", others: 0 });
  }

  /** Ask the server for a newer version, now and then, in a page that stays open for days. */
  checkAgain() {
    if (document.visibilityState !== "visible" || performance.now() - this.looked < CHECK_AGAIN_MS) return;
    this.looked = performance.now();
    this.registration.update().catch(() => {}); // no network, or the server is gone
  }

  /** Have the version that waits begin, and load the page anew; not while another tab shows the one before. */
  async takeOver() {
    const worker = this.registration?.waiting;
    if (!worker) return location.reload();
    const begun = new Promise((resolve) => {
      worker.addEventListener("statechange", () => worker.state === "activated" && resolve());
    });
    const { others } = await ask(worker, { type: "take_over" });
    if (others) return this.changed({ state: "update", others });
    await begun;
    location.reload();
  }
}

function ask(worker, question) {
  const { port1, port2 } = new MessageChannel();
  return new Promise((resolve) => {
    port1.onmessage = ({ data }) => resolve(data);
    worker.postMessage(question, [port2]);
  });
}
