import { atLeast } from "../finding.ts";
import { HANGS, type IncidentClass } from "./classes.ts";
import type { Incident } from "./incident.ts";
import type { SignatureMatch } from "./matcher.ts";
import type { ConsoleLine } from "./prefix.ts";

/** What follows of an incident follows within so many seconds, and, in a log without times, so many lines. */
const JOINED_SECONDS = 5;
const JOINED_LINES = 400;
/** Hangs and shortage of memory are told again and again. */
const REPEATED_SECONDS = 120;

const REPEATED: ReadonlySet<IncidentClass> = new Set([
  ...HANGS,
  ...([
    "oom",
    "mce",
    "nmi",
    "hardware-error",
    "user-fault",
    "netdev-wait",
    "emergency-mode",
    "debugger",
    "boot-failure",
  ] as const),
]);
/** What goes on after them is mostly what they warned of. */
const SANITIZERS: ReadonlySet<IncidentClass> = new Set([
  "kasan",
  "kfence",
  "kmsan",
  "slab-corruption",
  "bad-page",
]);
/** slab_err(), object_err() and kmem_cache_destroy() warn too, behind "BUG kmalloc-64 …". */
const SLAB_SOURCE = /(?:^|\/)mm\/sl[au]b(?:_common)?\.[ch]$/;
const isSanitizer = ({ class: kind, headline }: Incident): boolean =>
  SANITIZERS.has(kind) || headline.signature.id === "linux/kasan-null";
/** Reasons of a panic that are but the end of something else. */
const FOLLOWS =
  /^(?:.{0,40}Fatal exception|Aiee|Attempted to kill|.{0,20}panic_on_oops|.{0,40}Oops|Unhandled|bad mode|Unrecoverable|.{0,30}BUG|stack is corrupted|Machine halted|Watchdog|.{0,40}[Ff]atal|[a-z ]{0,30}(?:fault|trap)\b|$)/;
/** What a panic for a reason of its own class may be the end of besides that class. */
const RELATED: Partial<Record<IncidentClass, readonly IncidentClass[]>> = {
  "soft-lockup": ["rcu-stall", "hard-lockup"],
  "hard-lockup": ["soft-lockup", "rcu-stall"],
  "rcu-stall": ["soft-lockup"],
  "stack-overflow": ["double-fault", "page-fault"],
  "double-fault": ["stack-overflow"],
  mce: ["hardware-error"],
  "hardware-error": ["mce"],
  nmi: ["hard-lockup", "hardware-error"],
};

/** Whether a line comes so soon after an incident that it may belong to it. */
export function isSoon(
  { clock, last }: Incident,
  { uptime, number }: ConsoleLine,
  seconds = JOINED_SECONDS,
): boolean {
  return uptime === undefined || clock === 0 ? number - last <= JOINED_LINES : uptime - clock <= seconds;
}

/** Two that print at once are told apart by who prints, where the kernel says so. */
export const sameCaller = (a: string | undefined, b: string | undefined): boolean =>
  a === undefined || b === undefined || a === b;

/** Whether a panic is the end of an incident. */
export function endsIn(incident: Incident, line: ConsoleLine, match: SignatureMatch): boolean {
  const { class: kind } = match.signature;
  if (incident.severity === "panic") return true;
  if (kind === incident.class || RELATED[kind]?.includes(incident.class) === true) {
    return isSoon(incident, line, REPEATED.has(incident.class) ? REPEATED_SECONDS : JOINED_SECONDS);
  }
  if (!isSoon(incident, line)) return false;
  if (kind === "warning") return !HANGS.has(incident.class) && incident.severity !== "notice";
  const reason = match.groups[1] ?? "";
  if (kind !== "panic") return false;
  // parisc: parisc_terminate() says what happened, and panics with the same words.
  if (reason.length >= 8 && incident.first.text.startsWith(`${reason}: `)) return true;
  if (!FOLLOWS.test(reason)) return false;
  return (
    atLeast(incident.severity, "hang") || (incident.class === "oom" && reason.startsWith("Attempted to kill"))
  );
}

/** Whether an oops is the outcome of an incident whose headline came before it. */
export function diesOf(incident: Incident, line: ConsoleLine): boolean {
  if (!sameCaller(incident.caller, line.caller) || !isSoon(incident, line)) return false;
  if (incident.severity === "panic") return true;
  return atLeast(incident.severity, "oops") && (!incident.closed || isSanitizer(incident));
}

/** Whether a new headline tells of an incident that is there already. */
export function continues(
  incident: Incident,
  line: ConsoleLine,
  { signature, groups }: SignatureMatch,
): boolean {
  if (incident.severity === "panic" && incident.panic !== undefined) return true;
  if (!sameCaller(incident.caller, line.caller)) return false;
  const kind = signature.class;
  // What SLUB said of the cache before, until 5.17.
  if (signature.id === "linux/slab-destroyed" && incident.class === kind && isSoon(incident, line))
    return true;
  // Two headlines of one report: "PANIC: double fault", "double fault: 0000 [#1]".
  const isSame =
    kind === incident.class && kind !== "slab-corruption" && !incident.closed && incident.frames.length === 0;
  if (isSame && isSoon(incident, line, 1) && incident.last >= line.number - 3) return true;
  if (kind === incident.class && REPEATED.has(kind)) {
    // A stall that ended is over; the next one has a place of its own.
    const isOver = kind === "rcu-stall" && incident.survived === true && !incident.open;
    return !isOver && isSoon(incident, line, REPEATED_SECONDS);
  }
  if (isSanitizer(incident) && incident.unrelated === 0 && isSoon(incident, line, 1)) {
    if (incident.class === "slab-corruption" && kind === "warning") return SLAB_SOURCE.test(groups[1] ?? "");
    return ["null-deref", "page-fault", "gpf", "kernel-bug"].includes(kind);
  }
  return false;
}
