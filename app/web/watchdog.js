// Notices a worker that hangs or is gone: asks it for a sign of life, and counts how long none comes.
//
// It counts its own ticks and no clock: a computer that slept, or a page whose timers rest, has not waited meanwhile.

const TICK_MS = 2000;
const SILENT_TICKS = 4; // of a worker that has said nothing at all, after which it is given up: noticed within 10 s
const START_TICKS = 90; // of one whose Python has not started yet: a slow network and a slow computer

/** Watch a link's worker. `ask()` has it answer; `give_up(seconds, doing)` is called once when it does not. */
export class Watchdog {
  constructor({ ask, giveUp }) {
    this.ask = ask;
    this.giveUp = giveUp;
    this.begin();
    setInterval(() => this.tick(), TICK_MS);
  }

  /** A fresh worker was started. */
  begin() {
    this.silent = 0;
    this.ready = false;
    this.busy = null; // {what, most_s}: what it said that it does without answering
    this.over = false;
  }

  /** The worker has said something. */
  heard({ type, what, most_s }) {
    this.silent = 0;
    if (type === "ready") this.ready = true;
    if (type === "busy") this.busy = what ? { what, most_s } : null;
    if (type === "fatal") this.over = true;
  }

  tick() {
    if (this.over) return;
    const allowed = this.ready ? SILENT_TICKS + Math.ceil((this.busy?.most_s ?? 0) * 1000 / TICK_MS) : START_TICKS;
    this.silent += 1;
    if (this.silent <= allowed) return this.ready && this.ask();
    this.over = true;
    this.giveUp(Math.round(this.silent * TICK_MS / 1000), this.busy?.what ?? "");
  }
}
