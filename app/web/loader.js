// The thin loader: starts a worker, carries messages to and fro. What the messages are: lora_lab/workers/protocol/.

import { startWorker, takeEarly } from "./begin.js";

/** One of the two workers. Commands sent before its Python listens are kept and sent then. */
export class WorkerLink {
  constructor(kind) {
    this.kind = kind;
    this.handlers = new Map();
    this.start();
  }

  start() {
    this.ready = false;
    this.waiting = [];
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
    this.worker.onmessage = (event) => this.receive(event.data);
    this.worker.onerror = (event) => {
      event.preventDefault();
      const place = event.filename ? `${event.filename}:${event.lineno}` : "the worker could not be loaded";
      this.receive({ type: "fatal", message: event.message || `The ${this.kind} worker could not start.`, details: place });
    };
  }

  /** Call `handler(event)` for each event of this type. */
  on(type, handler) {
    this.handlers.set(type, [...(this.handlers.get(type) ?? []), handler]);
    return this;
  }

  receive(event) {
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
