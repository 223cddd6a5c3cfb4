import { plural, printable } from "../core/text.ts";
import type { RtasFile, TriageRtasResult } from "../jobs/triage-rtas.ts";
import type { FoundLog } from "../triage/rtas/detector.ts";
import { MACHINE_CHECK_OUTCOMES } from "../triage/rtas/outcome.ts";
import { eventJson, findingJson } from "./triage-finding.ts";
import { factLines, findingLines, worstOf } from "./triage-hardware.ts";

interface RtasFlags {
  /** Whether the table of outcomes is wanted. */
  readonly explain: boolean;
}

/** Findings first, then every log with its sections. */
export function triageRtasText({ files }: TriageRtasResult, { explain }: RtasFlags): string {
  const lines = files.flatMap(fileLines);
  return [...lines, ...(explain ? explainLines() : [])].map((line) => `${line}\n`).join("");
}

function fileLines({ input, detected }: RtasFile): string[] {
  const { findings, logs } = detected;
  const count =
    logs.length === 0 && findings.length === 0 ? "no RTAS event" : plural(logs.length, "RTAS error log");
  return [
    `${printable(input.path)}: ${worstOf(findings) ?? "clean"}, ${count}`,
    ...findings.flatMap(findingLines).map((line) => `  ${line}`),
    ...logs.flatMap((log) => ["", ...logLines(log)]),
  ];
}

function logLines({ log, line, event, uptime }: FoundLog): string[] {
  const place = line === undefined ? `at offset ${log.offset}` : `line ${line}`;
  const number = event === undefined ? "" : `, event ${event}`;
  const time = uptime === undefined ? "" : `, ${uptime.toFixed(6)} s after boot`;
  return [
    `  ${place}${number}${time}: version ${log.version}, ${log.length} bytes`,
    `    ${log.severity}, ${log.disposition}, initiator ${log.initiator}, target ${log.target}, type ${log.type}`,
    ...(log.flags === undefined ? [] : [`    extended log: ${log.flags.join(", ")}`]),
    ...log.sections.flatMap(({ id, name, length, facts, damage }) => [
      `    ${printable(id)}  ${name}, ${length} bytes`,
      ...factLines(facts, "        "),
      ...(damage === undefined ? [] : [`        damaged: ${printable(damage)}`]),
    ]),
    ...log.damage.map((damage) => `    damaged: ${printable(damage)}`),
  ];
}

const explainLines = (): string[] => [
  "",
  "What becomes of a machine check in a pseries guest, by host, QEMU and guest:",
  ...MACHINE_CHECK_OUTCOMES.flatMap(({ host, qemu, guest, outcome }) => [
    `  host ${host}; QEMU ${qemu}; guest ${guest}:`,
    `    ${outcome}`,
  ]),
];

/** `result` of guestcore/triage-rtas/1. */
export const triageRtasJson = ({ files }: TriageRtasResult, { explain }: RtasFlags) => ({
  files: files.map(({ input, detected }) => ({
    path: input.path,
    worst: worstOf(detected.findings) ?? null,
    logs: detected.logs.map(({ log, line, event, uptime }) => ({
      offset: line === undefined ? log.offset : undefined,
      line,
      event,
      uptime,
      version: log.version,
      length: log.length,
      size: log.size,
      severity: log.severity,
      disposition: log.disposition,
      initiator: log.initiator,
      target: log.target,
      type: log.type,
      typeCode: log.typeCode,
      flags: log.flags ?? null,
      sections: log.sections.map(({ id, name, offset, length, version, subtype, facts, damage }) => ({
        id,
        name,
        offset,
        length,
        version,
        subtype,
        facts,
        damage,
      })),
      damage: log.damage,
    })),
    findings: detected.findings.map(findingJson),
    events: detected.events.map(eventJson),
  })),
  outcomes: explain ? MACHINE_CHECK_OUTCOMES : undefined,
});
