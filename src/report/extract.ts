import { bytesText, printable } from "../core/text.ts";
import type { ExtractResult } from "../jobs/extract.ts";
import type { Coverage } from "../vmcore/copy.ts";
import type { RangeCoverage } from "../vmcore/write.ts";
import {
  kernelDetail,
  kernelJson,
  kernelLine,
  rangeLine,
  sourceWidthOf,
  vcpuCount,
  vcpuJson,
  vcpuLine,
} from "./guest.ts";
import { openingCommands, symbolsHint } from "./next.ts";

/** The summary a person reads: what was found, what was written, what to type next. */
export function extractText(result: ExtractResult, seconds: number): string {
  const { guest, ranges, linux, vmcoreinfo } = result;
  const sourceWidth = sourceWidthOf(ranges);
  const vcpuWidth = `vcpu${guest.vcpus.length}`.length;
  const lines = [
    headline(result),
    ...ranges.map((range) => `  ${rangeLine(range, sourceWidth, rangeNote(range))}`),
    ...guest.vcpus.map((vcpu) => `  ${vcpuLine(vcpu, vcpuWidth)}`),
    `  ${kernelLine(linux, vmcoreinfo, result.coverage.missing)}`,
  ];
  const detail = linux === undefined ? "" : kernelDetail(linux);
  if (detail !== "") lines.push(`  ${detail}`);
  lines.push(...closing(result, seconds));
  return `${lines.join("\n")}\n`;
}

function headline({ input, machine, guest, coverage }: ExtractResult): string {
  const { executable, machineType, accelerator } = machine;
  const program = printable(executable?.path.split("/").at(-1) ?? "qemu");
  const buildId = executable?.buildId === undefined ? "" : ` (build-id ${executable.buildId.slice(0, 12)}…)`;
  const parts = [
    `ELF core of ${program}${buildId}`,
    machineType === undefined ? undefined : `machine ${printable(machineType.replace(/-machine$/, ""))}`,
    accelerator?.toUpperCase(),
    vcpuCount(guest.vcpus.length),
    `${bytesText(coverage.present + coverage.zero + coverage.missing)} of guest memory`,
  ];
  return `${printable(input.path)}: ${parts.filter((part) => part !== undefined).join(", ")}`;
}

function rangeNote({ kind, coverage }: RangeCoverage): string {
  const counts = coverageText(coverage);
  return kind === "ram" ? counts : `${kind}, ${counts}`;
}

const coverageText = ({ present, zero, missing }: Coverage): string => {
  const parts: string[] = [];
  if (present > 0) parts.push(`${bytesText(present)} present`);
  if (zero > 0) parts.push(`${bytesText(zero)} zero`);
  if (missing > 0) parts.push(`${bytesText(missing)} MISSING`);
  return parts.join(", ");
};

function closing({ output, coverage, linux }: ExtractResult, seconds: number): string[] {
  const sizes = `${bytesText(output.size)} long, ${bytesText(output.bytes)} to store`;
  const missing =
    coverage.missing === 0 ? "" : `; ${bytesText(coverage.missing)} of the guest's memory are missing`;
  if (output.path === undefined) return [`dry run, nothing written: ${sizes}${missing}`];
  const name = output.path === "-" ? "standard output" : printable(output.path);
  const lines = [`wrote ${name}: ${sizes}, in ${seconds.toFixed(1)} s${missing}`];
  if (output.format === "elf" && output.path !== "-") {
    const [first, ...others] = openingCommands(output.path, linux, output.kernelAddresses);
    lines.push(`next: ${first}`, ...others.map((command) => `      ${command}`));
    const symbols = symbolsHint(linux);
    if (symbols !== undefined) lines.push(`      (${symbols})`);
  }
  return lines;
}

/** `result` of guestcore/extract/1. */
export const extractJson = (result: ExtractResult) => {
  const { core, machine, guest, output, linux } = result;
  return {
    process: {
      executable: machine.executable?.path,
      buildId: machine.executable?.buildId,
      commandLine: machine.commandLine,
      threads: core.threadCount,
      truncated: core.truncated,
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
    next:
      output.path === undefined || output.path === "-"
        ? []
        : openingCommands(output.path, linux, output.kernelAddresses),
  };
};
