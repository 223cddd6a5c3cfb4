import { plural, printable } from "../core/text.ts";
import type { ConsoleResult } from "../jobs/triage-console.ts";
import { MAX_BOOTS } from "../triage/console/boot-log.ts";
import type { BootFacts } from "../triage/console/boots.ts";
import { atLeast, type Evidence, type Finding, SEVERITIES, type Severity } from "../triage/finding.ts";
import { eventJson, findingJson } from "./triage-finding.ts";

/** Which boots of each log are judged: the one with this number, the last, or all. */
export type BootChoice = number | "last" | "all";

/** What of the results is shown and judged. */
export interface ConsoleChoice {
  readonly failOn: Severity;
  readonly boot: BootChoice;
}

/** Frames shown of a trace. */
const SHOWN_FRAMES = 6;
const SHOWN_EVIDENCE = 4;

interface Judged {
  readonly result: ConsoleResult;
  readonly boots: readonly BootFacts[];
  readonly findings: readonly Finding[];
}

const bootOf = ({ details }: Finding): unknown => details?.boot;

function judged(result: ConsoleResult, { boot }: ConsoleChoice): Judged {
  const { boots, findings } = result.report;
  const wanted = boot === "last" ? boots.at(-1)?.number : boot;
  const isWanted = (number: unknown): boolean => wanted === "all" || number === wanted;
  return {
    result,
    boots: boots.filter(({ number }) => isWanted(number)),
    findings: findings.filter((finding) => isWanted(bootOf(finding))),
  };
}

const severityOf = (findings: readonly Finding[]): Severity | undefined =>
  SEVERITIES.find((severity) => findings.some((finding) => finding.severity === severity));

/** One word for what was found; `unknown` when there was nothing to look at. */
const verdictOf = ({ result, findings }: Judged): Severity | "clean" | "unknown" =>
  severityOf(findings) ?? (result.report.lines === 0 ? "unknown" : "clean");

/** Whether anything is as bad as asked for. */
export const hasFailed = (results: readonly ConsoleResult[], choice: ConsoleChoice): boolean =>
  results.some((result) =>
    judged(result, choice).findings.some(({ severity }) => atLeast(severity, choice.failOn)),
  );

/** Each finding in a few lines, the telling one first, and what all come to as the last line of each log. */
export const consoleText = (results: readonly ConsoleResult[], choice: ConsoleChoice): string =>
  results.map((result) => logText(judged(result, choice))).join("\n");

function logText(log: Judged): string {
  const incidents = log.findings.map((finding) => incidentText(finding, log));
  return [...incidents, verdictText(log)].join("\n");
}

function incidentText(finding: Finding, { result, boots }: Judged): string {
  const { severity, title, evidence, trust, details = {} } = finding;
  const [first] = evidence;
  const doubt = trust === "certain" ? "" : ` (${trust})`;
  const boot = boots.find(({ number }) => number === details.boot);
  const facts = [placeOf(finding, bootCount(result.report.boots), boot), taskOf(details)].filter(
    (text) => text !== "",
  );
  const lines = [
    `${severity}${doubt}: ${title}`,
    ...facts,
    ...(typeof details.panic === "string"
      ? [`ended in a panic: ${details.panic || "without a reason"}`]
      : []),
    survivalOf(finding),
    `class ${finding.class}, signature ${finding.signature}, side ${finding.side}`,
    ...traceOf(details),
    ...evidence.slice(0, SHOWN_EVIDENCE).map(evidenceText),
  ];
  const [head, ...rest] = lines.filter((line) => line !== "");
  const where = `${result.report.source}:${first?.line ?? "?"}`;
  return [`${printable(where)}: ${printable(head!)}`, ...rest.map((line) => `  ${printable(line)}`), ""].join(
    "\n",
  );
}

/** Of many boots the first and the last are kept: the numbers tell of the others. */
const bootCount = (boots: readonly BootFacts[]): number =>
  boots.length < MAX_BOOTS ? boots.length : boots.at(-1)!.number;

