import { plural, printable } from "../core/text.ts";
import type { VmResult } from "../jobs/triage.ts";
import { atLeast, type Evidence, type Finding, type Severity } from "../triage/finding.ts";
import type { SourceKind, TimelineEntry, VerdictName } from "../triage/verdict/types.ts";

/** How a report is judged. */
export interface TriageReportOptions {
  /** From which severity on a VM fails. */
  readonly failOn: Severity;
}

/** What is called a VM, in every form of the report. */
export const vmName = ({ vm }: Pick<VmResult, "vm">): string => vm;

/** Whether a VM's verdict, or one of its findings, is at or above the limit. */
export const hasFailed = ({ verdict }: Pick<VmResult, "verdict">, { failOn }: TriageReportOptions): boolean =>
  verdict.severity !== undefined && atLeast(verdict.severity, failOn);

/** How bad a verdict is by itself, whatever else was found (docs/triage.md, "The verdict"). */
const BY_ITSELF: Readonly<Partial<Record<VerdictName, Severity>>> = {
  ...{ "guest-panic": "panic", "host-fault": "panic", "hardware-fault": "panic", "qemu-crash": "panic" },
  ...{ "guest-hang": "hang", "guest-reset": "hang" },
};

/** The finding that alone makes a VM fail: its verdict, and what that rests on, would not. */
export function decidingFinding(
  { verdict }: Pick<VmResult, "verdict">,
  { failOn }: TriageReportOptions,
): Finding | undefined {
  const bad = (severity: Severity | undefined) => severity !== undefined && atLeast(severity, failOn);
  if (bad(BY_ITSELF[verdict.verdict]) || bad(verdict.principal?.severity)) return undefined;
  return verdict.findings.find(({ severity }) => bad(severity));
}

/** `fails because of --fail-on oops: BUG: … (outlived)`; undefined where the verdict says enough. Not made safe yet. */
export function failureText(
  result: Pick<VmResult, "verdict">,
  options: TriageReportOptions,
): string | undefined {
  const finding = decidingFinding(result, options);
  if (finding === undefined) return undefined;
  const outlived = finding.survived === true || result.verdict.verdict === "clean" ? " (outlived)" : "";
  return `fails because of --fail-on ${options.failOn}: ${finding.title}${outlived}`;
}

/** `guest-panic: Kernel panic - not syncing: …`, safe for a terminal. */
export const verdictText = ({ verdict }: Pick<VmResult, "verdict">): string =>
  `${verdict.verdict}: ${printable(verdict.title)}`;

/** `serial.log:123`, safe for a terminal. */
export function placeText({ source, line, offset }: Evidence): string {
  if (line !== undefined) return `${printable(source)}:${line}`;
  return offset === undefined ? printable(source) : `${printable(source)}+${offset}`;
}

/** Milliseconds since 1970 as ISO 8601 in UTC; what no calendar has as a number. */
export function wallText(wall: number): string {
  const date = new Date(wall);
  return Number.isNaN(date.getTime()) ? `${wall} ms` : date.toISOString();
}

/** Seconds since boot as printk writes them. */
export const uptimeText = (uptime: number): string => `[${uptime.toFixed(6).padStart(12)}]`;

/** When an entry of the time line was, by whose clock: `2026-11-20T22:14:07.000Z host`. */
export function momentText({ wall, uptime, clock }: TimelineEntry): string {
  const at = [
    ...(wall === undefined ? [] : [wallText(wall)]),
    ...(uptime === undefined ? [] : [uptimeText(uptime)]),
  ];
  return at.length === 0 ? "?" : `${at.join(" ")} ${clock}`;
}

/** What a source gave, in a few words. */
export function sourceOutcome({ kind, findings, events, problem }: VmResult["sources"][number]): string {
  if (problem !== undefined) return printable(problem);
  if (kind === "cmdline") return "read for what the machine has";
  return `${plural(findings.length, "finding")}, ${plural(events, "event")}`;
}

/** Findings of one kind of source, for reports that list checks. */
export const findingsOf = ({ sources }: VmResult, kind: SourceKind): readonly Finding[] =>
  sources.filter((source) => source.kind === kind).flatMap(({ findings }) => findings);

/** Lines of evidence of the finding a verdict rests on, as the input has them. */
export const trace = ({ verdict }: VmResult): readonly Evidence[] =>
  (verdict.principal?.evidence ?? []).slice(0, MAX_TRACE);

const MAX_TRACE = 200;

/** Guest text of more than one line made safe, its lines and tabs kept. */
export const printableLines = (text: string): string =>
  text
    .split("\n")
    .map((line) => line.split("\t").map(printable).join("\t"))
    .join("\n");
