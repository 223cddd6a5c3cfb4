import type { Coverage } from "../core/coverage.ts";
import { bytesText, printable } from "../core/text.ts";
import { registersBySource } from "../guest/from-notes.ts";
import type { ExtractResult } from "../jobs/extract.ts";
import type { HostOrigin } from "../jobs/extract-host.ts";
import type { ProcessOrigin } from "../jobs/extract-process.ts";
import type { UsedNote } from "../jobs/vcpu-notes.ts";
import type { RangeCoverage } from "../vmcore/write.ts";
import {
  caveatLines,
  kernelDetail,
  kernelJson,
  kernelLine,
  rangeLine,
  sourceWidthOf,
  vcpuCount,
  vcpuJson,
  vcpuLine,
} from "./guest.ts";
import { guestJson, hostFactsJson, hostName, mappedLines } from "./host.ts";
import { nextCommands, nextLines, type VmcoreTraits } from "./next.ts";

/** The summary a person reads: what was found, what was written, what to type next. */
export function extractText(result: ExtractResult, seconds: number): string {
  const { guest, linux, vmcoreinfo } = result;
  const vcpuWidth = `vcpu${guest.vcpus.length}`.length;
  const lines = [
    headline(result),
    ...memoryLines(result).map((line) => `  ${line}`),
    ...guest.vcpus.map((vcpu) => `  ${vcpuLine(vcpu, vcpuWidth)}`),
    ...(result.origin.kind === "host" ? caveatLines(guest.vcpus) : noteLines(result)).map(
      (line) => `  ${line}`,
    ),
    `  ${kernelLine(linux, vmcoreinfo, gapsOf(result.coverage))}`,
  ];
  const detail = linux === undefined ? "" : kernelDetail(linux);
  if (detail !== "") lines.push(`  ${detail}`);
  lines.push(...closing(result, seconds));
  return `${lines.join("\n")}\n`;
}

function memoryLines({ origin, ranges }: ExtractResult): string[] {
  if (origin.kind === "host") return mappedLines(ranges, coverageText);
  const width = sourceWidthOf(ranges);
  return ranges.map((range) => rangeLine(range, width, rangeNote(range)));
}

/** Which registers the notes of a process core gave, and to which vCPUs. */
function noteLines({ origin, guest }: ExtractResult): string[] {
  if (origin.kind === "host") return [];
  const { vcpuNotes } = origin;
  const kind = vcpuNotes[0]?.owner;
  const of = (use: UsedNote["use"]) => vcpuNotes.filter((note) => note.use === use).map(({ vcpu }) => vcpu);
  const named = (list: readonly number[]) => `vCPU ${list.join(", ")}`;
  const lines = (
    [
      ["over-stale", "QEMU's stale copy"],
      ["alone", "unavailable"],
    ] as const
  ).flatMap(([use, others]) => {
    const list = of(use);
    const first = guest.vcpus.find(({ index }) => index === list[0]);
    if (first === undefined) return [];
    const { noted, stale } = registersBySource(first);
    const rest = use === "over-stale" && stale === "" ? "" : `; ${others}: ${stale || "the others"}`;
    return [`${kind} notes of ${named(list)}: ${noted}${rest}`];
  });
  const unneeded = of("not-needed");
  if (unneeded.length > 0) {
    lines.push(`${kind} notes of ${named(unneeded)}: not needed, QEMU's own registers are current`);
  }
  const refused = of("refused");
  if (refused.length > 0) lines.push(`${kind} notes of ${named(refused)}: not used`);
  return lines;
}

const gapsOf = ({ missing, excluded }: Coverage): number => missing + excluded;

function headline({ input, origin, guest, coverage }: ExtractResult): string {
  const size = coverage.present + coverage.zero + coverage.excluded + coverage.missing;
  const parts = [
    ...(origin.kind === "process" ? processParts(origin) : hostParts(origin)),
    vcpuCount(guest.vcpus.length),
    `${bytesText(size)} of guest memory`,
  ];
  return `${printable(input.path)}: ${parts.join(", ")}`;
}

