import { latin1 } from "../../core/bytes.ts";
import { CRASH_MARKS, type MarkKind } from "../../kernel/crash-marks.ts";

/** A line of a log is looked at so far; a title is no longer than this. */
const MAX_LINE = 400;
const MAX_TITLE = 200;
const NEWLINE = 10;
/** What comes of a failure comes within so many seconds. */
const JOINED = 5;

/** Level, time, and with CONFIG_PRINTK_CALLER the task or CPU, in front of each line (Linux kernel/printk/printk.c). */
const STAMP = /^(?:<\d{1,3}>)?\[ {0,11}(\d{1,10})\.(\d{6})\](?:\[ {0,9}[TC]\d{1,9}\])? ?/;

/** A line of the kernel's log. */
export interface LogLine {
  /** Seconds since boot. */
  readonly uptime: number | undefined;
  /** What was said, one byte a character. */
  readonly text: string;
  /** From 1. */
  readonly number: number;
}

/** Lines of a log, each as far as it is looked at. */
export function* linesOf(bytes: Uint8Array): Generator<LogLine> {
  let number = 0;
  for (let at = 0; at < bytes.length; ) {
    const found = bytes.indexOf(NEWLINE, at);
    const end = found < 0 ? bytes.length : found;
    yield lineOf(latin1(bytes.subarray(at, Math.min(end, at + MAX_LINE))), ++number);
    at = end + 1;
  }
}

function lineOf(line: string, number: number): LogLine {
  const match = STAMP.exec(line);
  if (match === null) return { uptime: undefined, text: line, number };
  const uptime = Number(match[1]) + Number(match[2]) / 1e6;
  return { uptime, text: line.slice(match[0].length), number };
}

/** When a log begins and ends, in seconds since boot. */
export interface Uptimes {
  readonly first: number | undefined;
  readonly last: number | undefined;
}

/** Lines at either end that are looked at for a time: a cut one has none. */
const ENDS = 16;
const TAIL = 16_384;

export function uptimesOf(bytes: Uint8Array): Uptimes {
  let first: number | undefined;
  for (const { uptime, number } of linesOf(bytes)) {
    first = uptime;
    if (first !== undefined || number >= ENDS) break;
  }
  let last: number | undefined;
  for (const { uptime } of linesOf(bytes.subarray(Math.max(0, bytes.length - TAIL)))) last = uptime ?? last;
  return { first, last };
}

/** What a dump of the log says of why it was made. */
export interface Telling {
  /** The first line of the last failure in it. */
  readonly line: LogLine | undefined;
  /** What panic() said. */
  readonly panic: LogLine | undefined;
}

const PANIC = /^Kernel panic - not syncing: /;
/** The way there, not what happened: panic() says it better. */
const ON_PURPOSE = /^(?:sysrq: )?(?:SysRq : )?Trigger a crash\b/;
const RANK: Readonly<Record<MarkKind, number>> = { failure: 3, outcome: 2, warning: 1, frame: 0, end: 0 };

/** So much of the end of a log is looked at: kernels keep less in a store. */
const LOOKED_AT = 2 ** 20;
/** No mark is shorter. */
const MIN_MARK = 5;

/** Finds the lines that tell what happened, of the last crash that a log has. */
export function tellingOf(log: Uint8Array): Telling {
  const from = Math.max(0, log.length - LOOKED_AT);
  const before = countLines(log.subarray(0, from));
  const bytes = log.subarray(from);
  let best: { readonly line: LogLine; readonly rank: number } | undefined;
  let panic: LogLine | undefined;
  let until = Number.NEGATIVE_INFINITY;
  for (const found of linesOf(bytes)) {
    if (found.text.length < MIN_MARK) continue;
    const line = before === 0 ? found : { ...found, number: found.number + before };
    const mark = CRASH_MARKS.find(({ pattern }) => pattern.test(line.text));
    const rank = mark === undefined || ON_PURPOSE.test(line.text) ? 0 : RANK[mark.kind];
    if (rank === 0) continue;
    const time = line.uptime ?? until;
    const isNew = panic === undefined && time > until;
    if (best === undefined || isNew || rank > best.rank) best = { line, rank };
    until = Math.max(until, time + JOINED);
    if (PANIC.test(line.text)) panic = line;
  }
  return { line: best?.line, panic };
}

/** Lines that end in a text. */
function countLines(bytes: Uint8Array): number {
  let lines = 0;
  for (let at = bytes.indexOf(NEWLINE); at >= 0; at = bytes.indexOf(NEWLINE, at + 1)) lines++;
  return lines;
}

export const titleOf = ({ text }: LogLine): string => text.slice(0, MAX_TITLE).trimEnd();
