import type { Severity } from "../finding.ts";

/** What a crash in a kernel's log is, by the line that says what happened. */
export interface CrashClass {
  readonly class: string;
  readonly severity: Severity;
}

type Row = readonly [pattern: RegExp, name: string, severity: Severity];

/** In order, the first that fits; the lines are those of kernel/crash-marks.ts. Every pattern is linear. */
const CLASSES: readonly Row[] = [
  [/(?:sysrq: )?(?:SysRq : )?Trigger a crash/, "sysrq-crash", "oops"],
  [/NULL pointer dereference/, "null-deref", "oops"],
  [/unable to handle (?:kernel )?(?:page fault|paging request|access)/i, "page-fault", "oops"],
  [/general protection fault/, "general-protection", "oops"],
  [/double fault/, "double-fault", "oops"],
  [/kernel BUG at/i, "kernel-bug", "oops"],
  [/BUG: soft lockup/, "soft-lockup", "hang"],
  [/hard LOCKUP/i, "hard-lockup", "hang"],
  [/detected (?:expedited )?stall/, "rcu-stall", "hang"],
  [/INFO: task .* blocked/, "hung-task", "hang"],
  [/invoked oom-killer|Out of memory/, "oom", "warning"],
  [/Machine [Cc]heck|Hardware Error/, "machine-check", "warning"],
  [/stack guard page|stack overflow/, "stack-overflow", "oops"],
  [/BUG: K[A-Z]*SAN|BUG: KFENCE/, "memory-corruption", "oops"],
  [/list_(?:add|del) corruption/, "list-corruption", "oops"],
  [/^WARNING/, "warning", "warning"],
  [/NMI received|^NMI: /, "nmi", "warning"],
  [/^Kernel panic - not syncing/, "panic", "panic"],
  [/^(?:Oops|Internal error|BUG): |\[#\d+\]/, "oops", "oops"],
];

const UNKNOWN: CrashClass = { class: "kernel-crash", severity: "warning" };

export function classOfCrash(title: string): CrashClass {
  const row = CLASSES.find(([pattern]) => pattern.test(title));
  return row === undefined ? UNKNOWN : { class: row[1], severity: row[2] };
}

/** The same words for the same defect: addresses, numbers and hexadecimal are taken out. */
export const signatureOf = (title: string): string =>
  title
    .slice(0, 200)
    .replace(/\b0x[0-9a-f]{1,16}\b/gi, "X")
    .replace(/\b[0-9a-f]{8,16}\b/gi, "X")
    .replace(/\d{1,20}/g, "N")
    .trim();
