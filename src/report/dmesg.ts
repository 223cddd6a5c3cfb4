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
  /** Only what belongs to the last crash. */
  readonly followCrash: boolean;
}

/** Records shown of a log that tells of no crash. */
const WITHOUT_CRASH = 50;

type ShownFlags = Pick<DmesgFlags, "last" | "followCrash">;

/** Index of the first record that is shown. */
function firstShown({ log, crash }: DmesgResult, { last, followCrash }: ShownFlags): number {
  const { length } = log.records;
  const wanted = last ?? (followCrash && crash === undefined ? WITHOUT_CRASH : length);
  return Math.max(0, length - wanted, followCrash && crash !== undefined ? crash.index : 0);
}

/** As the kernel prints it: `[   12.345678] text`, each line of a record with its time. */
export const dmesgText = (result: DmesgResult, flags: DmesgFlags): string =>
  result.log.records
    .slice(firstShown(result, flags))
    .flatMap((record) => linesOf(record, flags.decode))
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
export function dmesgJson(result: DmesgResult, flags: ShownFlags) {
  const { release, log, crash } = result;
  const first = firstShown(result, flags);
  return {
    release: release ?? null,
    lost: log.lost,
    crash:
      crash === undefined
        ? null
        : {
            /** In `records`; null where the record is not among them. */
            index: crash.index < first ? null : crash.index - first,
            sequence: log.records[crash.index]!.sequence,
            title: crash.title,
          },
    records: log.records.slice(first).map(({ sequence, time, level, text }) => ({
      sequence,
      /** Nanoseconds since boot. */
      time,
      level: level ?? null,
      text,
    })),
  };
}
