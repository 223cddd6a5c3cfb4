import type { Coverage } from "../core/coverage.ts";
import { bytesText, printable } from "../core/text.ts";
import { EM_X86_64, machineName } from "../elf/constants.ts";
import type { ConvertDumpResult } from "../jobs/convert.ts";
import { coverageText } from "./extract.ts";
import { kernelDetail, kernelJson, kernelLine } from "./guest.ts";
import { nextCommands, nextLines, type VmcoreTraits } from "./next.ts";

const VMCOREINFO: Readonly<Record<ConvertDumpResult["vmcoreinfo"], string>> = {
  carried: "VMCOREINFO carried over",
  found: "VMCOREINFO found in memory and added",
  none: "no VMCOREINFO",
};

/** What a dump was and became, for people. */
export function convertText(result: ConvertDumpResult, seconds: number): string {
  const { input, machine, parts, coverage, linux, vmcoreinfo, output } = result;
  const lines = [
    `${printable(input.path)}: ${bytesText(sizeOf(coverage))} of memory: ${coverageText(coverage)}`,
  ];
  if (parts.length > 0) lines.push(`  with ${parts.map(printable).join(", ")}`);
  if (linux !== undefined) {
    lines.push(`  ${kernelLine(linux, undefined)}, ${VMCOREINFO[vmcoreinfo]}`);
    const detail = kernelDetail(linux);
    if (detail !== "") lines.push(`  ${detail}`);
  } else {
    const kind = machine === EM_X86_64 ? "" : `${machineName(machine)}, `;
    lines.push(`  ${kind}${VMCOREINFO[vmcoreinfo]}`);
  }
  const name = output.path === "-" ? "standard output" : printable(output.path);
  lines.push(`wrote ${name}: ${bytesText(output.size)} long, in ${seconds.toFixed(1)} s`);
  lines.push(...nextLines(output, linux, traitsOf(result)));
  return `${lines.join("\n")}\n`;
}

const traitsOf = ({ vmcoreinfo, output }: ConvertDumpResult): VmcoreTraits => ({
  note: vmcoreinfo !== "none",
  kernelAddresses: output.kernelAddresses,
  headers: output.headers,
});

const sizeOf = ({ present, zero, excluded, missing }: Coverage): number =>
  present + zero + excluded + missing;

/** `result` of guestcore/convert/1. */
export const convertJson = (result: ConvertDumpResult) => {
  const { machine, parts, coverage, linux, vmcoreinfo, output } = result;
  return {
    machine: machineName(machine),
    parts,
    coverage,
    vmcoreinfo,
    linux: kernelJson(linux, undefined).linux,
    output,
    next: nextCommands(output, linux, traitsOf(result)),
  };
};
