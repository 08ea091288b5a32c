// The thin loader: starts a worker, carries messages to and fro. What the messages are: lora_lab/workers/protocol/.

import { startWorker, takeEarly } from "./begin.js";
import { note } from "./report.js";
import { Watchdog } from "./watchdog.js";

/**
 * One of the two workers. Commands sent before its Python listens are kept and sent then.
 *
 * Besides what a worker says there is `died`: it is gone, or it hangs, and only `restart` helps.
 */
export class WorkerLink {
  constructor(kind) {
    this.kind = kind;
    this.handlers = new Map();
    this.watchdog = new Watchdog({
      ask: () => this.worker.postMessage({ type: "ping" }),
      giveUp: (seconds, doing) => this.receive({ type: "died", seconds, doing, started: this.ready }),
    });
    this.start();
  }

  start() {
    this.ready = false;
    this.waiting = [];
    this.watchdog.begin();
    const early = this.kind === "train" && takeEarly();
    this.worker = early ? early.worker : startWorker(this.kind);
    if (!early) return this.listen();
    // Those who made this link first say what they want to hear. Until then `heard` grows on: what came early must be
    // heard before what comes later, or a boot phase would replace the error that followed it.
    setTimeout(() => {
      this.listen();
      for (const event of early.heard) early.worker[`on${event.type}`](event);
    });
  }

  listen() {
    const worker = this.worker;
    const isMine = () => worker === this.worker; // what one that was ended had said still comes
    worker.onmessage = (event) => isMine() && this.receive(event.data);
    worker.onerror = (event) => {
      event.preventDefault();
      if (!isMine()) return;
      const details = event.filename ? `${event.filename}:${event.lineno}` : "the worker could not be loaded";
      const message = event.message || `The ${this.kind} worker could not be loaded.`;
      // One that has started goes on after an error of its own, or the watchdog finds that it does not.
      if (this.ready) this.receive({ type: "failed", where: "worker", message, details });
      else this.receive({ type: "fatal", message, details });
    };
    worker.onmessageerror = () => isMine() && this.receive({ type: "failed", where: "worker", message: "A message of the worker could not be read." });
  }

  /** Call `handler(event)` for each event of this type. */
  on(type, handler) {
    this.handlers.set(type, [...(this.handlers.get(type) ?? []), handler]);
    return this;
  }

  receive(event) {
    this.watchdog.heard(event);
    note(this.kind, event);
    if (event.type === "ready") {
      this.ready = true;
      for (const [command, transfer] of this.waiting.splice(0)) this.worker.postMessage(command, transfer);
    }
    for (const handler of this.handlers.get(event.type) ?? []) handler(event);
  }

  /** Send a command; `transfer` lists the ArrayBuffers that go over for good. */
  send(type, fields = {}, transfer = []) {
    const command = { type, ...fields };
    if (this.ready) this.worker.postMessage(command, transfer);
    else this.waiting.push([command, transfer]);
  }

  /** Throw the worker away, with all it holds on the GPU, and start a fresh one. */
  restart() {
    this.worker.terminate();
    this.start();
  }
}
