// Notices a worker that hangs or is gone: asks it for a sign of life, and counts how long none comes.
//
// It counts its own ticks and no clock: a computer that slept, or a page whose timers rest, has not waited meanwhile.

const TICK_MS = 2000;
const SILENT_TICKS = 4; // of a worker that has said nothing at all, after which it is given up: noticed within 10 s
const START_TICKS = 90; // of one whose Python has not started yet: a slow network and a slow computer

interface Owner {
  /** Have the worker answer. */
  ask(): void;
  /** Called once when it does not: after so many seconds, while it did this ("" where it had not said). */
  giveUp(seconds: number, doing: string): void;
}

/** Watches a link's worker. */
export class Watchdog {
  private silent = 0;
  private ready = false;
  private busy: { what: string; most_s: number } | null = null; // what it said that it does without answering
  private over = false;

  constructor(private readonly owner: Owner) {
    setInterval(() => this.tick(), TICK_MS);
  }

  /** A fresh worker was started. */
  begin(): void {
    this.silent = 0;
    this.ready = false;
    this.busy = null;
    this.over = false;
  }

  /** The worker has said something. */
  heard(event: { type: string; what?: string; most_s?: number }): void {
    this.silent = 0;
    if (event.type === "ready") this.ready = true;
    if (event.type === "busy") this.busy = event.what ? { what: event.what, most_s: event.most_s ?? 0 } : null;
    if (event.type === "fatal") this.over = true;
  }

  private tick(): void {
    if (this.over) return;
    const allowed = this.ready ? SILENT_TICKS + Math.ceil(((this.busy?.most_s ?? 0) * 1000) / TICK_MS) : START_TICKS;
    this.silent += 1;
    if (this.silent <= allowed) {
      if (this.ready) this.owner.ask();
      return;
    }
    this.over = true;
    this.owner.giveUp(Math.round((this.silent * TICK_MS) / 1000), this.busy?.what ?? "");
  }
}
