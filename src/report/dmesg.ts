import { printable } from "../core/text.ts";
import type { DmesgResult } from "../jobs/dmesg.ts";
import type { LogRecord } from "../kernel/printk.ts";

/** By level (Linux `include/linux/kern_levels.h`), as dmesg -x has them. */
const LEVELS = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"] as const;

export interface DmesgFlags {
  /** Whether each line begins with the level's name. */
  readonly decode: boolean;
  /** The last records only. */
  readonly last: number | undefined;
}

const shownOf = ({ log }: DmesgResult, last: number | undefined): readonly LogRecord[] =>
  last === undefined ? log.records : log.records.slice(Math.max(0, log.records.length - last));

/** As the kernel prints it: `[   12.345678] text`, each line of a record with its time. */
export const dmesgText = (result: DmesgResult, { decode, last }: DmesgFlags): string =>
  shownOf(result, last)
    .flatMap((record) => linesOf(record, decode))
    .map((line) => `${line}\n`)
    .join("");

function linesOf({ time, level, text }: LogRecord, decode: boolean): string[] {
  const head = `${decode ? levelText(level) : ""}[${timeText(time)}] `;
  return text
    .replace(/\n$/, "")
    .split("\n")
    .map((line) => `${head}${line.split("\t").map(printable).join("\t")}`);
}

const levelText = (level: number | undefined): string => `${(LEVELS[level ?? -1] ?? "?").padEnd(6)}: `;

/** Seconds and microseconds, as printk does. */
const timeText = (time: bigint): string =>
  `${String(time / 1_000_000_000n).padStart(5)}.${String((time % 1_000_000_000n) / 1000n).padStart(6, "0")}`;

/** `result` of guestcore/dmesg/1. */
export const dmesgJson = (result: DmesgResult, { last }: Pick<DmesgFlags, "last">) => ({
  release: result.release ?? null,
  lost: result.log.lost,
  records: shownOf(result, last).map(({ sequence, time, level, text }) => ({
    sequence,
    /** Nanoseconds since boot. */
    time,
    level: level ?? null,
    text,
  })),
});
