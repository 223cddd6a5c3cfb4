import { hex, hex64, plural, printable } from "../core/text.ts";
import { logName } from "../jobs/log-input.ts";
import type { DecodedDump, VmcsDmesgResult } from "../jobs/vmcs-dmesg.ts";
import type { VmcbDump, VmcsDump } from "../vmx/dmesg.ts";
import {
  checksJson,
  exitLine,
  fieldJson,
  msrLine,
  sectionLines,
  stateJson,
  stateLines,
  verdict,
  violationLines,
} from "./vmcs-fields.ts";

const HYPERVISORS = { kvm: "KVM", xen: "Xen" } as const;

/** Every dump of a log: verdict and violations first, then the fields. */
export function vmcsDmesgText({ input, dumps }: VmcsDmesgResult, all: boolean): string {
  const failing = dumps.filter(({ decoded }) =>
    decoded?.checks.violations.some(({ severity }) => severity === "error"),
  ).length;
  const inconsistent = failing === 0 ? "" : `, ${failing} that VM entry refuses`;
  const lines = [`${printable(logName(input.path))}: ${plural(dumps.length, "dump")}${inconsistent}`];
  for (const dump of dumps) lines.push("", ...dumpLines(dump, all));
  return `${lines.join("\n")}\n`;
}

function dumpLines(entry: DecodedDump, all: boolean): string[] {
  const { dump, decoded } = entry;
  if (decoded === undefined) return [titleOf(dump), ...causeLines(dump), ...vmcbLines(entry.dump)];
  const exit = exitLine(decoded);
  return [
    `${titleOf(dump)}: ${verdict(decoded)}`,
    ...violationLines(decoded.checks),
    ...causeLines(dump),
    ...(exit === undefined ? [] : [`  ${exit}`]),
    ...stateLines(decoded.state),
    ...liveLines(entry.dump),
    ...sectionLines(decoded.fields, all),
    ...msrLines(entry.dump),
  ];
}

function titleOf({ kind, hypervisor, firstLine, lastLine, label, cpu }: VmcsDump | VmcbDump): string {
  const name = label === undefined ? "" : ` ${printable(label)}`;
  const last = cpu === undefined ? "" : `, last entered on CPU ${cpu}`;
  return `${kind.toUpperCase()}${name} of ${HYPERVISORS[hypervisor]} in lines ${firstLine} to ${lastLine}${last}`;
}

const causeLines = ({ cause }: VmcsDump | VmcbDump): string[] =>
  cause === undefined ? [] : [`  cause: ${printable(cause)}`];

/** What Xen kept itself, where it is not what the field says. */
const liveLines = ({ live }: VmcsDump): string[] =>
  [...live].map(([name, value]) => `  ${name.padEnd(6)}  ${hex64(value)}  kept by the hypervisor`);

const msrLines = ({ msrs }: VmcsDump): string[] =>
  msrs.length === 0
    ? []
    : [
        "MSRs switched at VM entry and exit",
        ...msrs.map(({ area, index, value }) => msrLine(index, value, area)),
      ];

const NAME_WIDTH = 24;

function vmcbLines({ control, save, segments }: VmcbDump): string[] {
  const line = (name: string, text: string): string => `  ${name.padEnd(NAME_WIDTH)}  ${text}`;
  return [
    "control area",
    ...[...control].map(([name, words]) => line(name, words.map((word) => hex(word)).join(" "))),
    "save area",
    ...[...save].map(([name, value]) => line(name, hex64(value))),
    ...[...segments].map(([name, { selector, attributes, limit, base }]) =>
      line(name, `${hex(selector, 4)}  ${hex(attributes, 4)}  limit ${hex(limit, 8)}  base ${hex64(base)}`),
    ),
  ];
}

/** `result` of guestcore/vmcs-dmesg/1. */
export const vmcsDmesgJson = ({ dumps }: VmcsDmesgResult) => ({ dumps: dumps.map(dumpJson) });

function dumpJson(entry: DecodedDump) {
  const { dump, decoded } = entry;
  const { kind, hypervisor, firstLine, lastLine, label, cpu, cause } = dump;
  const { missingSections, missingFields, conflicts } = dump;
  const lines = { firstLine, lastLine, label, cpu, cause };
  const facts = { kind, hypervisor, ...lines, missingSections, missingFields, conflicts };
  if (decoded === undefined) return { ...facts, vmcb: vmcbJson(entry.dump) };
  const { msrs, live } = entry.dump;
  return {
    ...facts,
    vmcs: {
      checks: checksJson(decoded.checks),
      state: stateJson(decoded.state),
      live: Object.fromEntries(live),
      msrs,
      fields: decoded.fields.map(fieldJson),
    },
  };
}

const vmcbJson = ({ control, save, segments }: VmcbDump) => ({
  control: Object.fromEntries(control),
  save: Object.fromEntries(save),
  segments: Object.fromEntries(segments),
});
