import type { Evidence, Finding } from "../finding.ts";
import { type Boot, hasOwnTime } from "./boots.ts";
import { CLASSES } from "./classes.ts";
import type { ConsoleLine } from "./prefix.ts";

/** How a log was kept. */
export interface KeptLog {
  /** What a kernel says last is not in it. */
  readonly isJournal: boolean;
  /** No logger put anything before its lines, such as a stamp before what firmware says. */
  readonly isPlain: boolean;
}

/** Whether a banner is as a console shows it, and not out of a journal, which a kernel's last words never reach. */
export const isShown = ({ raw, uptime }: ConsoleLine): boolean =>
  uptime !== undefined && !raw.slice(0, raw.indexOf("Linux version ")).includes("kernel:");

/** Boots that broke off that are told of by their lines. */
const MAX_EVIDENCE = 12;

/**
 * One finding of all boots of Linux that broke off without a word, each followed by a banner. The kernel's last line before a
 * reset of its own has the highest level (kernel/reboot.c: kernel_restart(), pr_emerg), so that every console shows it; a
 * journal or a log of syslog does not, and is not asked.
 */
export function silentResets(boots: readonly Boot[], kept: KeptLog, source: string): Finding | undefined {
  if (kept.isJournal) return undefined;
  const pairs = boots
    .map((boot, index) => [boot, boots[index + 1]] as const)
    .filter(([boot, next]) => next !== undefined && brokeOff(boot, next, kept)) as (readonly [Boot, Boot])[];
  const [first] = pairs;
  if (first === undefined) return undefined;
  const [boot] = first;
  const { severity, side } = CLASSES[CLASS];
  const count = pairs.length;
  const uptime = boot.clock;
  return {
    rule: "console/linux/silent-reset",
    class: CLASS,
    severity,
    side,
    trust: "possible",
    title: `${count === 1 ? "a boot broke off" : `${count} boots broke off`} without an end, and the machine booted anew`,
    signature: CLASS,
    survived: false,
    at: { uptime },
    evidence: pairs
      .slice(0, MAX_EVIDENCE)
      .map(([, next]): Evidence => ({ source, line: next.firstLine, text: next.shown! })),
    details: {
      boot: boot.number,
      firstLine: boot.firstLine,
      lastLine: boot.lastLine,
      count,
      boots: pairs.slice(0, MAX_EVIDENCE).map(([one]) => one.number),
    },
  };
}

const CLASS = "silent-reset";

function brokeOff(boot: Boot, next: Boot, { isPlain }: KeptLog): boolean {
  const isLinux = boot.system === "linux" || (isPlain && boot.system === undefined && hasOwnTime(boot));
  // The log so far, printed again on the console that takes over.
  if (boot.earlyConsole === "enabled" && next.earlyConsole === "disabled") return false;
  const isNext = next.number === boot.number + 1 && next.system === "linux" && !next.kdump;
  return (
    isLinux &&
    isNext &&
    next.shown !== undefined &&
    !boot.isEndTold &&
    !boot.hasFailed &&
    boot.end !== "panic"
  );
}
