import { bytesText, printable, shellWord } from "../core/text.ts";
import type { GuestSummary, GuestsResult } from "../jobs/guests.ts";
import { kernelJson, kernelLine, vcpuCount, vcpuJson, vcpuLine } from "./guest.ts";
import { guestCount, guestJson, hostFactsJson, hostName, rootText, virtualizationOf } from "./host.ts";

/** The guests of a host for people. */
export function guestsText({ input, host, guests }: GuestsResult): string {
  const file = printable(input.path);
  const vcpus = guests.reduce((sum, { guest }) => sum + guest.vcpus.length, 0);
  const parts = [`vmcore of ${hostName(host)}`, virtualizationOf(host), guestCount(host), vcpuCount(vcpus)];
  const lines = [`${file}: ${parts.join(", ")}`, ...guests.flatMap(guestLines)];
  const [first] = guests;
  if (first === undefined) {
    lines.push(
      "next: no guest was found; where the processor's VMCS layout is not known, give it with --vmcsinfo or --layout",
    );
  } else {
    const chosen = guests.length === 1 ? "" : ` --guest ${first.guest.id}`;
    lines.push(`next: guestcore extract ${shellWord(input.path)}${chosen} -o guest.vmcore`);
  }
  return `${lines.join("\n")}\n`;
}

function guestLines({ guest, vcpus, tables, linux }: GuestSummary): string[] {
  const width = `vcpu${guest.vcpus.length}`.length;
  const memory = tables === undefined ? "memory unknown" : `${bytesText(tables.mapped)} mapped`;
  const lost = guest.vcpus.length - vcpus.length;
  return [
    `guest ${guest.id}: ${vcpuCount(guest.vcpus.length)}, ${memory}, ${rootText(guest.root)}`,
    `  ${kernelLine(linux, undefined)}`,
    ...vcpus.map((vcpu) => `  ${vcpuLine(vcpu, width)}`),
    ...(lost === 0 ? [] : [`  ${lost} more whose registers cannot be read`]),
  ];
}

/** `result` of guestcore/guests/1. */
export const guestsJson = ({ host, guests }: GuestsResult) => ({
  host: hostFactsJson(host),
  guests: guests.map(({ guest, vcpus, tables, linux }) => ({
    ...guestJson(guest),
    tables: tables ?? null,
    registers: vcpus.map(vcpuJson),
    linux: kernelJson(linux, undefined).linux,
  })),
});
