import { latin1 } from "../../core/bytes.ts";
import { nameOf } from "./names.ts";
import { joined, recordsOf } from "./payload.ts";
import type { StoreContents } from "./record.ts";

/** In front of each member of a dmesg.txt of systemd-pstore (systemd src/pstore/pstore.c): its name, and a colon. */
const MEMBER = /^(dmesg-[A-Za-z][A-Za-z0-9_-]{0,40}-\d{1,20}):\r?\n/;
const MAX_MEMBER = 80;
const MAX_MEMBERS = 4096;
const NEWLINE = 10;

const memberAt = (bytes: Uint8Array, at: number): string | undefined =>
  MEMBER.exec(latin1(bytes.subarray(at, at + MAX_MEMBER)))?.[1];

/** Whether bytes are dumps that systemd-pstore put together. */
export const isArchive = (bytes: Uint8Array): boolean => memberAt(bytes, 0) !== undefined;

/** Takes a dmesg.txt apart: its members are in the order of their names, which is not that of time. */
export function readArchive(bytes: Uint8Array, source: string): StoreContents {
  const members: { readonly name: string; readonly at: number; readonly from: number }[] = [];
  for (let at = 0; at < bytes.length && members.length < MAX_MEMBERS; ) {
    const name = memberAt(bytes, at);
    if (name !== undefined) members.push({ name, at, from: bytes.indexOf(NEWLINE, at) + 1 });
    const end = bytes.indexOf(NEWLINE, at);
    if (end < 0) break;
    at = end + 1;
  }
  return joined(
    members.map(({ name, from }, i) => {
      const named = nameOf(name);
      const part = bytes.subarray(from, members[i + 1]?.at ?? bytes.length);
      const facts = {
        source: `${source}:${name}`,
        backend: named?.backend,
        type: "dmesg" as const,
        id: named?.id,
        offset: from,
        time: named?.time,
      };
      return recordsOf(facts, part);
    }),
  );
}
