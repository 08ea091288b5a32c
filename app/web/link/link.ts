// The thin loader: starts a worker, carries messages to and fro. What the messages are: lora_lab/workers/protocol/.

import type { Commands, Events } from "../protocol";
import { startWorker, takeEarly } from "./begin";
import { note } from "./report";
import { Watchdog } from "./watchdog";

export type Kind = "train" | "chat";

/** The worker is gone, or it hangs, and only `restart` helps. The link says so, no worker. */
export interface Died {
  readonly seconds: number;
  readonly doing: string;
  readonly started: boolean;
}

/** What comes from a worker, by its name. `fatal` may come before Python is there, with `started` unknown. */
export interface Heard extends Events {
  died: Died;
}
export type HeardEvent = { [K in keyof Heard]: { readonly type: K } & Heard[K] }[keyof Heard];

/** A command's fields, and which ArrayBuffers go over for good; no fields where the command needs none. */
type Rest<K extends keyof Commands> = Record<never, never> extends Commands[K]
  ? [fields?: Commands[K], transfer?: Transferable[]]
  : [fields: Commands[K], transfer?: Transferable[]];

/** One of the two workers. Commands sent before its Python listens are kept and sent then. */
export class WorkerLink {
  ready = false;
  worker: Worker | null = null;
  private waiting: [object, Transferable[]][] = [];
  private watchdog: Watchdog | null = null;
  private hear: (event: HeardEvent, from: Kind) => void = () => {};

  constructor(readonly kind: Kind) {}

  /** Whether the worker was ever started. */
  get begun(): boolean {
    return this.worker !== null;
  }

  /** Start the worker; `hear` gets all that it says from now on. */
  begin(hear: (event: HeardEvent, from: Kind) => void): void {
    this.hear = hear;
    this.watchdog ??= new Watchdog({
      ask: () => this.worker?.postMessage({ type: "ping" }),
      giveUp: (seconds, doing) => this.receive({ type: "died", seconds, doing, started: this.ready }),
    });
    this.start();
  }

  private start(): void {
    this.ready = false;
    this.waiting = [];
    this.watchdog?.begin();
    const early = this.kind === "train" ? takeEarly() : null;
    const worker = early?.worker ?? startWorker(this.kind);
    this.worker = worker;
    if (!early) return this.listen(worker);
    // Whoever made this link first says what else is to be done. Until then `heard` grows on: what came early must be
    // heard before what comes later, or a boot phase would replace the error that followed it.
    setTimeout(() => {
      this.listen(worker);
      for (const event of early.heard) {
        if (event instanceof ErrorEvent) worker.onerror?.(event);
        else worker.onmessage?.(event);
      }
    });
  }

  private listen(worker: Worker): void {
    const isMine = (): boolean => worker === this.worker; // what one that was ended had said still comes
    worker.onmessage = (event) => {
      if (isMine()) this.receive(event.data as HeardEvent);
    };
    worker.onerror = (event) => {
      event.preventDefault();
      if (!isMine()) return;
      const details = event.filename ? `${event.filename}:${event.lineno}` : "the worker could not be loaded";
      const message = event.message || `The ${this.kind} worker could not be loaded.`;
      // One that has started goes on after an error of its own, or the watchdog finds that it does not.
      if (this.ready) this.receive({ type: "failed", where: "worker", message, details, subject: null, kind: "" });
      else this.receive({ type: "fatal", message, details });
    };
    worker.onmessageerror = () => {
      const message = "A message of the worker could not be read.";
      if (isMine()) this.receive({ type: "failed", where: "worker", message, details: null, subject: null, kind: "" });
    };
  }

  private receive(event: HeardEvent): void {
    this.watchdog?.heard(event);
    note(this.kind, event);
    if (event.type === "ready") {
      this.ready = true;
      for (const [command, transfer] of this.waiting.splice(0)) this.worker?.postMessage(command, transfer);
    }
    this.hear(event, this.kind);
  }

  /** Send a command; the last argument lists the ArrayBuffers that go over for good. */
  send<K extends keyof Commands>(type: K, ...[fields, transfer = []]: Rest<K>): void {
    const command = { type, ...fields };
    if (this.ready) this.worker?.postMessage(command, transfer);
    else this.waiting.push([command, transfer]);
  }

  /** End the worker; `restart` starts another. */
  terminate(): void {
    this.worker?.terminate();
  }

  /** Throw the worker away, with all it holds on the GPU, and start a fresh one. */
  restart(): void {
    this.terminate();
    this.start();
  }
}
