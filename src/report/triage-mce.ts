import { plural, printable } from "../core/text.ts";
import type { MceFile, TriageMceResult } from "../jobs/triage-mce.ts";
import type { CountedRecord } from "../triage/mce/detector.ts";
import { GUEST_MACHINE_CHECKS } from "../triage/mce/origin.ts";
import { decodeMcgStatus, decodeMcStatus, type McFlag, type McStatus } from "../triage/mce/status.ts";
import { severityOfClass } from "../triage/mce/x86-verdict.ts";
import { eventJson, findingJson } from "./triage-finding.ts";
import { factLines, factText, findingLines, worstOf } from "./triage-hardware.ts";

/** A value that somebody pasted. */
export interface McValue {
  readonly status: bigint;
  readonly vendor: "intel" | "amd" | undefined;
  readonly mcgStatus: bigint | undefined;
}

interface MceFlags {
  readonly explain: boolean;
  readonly value: McValue | undefined;
}

/** How bad a value is by itself. */
export const severityOfValue = ({ status, vendor }: McValue) =>
  severityOfClass(decodeMcStatus(status, vendor).class);

export function triageMceText({ files }: Pick<TriageMceResult, "files">, flags: MceFlags): string {
  const { explain, value } = flags;
  const lines = [
    ...(value === undefined ? [] : valueLines(value)),
    ...files.flatMap(fileLines),
    ...(explain ? explainLines() : []),
  ];
  return lines.map((line) => `${line}\n`).join("");
}

function valueLines(value: McValue): string[] {
  const status = decodeMcStatus(value.status, value.vendor);
  const mcg = value.mcgStatus;
  return [
    `${severityOfValue(value)}: ${status.code.text} (${status.class})`,
    ...statusLines(status, "  "),
    ...(mcg === undefined ? [] : flagLines("MCG_STATUS", mcg, decodeMcgStatus(mcg), "  ")),
    ...(value.vendor === undefined
      ? ["  bits are read as Intel's; --vendor amd reads 56, 55, 53 and 46 to 40 as AMD's"]
      : []),
  ];
}

const flagLines = (name: string, value: bigint, flags: readonly McFlag[], indent: string): string[] => [
  `${indent}${name.padEnd(20)} ${factText(value)}`,
  ...flags.map(
    ({ bit, name: short, meaning }) => `${indent}  ${String(bit).padStart(2)} ${short.padEnd(9)} ${meaning}`,
  ),
];

function statusLines(status: McStatus, indent: string): string[] {
  const { code, modelCode, correctedCount, class: mcClass, classText } = status;
  const filtered = code.filtered ? " (filtered: not every corrected error of the kind is told of)" : "";
  return [
    ...flagLines("status", status.status, status.flags, indent),
    `${indent}${"class".padEnd(20)} ${mcClass}: ${classText}`,
    `${indent}${"MCA error code".padEnd(20)} ${code.text}${filtered}`,
    `${indent}${"model-specific code".padEnd(20)} 0x${modelCode.toString(16).padStart(4, "0")}`,
    ...(correctedCount === undefined ? [] : [`${indent}${"corrected errors".padEnd(20)} ${correctedCount}`]),
  ];
}

function fileLines({ input, detected }: MceFile): string[] {
  const { findings, records } = detected;
  const total = records.reduce((sum, { count }) => sum + count, 0);
  const count = total === 0 ? "no hardware error" : plural(total, "hardware error");
  return [
    `${printable(input.path)}: ${worstOf(findings) ?? "clean"}, ${count}`,
    ...findings.flatMap(findingLines).map((line) => `  ${line}`),
    ...records.flatMap(recordLines),
  ];
}

/** What else is said of one that has more than its line. */
function recordLines({ record, count }: CountedRecord): string[] {
  const { status, facts, line } = record;
  if (Object.keys(facts).length === 0 && status === undefined) return [];
  const times = count === 1 ? "" : `, the first of ${count}`;
  return [
    "",
    `  line ${line}${times}`,
    ...(status === undefined ? [] : statusLines(status, "    ")),
    ...factLines(facts, "    "),
  ];
}

const explainLines = (): string[] => [
  "",
  "When a guest of QEMU sees a machine check:",
  ...GUEST_MACHINE_CHECKS.flatMap(([what, meaning]) => [`  ${what}:`, `    ${meaning}`]),
];

const flagJson = ({ bit, name, meaning }: McFlag) => ({ bit, name, meaning });

const statusJson = (status: McStatus) => ({
  status: status.status,
  vendor: status.vendor,
  flags: status.flags.map(flagJson),
  class: status.class,
  classText: status.classText,
  code: {
    kind: status.code.kind,
    text: status.code.text,
    parts: status.code.parts,
    filtered: status.code.filtered,
  },
  modelCode: status.modelCode,
  correctedCount: status.correctedCount ?? null,
});

/** `result` of guestcore/triage-mce/1. */
export const triageMceJson = ({ files }: Pick<TriageMceResult, "files">, { explain, value }: MceFlags) => ({
  value:
    value === undefined
      ? null
      : {
          severity: severityOfValue(value),
          ...statusJson(decodeMcStatus(value.status, value.vendor)),
          mcgStatus: value.mcgStatus ?? null,
          mcgFlags: value.mcgStatus === undefined ? [] : decodeMcgStatus(value.mcgStatus).map(flagJson),
        },
  files: files.map(({ input, detected }) => ({
    path: input.path,
    worst: worstOf(detected.findings) ?? null,
    hypervisor: detected.context.hypervisor ?? null,
    records: detected.records.map(({ record, count, lastLine }) => ({
      rule: record.rule,
      line: record.line,
      lastLine,
      count,
      uptime: record.uptime,
      status: record.status === undefined ? null : statusJson(record.status),
      facts: record.facts,
    })),
    findings: detected.findings.map(findingJson),
    events: detected.events.map(eventJson),
  })),
  origins: explain ? GUEST_MACHINE_CHECKS.map(([what, meaning]) => ({ what, meaning })) : undefined,
});
