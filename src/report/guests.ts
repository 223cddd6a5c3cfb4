import { bytesText, plural, printable, shellWord } from "../core/text.ts";
import type { Agreement } from "../guest/agreement.ts";
import type { MemslotFacts } from "../guest/memslot-memory.ts";
import type { SecondLevelFacts } from "../guest/second-level.ts";
import type { GuestSummary, GuestsResult } from "../jobs/guests.ts";
import { type HostDump, noGuestHint } from "../jobs/host.ts";
import { caveatLines, kernelJson, kernelLine, vcpuCount, vcpuJson, vcpuLine } from "./guest.ts";
import {
  guestCount,
  guestJson,
  hostFactsJson,
  hostName,
  rootText,
  virtualizationOf,
  vmText,
} from "./host.ts";

/** The guests of a host for people; `words` say how they were to be looked for. */
export function guestsText({ input, host, guests }: GuestsResult, words: readonly string[] = []): string {
  const file = printable(input.path);
  const vcpus = guests.reduce((sum, { guest }) => sum + guest.vcpus.length, 0);
  const parts = [`vmcore of ${hostName(host)}`, virtualizationOf(host), guestCount(host), vcpuCount(vcpus)];
  const lines = [`${file}: ${parts.join(", ")}`, ...guests.flatMap(guestLines)];
  if (host.kvmUnknown !== undefined && guests.length > 0) {
    lines.push(
      `note: told by ${guests.some(({ guest }) => guest.vm) ? "KVM in part" : "control blocks"} alone; of the host's kernel, ${host.kvmUnknown}`,
    );
  }
  lines.push(`next: ${nextStep(input.path, host, guests, words)}`);
  return `${lines.join("\n")}\n`;
}

function nextStep(
  path: string,
  host: HostDump,
  guests: readonly GuestSummary[],
  words: readonly string[],
): string {
  if (guests.length === 0)
    return `no guest was found; a guest's own vmcore opens as it is; ${noGuestHint(host, shellWord(path))}`;
  const first = guests.find(({ tables, slots }) => (slots?.inMemory ?? tables?.mapped ?? 0) > 0);
  if (first === undefined) {
    return `guestcore vmcs list ${shellWord(path)}; no guest's memory is found through its tables, a core of its VMM has it`;
  }
  const chosen = guests.length === 1 ? "" : ` --guest ${first.guest.id}`;
  return ["guestcore extract", `${shellWord(path)}${chosen}`, ...words, "-o guest.vmcore"].join(" ");
}

function guestLines({ guest, vcpus, tables, slots, agreement, linux }: GuestSummary): string[] {
  const width = `vcpu${guest.vcpus.length}`.length;
  const memory =
    slots !== undefined ? slotsText(slots) : tables === undefined ? "memory unknown" : mappedText(tables);
  const lost = guest.vcpus.length - vcpus.length;
  return [
    `guest ${guest.id}: ${[vmText(guest.vm), vcpuCount(guest.vcpus.length), memory, rootText(guest.root)].filter((part) => part !== "").join(", ")}`,
    `  ${linux === "passed-over" ? "kernel not looked for" : kernelLine(linux, undefined)}`,
    ...vcpus.map((vcpu) => `  ${vcpuLine(vcpu, width)}`),
    ...caveatLines(vcpus).map((line) => `  ${line}`),
    ...(guest.vm?.problems ?? []).map((problem) => `  note: ${printable(problem)}`),
    ...(agreement === undefined ? [] : [`  ${agreementText(agreement)}`]),
    ...(lost === 0 ? [] : [`  ${lost} more whose registers cannot be read`]),
  ];
}

/** `128.3 MiB (94.9 MiB resident, 33.3 MiB untouched)`. */
function slotsText({ inMemory, untouched, swapped, inFile, unknown }: MemslotFacts): string {
  const parts = (
    [
      [inMemory, "resident"],
      [untouched, "untouched"],
      [swapped, "swapped out"],
      [inFile, "in files"],
      [unknown, "unknown"],
    ] as const
  ).filter(([size]) => size > 0);
  const total = parts.reduce((sum, [size]) => sum + size, 0);
  return `${bytesText(total)} (${parts.map(([size, what]) => `${bytesText(size)} ${what}`).join(", ")})`;
}

/** `memslots and second-level tables agree in 94.4 MiB; 0.5 MiB in memslots only, 0 B in tables only`. */
function agreementText({ equal, different, slotsOnly, tablesOnly }: Agreement): string {
  const differs = different === 0 ? "" : `, DIFFER in ${bytesText(different)}`;
  return `memslots and second-level tables agree in ${bytesText(equal)}${differs}; ${bytesText(slotsOnly)} in memslots only, ${bytesText(tablesOnly)} in tables only`;
}

function mappedText({ mapped, tablesMissing }: SecondLevelFacts): string {
  const lacking = tablesMissing > 0 ? ` (${plural(tablesMissing, "table")} missing)` : "";
  return `${bytesText(mapped)} mapped${lacking}`;
}

/** `result` of guestcore/guests/1. */
export const guestsJson = ({ host, guests }: GuestsResult) => ({
  host: hostFactsJson(host),
  guests: guests.map(({ guest, vcpus, tables, slots, agreement, linux }) => ({
    ...guestJson(guest),
    tables: tables ?? null,
    memory: slots ?? null,
    agreement,
    registers: vcpus.map(vcpuJson),
    linux: linux === "passed-over" ? null : kernelJson(linux, undefined).linux,
  })),
});
