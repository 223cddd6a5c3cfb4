import type { ProgressSink } from "../core/job.ts";
import { progressJson, progressLine } from "../report/progress.ts";
import type { Terminal } from "./terminal.ts";

export const PROGRESS_MODES = ["auto", "plain", "json", "none"] as const;
export type ProgressMode = (typeof PROGRESS_MODES)[number];

/** A terminal line is redrawn at most ten times a second, a log line written every ten seconds. */
const INTERVALS = { redraw: 100, plain: 10_000, json: 1000 };

/** Progress on standard error; `clear` takes the line off the terminal so that something else can be written. */
export interface ProgressLine extends ProgressSink {
  clear(): void;
}

const SILENT: ProgressLine = { start: () => {}, update: () => {}, finish: () => {}, clear: () => {} };

export function progressSink(terminal: Terminal, mode: ProgressMode): ProgressLine {
  if (mode === "none") return SILENT;
  const { stderr, now, env } = terminal;
  const redraw = mode === "auto" && stderr.isTTY === true && env.TERM !== "dumb";
  const style = redraw ? "redraw" : mode === "json" ? "json" : "plain";
  let label = "";
  let total = 0;
  let begun = 0;
  let shown = 0;
  let drawn = 0;
  let reached = 0;
  let running = false;
  const clear = (): void => {
    if (drawn > 0) stderr.write(`\r${" ".repeat(drawn)}\r`);
    drawn = 0;
  };
  const stateAt = (done: number) => ({ label, done, total, seconds: (now() - begun) / 1000 });
  const show = (done: number): void => {
    const state = stateAt(done);
    if (!redraw) {
      stderr.write(`${style === "json" ? progressJson(state, false) : progressLine(state)}\n`);
      return;
    }
    // A line as wide as the terminal wraps, and \r comes back to its second half.
    const text = progressLine(state).slice(0, (stderr.columns ?? 80) - 1);
    stderr.write(`\r${text.padEnd(drawn)}`);
    drawn = text.length;
  };
  return {
    start: (bytes, what) => {
      label = what;
      total = bytes;
      begun = now();
      shown = begun;
      reached = 0;
      running = true;
    },
    update: (done) => {
      reached = done;
      const time = now();
      if (time - shown < INTERVALS[style]) return;
      shown = time;
      show(done);
    },
    finish: () => {
      clear();
      // People see what came of it; a program that waits for the end is told, however far the work came.
      if (running && style === "json") stderr.write(`${progressJson(stateAt(reached), true)}\n`);
      running = false;
    },
    clear,
  };
}