function placeOf({ at = {}, details = {} }: Finding, boots: number, boot: BootFacts | undefined): string {
  const { firstLine, lastLine, count, kernel } = details;
  return [
    `lines ${firstLine} to ${lastLine}`,
    ...(at.uptime === undefined ? [] : [`${at.uptime.toFixed(6)} s after boot`]),
    ...(typeof count === "number" && count > 1 ? [`told ${count} times`] : []),
    ...(boots > 1
      ? [`boot ${details.boot} of ${boots}${boot?.kdump === true ? ", a kdump kernel" : ""}`]
      : []),
    ...[kernel ?? boot?.release].filter((text) => typeof text === "string").map((text) => `kernel ${text}`),
  ].join(", ");
}

const taskOf = ({ cpu, pid, comm, taint }: Readonly<Record<string, unknown>>): string =>
  [
    ...(typeof cpu === "number" ? [`CPU ${cpu}`] : []),
    ...(typeof comm === "string" ? [`${comm}[${pid}]`] : []),
    ...(typeof taint === "string"
      ? [
          taint.replace(/\s+/g, " ").toLowerCase().startsWith("not")
            ? "not tainted"
            : taint.replace(/\s+/g, " "),
        ]
      : []),
  ].join(", ");

function survivalOf({ survived, severity }: Finding): string {
  if (severity === "panic") return "";
  if (survived === undefined) return "whether the kernel survived it is not in the log";
  return survived ? "the kernel went on after it" : "the kernel did not survive it";
}

function traceOf({ frames }: Readonly<Record<string, unknown>>): string[] {
  if (!Array.isArray(frames) || frames.length === 0) return [];
  const shown = frames.slice(0, SHOWN_FRAMES).join(" < ");
  return [`trace: ${shown}${frames.length > SHOWN_FRAMES ? " …" : ""}`];
}

const evidenceText = ({ line, text }: Evidence): string => `${String(line).padStart(7)} | ${text.trimEnd()}`;

function verdictText(log: Judged): string {
  const { result, boots, findings } = log;
  const { source, lines, quoted, findings: all, events } = result.report;
  const worst = findings.find(({ severity }) => severity === severityOf(findings));
  const last = events.at(-1);
  const notes = [
    ...(quoted > 0 ? [`${plural(quoted, "incident")} of an old log that was printed into it left out`] : []),
    ...(all.length > findings.length
      ? [`${plural(all.length - findings.length, "finding")} in other boots`]
      : []),
    ...(result.followed === "timeout" ? ["the time to wait is over"] : []),
  ];
  const verdict = verdictOf(log);
  const what =
    worst !== undefined
      ? `${plural(findings.length, "finding")}, the worst: ${worst.title}`
      : verdict === "unknown"
        ? "the log is empty"
        : `nothing found in ${plural(lines, "line")}, ${plural(bootCount(boots), "boot")}${last === undefined ? "" : `; it ends with "${last.text.trim().slice(0, 80)}"`}`;
  return `${printable([`${source}: verdict ${verdict}: ${what}`, ...notes].join("; "))}\n`;
}

/** `result` of guestcore/triage-console/1. */
export function consoleJson(results: readonly ConsoleResult[], choice: ConsoleChoice) {
  const logs = results.map((result) => judged(result, choice));
  const all = logs.flatMap(({ findings }) => findings);
  const isEmpty = results.every(({ report }) => report.lines === 0);
  return {
    verdict: severityOf(all) ?? (isEmpty ? "unknown" : "clean"),
    failOn: choice.failOn,
    failed: hasFailed(results, choice),
    logs: logs.map((log) => {
      const { source, bytes, lines, cutLines, quoted, leftOut, events } = log.result.report;
      return {
        source,
        verdict: verdictOf(log),
        bytes,
        lines,
        cutLines,
        /** Why it is not followed any more; null when it was not. */
        followed: log.result.followed ?? null,
        quoted,
        leftOut,
        boots: log.boots.map(bootJson),
        findings: log.findings.map(findingJson),
        events: events.map(eventJson),
      };
    }),
  };
}

const bootJson = (boot: BootFacts) => ({
  number: boot.number,
  firstLine: boot.firstLine,
  lastLine: boot.lastLine,
  release: boot.release ?? null,
  commandLine: boot.commandLine ?? null,
  kdump: boot.kdump,
  uptime: boot.uptime ?? null,
  end: boot.end ?? null,
  dumpSaved: boot.dumpSaved,
});
