import type { Severity, Side } from "../finding.ts";
import type { RtasLog } from "./decode.ts";
import type { RtasFact } from "./section-facts.ts";
import type { RtasSection } from "./sections.ts";

/** What a log amounts to. */
export interface RtasJudgement {
  readonly rule: string;
  readonly class: string;
  readonly severity: Severity;
  readonly side: Side;
  readonly title: string;
  /** Words that are the same for the same defect. */
  readonly signature: string;
  /** False for what only belongs on the time line. */
  readonly isFinding: boolean;
  readonly survived?: boolean;
}

export const sectionOf = (log: RtasLog, id: string): RtasSection | undefined =>
  log.sections.find((section) => section.id === id);

const word = (fact: RtasFact | undefined): string => (typeof fact === "string" ? fact : "unknown");

/** Says what a log means for the guest, by its most telling section. */
export function judge(log: RtasLog): RtasJudgement {
  const readers: readonly (readonly [string, (section: RtasSection, log: RtasLog) => RtasJudgement])[] = [
    ["MC", ofMachineCheck],
    ["EP", ofPower],
    ["DH", ofDump],
    ["HP", ofHotplug],
    ["IE", ofIo],
  ];
  for (const [id, read] of readers) {
    const section = sectionOf(log, id);
    // A section whose body is cut says nothing.
    if (section !== undefined && section.damage === undefined) return read(section, log);
  }
  return ofHeader(log);
}

/**
 * Linux arch/powerpc/platforms/pseries/ras.c: what was recovered is logged alone; what was not kills the process in
 * user mode, and is an oops in the kernel. The log does not tell which, nor whether the kernel repaired it itself:
 * what became of it the console says (mce/power).
 */
function ofMachineCheck({ facts }: RtasSection, log: RtasLog): RtasJudgement {
  const recovered = log.disposition !== "not recovered";
  const kind = typeof facts.kind === "string" ? ` ${facts.kind}` : "";
  const name = `${word(facts.error)}${kind}`;
  const severity = recovered ? "notice" : log.severity === "fatal" ? "panic" : "warning";
  return {
    rule: "rtas/machine-check",
    class: "machine-check",
    severity,
    side: "hardware",
    title: `machine check: ${name}, ${log.disposition}`,
    signature: `rtas machine-check ${name}`,
    isFinding: true,
    ...(recovered ? { survived: true } : {}),
  };
}

const SHUTDOWN = 3;
const RESET = 0;
const WARNINGS: readonly RtasFact[] = [1, 2];
/** Modifiers of a shutdown after which the guest is powered off for good reason: critical functions, heat. */
const FATAL_MODIFIERS: readonly number[] = [3, 4];

/** ras.c: rtas_parse_epow_errlog(), handle_system_shutdown(). */
function ofPower({ facts }: RtasSection): RtasJudgement {
  const { actionCode, modifier } = facts;
  const reason = facts.reason === undefined ? "" : `, ${word(facts.reason)}`;
  const base = {
    rule: "rtas/epow",
    title: `power event (EPOW): ${word(facts.action)}${reason}`,
    signature: `rtas epow ${word(facts.action)}${reason}`,
  };
  if (actionCode === RESET) {
    return { ...base, class: "power", severity: "notice", side: "hardware", isFinding: false };
  }
  if (actionCode === SHUTDOWN && typeof modifier === "number" && (modifier & 15) <= 1) {
    return { ...base, class: "power-off-request", severity: "notice", side: "policy", isFinding: false };
  }
  const mild =
    WARNINGS.includes(actionCode ?? -1) ||
    (actionCode === SHUTDOWN && typeof modifier === "number" && !FATAL_MODIFIERS.includes(modifier & 15));
  return {
    ...base,
    class: "power",
    severity: mild ? "warning" : "panic",
    side: "hardware",
    isFinding: true,
    survived: mild,
  };
}

const ofDump = ({ facts }: RtasSection): RtasJudgement => ({
  rule: "rtas/platform-dump",
  class: "platform-dump",
  severity: "warning",
  side: "hardware",
  title: `the platform made a dump: ${word(facts.kind)}, at the ${word(facts.location)}`,
  signature: `rtas platform-dump ${word(facts.kind)}`,
  isFinding: true,
});

const ofHotplug = ({ facts }: RtasSection): RtasJudgement => ({
  rule: "rtas/hotplug",
  class: "hotplug",
  severity: "notice",
  side: "policy",
  title: `hotplug: ${word(facts.action)} ${word(facts.resource)}`,
  signature: "rtas hotplug",
  isFinding: false,
});

const ofIo = ({ facts }: RtasSection, log: RtasLog): RtasJudgement => ({
  ...ofHeader(log),
  rule: "rtas/io-event",
  class: "io-error",
  title: `I/O event: ${word(facts.type)}, ${word(facts.scope)}`,
  signature: `rtas io-event ${word(facts.type)} ${word(facts.scope)}`,
});

/** Types that tell of no error: hotplug, PRRN, power management, information. */
const QUIET_TYPES: ReadonlySet<number> = new Set([160, 226, 229, 230]);

/** By the fixed header alone. */
function ofHeader(log: RtasLog): RtasJudgement {
  const { severity, disposition, type, typeCode } = log;
  const isError = severity === "synchronous error" || severity === "error" || severity === "fatal";
  const quiet = QUIET_TYPES.has(typeCode) || (typeCode >= 96 && typeCode < 160);
  const recovered = disposition !== "not recovered";
  return {
    rule: "rtas/event",
    class: "platform-error",
    severity: severityOf(severity, recovered),
    side: "hardware",
    title: `RTAS event: ${type}, ${severity}${isError ? `, ${disposition}` : ""}`,
    signature: `rtas event ${type} ${severity}`,
    isFinding: isError || (severity === "warning" && !quiet),
    ...(isError && recovered && severity !== "fatal" ? { survived: true } : {}),
  };
}

function severityOf(severity: RtasLog["severity"], recovered: boolean): Severity {
  if (severity === "fatal") return "panic";
  if (severity === "error" || severity === "synchronous error") return recovered ? "warning" : "oops";
  return severity === "warning" ? "warning" : "notice";
}
