import { bytesText, plural, printable, shellWord } from "../core/text.ts";
import type { SecondLevelFacts } from "../guest/second-level.ts";
import type { GuestSummary, GuestsResult } from "../jobs/guests.ts";
import { type HostDump, noGuestHint } from "../jobs/host.ts";
import { caveatLines, kernelJson, kernelLine, vcpuCount, vcpuJson, vcpuLine } from "./guest.ts";
import { guestCount, guestJson, hostFactsJson, hostName, rootText, virtualizationOf } from "./host.ts";

/** The guests of a host for people. */
export function guestsText({ input, host, guests }: GuestsResult): string {
  const file = printable(input.path);
  const vcpus = guests.reduce((sum, { guest }) => sum + guest.vcpus.length, 0);
  const parts = [`vmcore of ${hostName(host)}`, virtualizationOf(host), guestCount(host), vcpuCount(vcpus)];
  const lines = [`${file}: ${parts.join(", ")}`, ...guests.flatMap(guestLines)];
  lines.push(`next: ${nextStep(input.path, host, guests)}`);
  return `${lines.join("\n")}\n`;
}

function nextStep(path: string, host: HostDump, guests: readonly GuestSummary[]): string {
  if (guests.length === 0) return `no guest was found; ${noGuestHint(host, shellWord(path))}`;
  const first = guests.find(({ tables }) => tables !== undefined && tables.mapped > 0);
  if (first === undefined) {
    return `guestcore vmcs list ${shellWord(path)}; no guest's memory is found through its tables, a core of its VMM has it`;
  }
  const chosen = guests.length === 1 ? "" : ` --guest ${first.guest.id}`;
  return `guestcore extract ${shellWord(path)}${chosen} -o guest.vmcore`;
}

function guestLines({ guest, vcpus, tables, linux }: GuestSummary): string[] {
  const width = `vcpu${guest.vcpus.length}`.length;
  const memory = tables === undefined ? "memory unknown" : mappedText(tables);
  const lost = guest.vcpus.length - vcpus.length;
  return [
    `guest ${guest.id}: ${vcpuCount(guest.vcpus.length)}, ${memory}, ${rootText(guest.root)}`,
    `  ${linux === "passed-over" ? "kernel not looked for" : kernelLine(linux, undefined)}`,
    ...vcpus.map((vcpu) => `  ${vcpuLine(vcpu, width)}`),
    ...caveatLines(vcpus).map((line) => `  ${line}`),
    ...(lost === 0 ? [] : [`  ${lost} more whose registers cannot be read`]),
  ];
}

function mappedText({ mapped, tablesMissing }: SecondLevelFacts): string {
  const lacking = tablesMissing > 0 ? ` (${plural(tablesMissing, "table")} missing)` : "";
  return `${bytesText(mapped)} mapped${lacking}`;
}

/** `result` of guestcore/guests/1. */
export const guestsJson = ({ host, guests }: GuestsResult) => ({
  host: hostFactsJson(host),
  guests: guests.map(({ guest, vcpus, tables, linux }) => ({
    ...guestJson(guest),
    tables: tables ?? null,
    registers: vcpus.map(vcpuJson),
    linux: linux === "passed-over" ? null : kernelJson(linux, undefined).linux,
  })),
});
