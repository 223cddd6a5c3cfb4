import type { JobContext } from "../core/job.ts";
import { CRASH_MARKS, type CrashMark } from "./crash-marks.ts";
import type { LogRecord } from "./printk.ts";

/** The last crash, or what came nearest to one, that a kernel log tells of. */
export interface LoggedCrash {
  /** Of the first record that belongs to it, in the log. */
  readonly index: number;
  /** The line that says what happened. */
  readonly title: string;
}

/** A panic, a backtrace of every CPU: what follows of a failure follows within seconds. Nanoseconds. */
const JOINED = 5_000_000_000n;
/** Records looked at between two looks at signals. */
const CHECKPOINT_RECORDS = 1024;
/** A title is one line of a log, and no longer than this. */
const MAX_TITLE = 200;

interface Incident {
  readonly index: number;
  title: string | undefined;
  /** Of its last mark. */
  time: bigint;
  /** Whether its report has not ended. */
  open: boolean;
  /** Whether it is more than a warning. */
  serious: boolean;
  /** Whether the kernel panicked: whatever comes then belongs to it. */
  panicked: boolean;
}

/**
 * Finds where the last incident of a kernel log begins: an oops and the panic that comes of it are one, a warning
 * minutes before is another.
 * @returns undefined when no line is one of `CRASH_MARKS`
 */
export async function findCrash(
  records: readonly LogRecord[],
  checkpoint?: JobContext["checkpoint"],
): Promise<LoggedCrash | undefined> {
  let last: Incident | undefined;
  for (const [index, { time, text }] of records.entries()) {
    const mark = CRASH_MARKS.find(({ pattern }) => pattern.test(text));
    if (mark !== undefined) {
      if (last !== undefined && belongs(last, mark, time)) extend(last, mark, time, text);
      else if (mark.kind !== "end") last = incidentOf(index, mark, time, text);
    }
    if (index % CHECKPOINT_RECORDS === 0) await checkpoint?.();
  }
  if (last === undefined) return undefined;
  const [firstLine = ""] = records[last.index]!.text.split("\n", 1);
  return { index: last.index, title: last.title ?? firstLine.slice(0, MAX_TITLE) };
}

function belongs({ open, serious, panicked, time: before }: Incident, { kind }: CrashMark, time: bigint) {
  if (panicked || kind === "end") return true;
  // Backtraces that an NMI asked for have the time at which they were taken, which may be earlier.
  if (time - before > JOINED) return false;
  return open || serious || kind === "outcome";
}

const incidentOf = (index: number, mark: CrashMark, time: bigint, text: string): Incident => {
  const incident = { index, title: undefined, time, open: true, serious: false, panicked: false };
  extend(incident, mark, time, text);
  return incident;
};

function extend(incident: Incident, { kind, pattern }: CrashMark, time: bigint, text: string): void {
  if (time > incident.time) incident.time = time;
  incident.open = kind !== "end" && (incident.open || kind !== "frame");
  if (kind === "failure" || kind === "outcome") incident.serious = true;
  if (kind === "outcome" && text.includes("Kernel panic - not syncing")) incident.panicked = true;
  if (kind !== "frame" && kind !== "end") incident.title ??= lineOf(text, pattern);
}

/** The line that a pattern matches. */
function lineOf(text: string, pattern: RegExp): string {
  const from = text.search(pattern);
  const end = text.indexOf("\n", from);
  return text.slice(from, Math.min(end < 0 ? text.length : end, from + MAX_TITLE));
}