function processParts({ machine }: ProcessOrigin): string[] {
  const { executable, machineType, accelerator } = machine;
  const program = printable(executable?.path.split("/").at(-1) ?? "qemu");
  const buildId = executable?.buildId === undefined ? "" : ` (build-id ${executable.buildId.slice(0, 12)}…)`;
  const parts = [
    `ELF core of ${program}${buildId}`,
    machineType === undefined ? undefined : `machine ${printable(machineType.replace(/-machine$/, ""))}`,
    accelerator?.toUpperCase(),
  ];
  return parts.filter((part) => part !== undefined);
}

const hostParts = ({ host, chosen }: HostOrigin): string[] => [
  `guest ${chosen.id} of ${host.guests.length} in the vmcore of ${hostName(host)}`,
  chosen.root?.shape.name ?? "",
];

function rangeNote({ kind, coverage }: RangeCoverage): string {
  const counts = coverageText(coverage);
  return kind === "ram" ? counts : `${kind}, ${counts}`;
}

/** `52.1 MiB present, 43.9 MiB zero`. */
export const coverageText = ({ present, zero, excluded, missing }: Coverage): string => {
  const parts: string[] = [];
  if (present > 0) parts.push(`${bytesText(present)} present`);
  if (zero > 0) parts.push(`${bytesText(zero)} zero`);
  if (excluded > 0) parts.push(`${bytesText(excluded)} EXCLUDED`);
  if (missing > 0) parts.push(`${bytesText(missing)} MISSING`);
  return parts.join(", ");
};

function closing(result: ExtractResult, seconds: number): string[] {
  const { output, coverage, linux } = result;
  const sizes = `${bytesText(output.size)} long, ${bytesText(output.bytes)} to store`;
  const gaps = gapsOf(coverage);
  const missing = gaps === 0 ? "" : `; ${bytesText(gaps)} of the guest's memory are missing`;
  if (output.path === undefined) return [`dry run, nothing written: ${sizes}${missing}`];
  const name = output.path === "-" ? "standard output" : printable(output.path);
  const lines = [`wrote ${name}: ${sizes}, in ${seconds.toFixed(1)} s${missing}`];
  lines.push(...nextLines(output, linux, traitsOf(result)));
  return lines;
}

const traitsOf = ({ vmcoreinfo, headers, output }: ExtractResult): VmcoreTraits => ({
  note: vmcoreinfo.best !== undefined,
  kernelAddresses: output.kernelAddresses,
  headers,
});

/** `result` of guestcore/extract/1. */
export const extractJson = (result: ExtractResult) => {
  const { origin, guest, output, linux } = result;
  return {
    ...(origin.kind === "process" ? processJson(origin) : hostJson(origin)),
    ranges: result.ranges.map(({ start, end, kind, source, sourceOffset, coverage }) => ({
      start,
      end,
      kind,
      source,
      sourceOffset,
      ...coverage,
    })),
    coverage: result.coverage,
    missing: result.missing,
    vcpus: guest.vcpus.map(vcpuJson),
    ...kernelJson(linux, result.vmcoreinfo),
    output,
    next: nextCommands(output, linux, traitsOf(result)),
  };
};

const processJson = ({ core, machine, vcpuNotes }: ProcessOrigin) => ({
  process: {
    executable: machine.executable?.path,
    buildId: machine.executable?.buildId,
    commandLine: machine.commandLine,
    threads: core.threadCount,
    truncated: core.truncated,
    vcpuNotes: vcpuNotes.map(({ owner, vcpu, address, complete, use }) => ({
      owner,
      vcpu,
      address,
      complete,
      use,
    })),
  },
  machine: {
    type: machine.machineType,
    accelerator: machine.accelerator,
    blocks: machine.blocks.map(({ idstr, offset, usedLength, maxLength, shared, pageSize }) => ({
      idstr,
      offset,
      usedLength,
      maxLength,
      shared,
      pageSize,
    })),
  },
});

const hostJson = ({ host, chosen, tables }: HostOrigin) => ({
  host: hostFactsJson(host),
  guest: { ...guestJson(chosen), tables },
});
