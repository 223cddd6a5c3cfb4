import { viewOf } from "../../core/bytes.ts";
import { plausible } from "./names.ts";
import { type RecordFacts, recordsOf } from "./payload.ts";
import type { RecordType, StoreContents } from "./record.ts";

/**
 * Buffers of virtio-pstore as they go through a queue (include/uapi/linux/virtio_pstore.h of its patches, 2016; QEMU
 * hw/virtio/virtio-pstore.c of the same): version 1 has one header for all, later ones a request, a response and a file's
 * facts.
 */
export const WIRE_VERSIONS = ["v1", "v2"] as const;
export type WireVersion = (typeof WIRE_VERSIONS)[number];

const COMMANDS = ["null", "open", "read", "write", "erase", "close"] as const;
const [READ, WRITE] = [2, 3];
const TYPES: readonly RecordType[] = ["unknown", "dmesg", "console"];
const PACKED = 1;
const V1_HEADER = 32;
const REQUEST = 24;
const RESPONSE = 8;
const FILE_INFO = 40;

/** What a buffer says before its data. */
export interface WireMessage {
  readonly version: WireVersion;
  /** `response`: what the host filled, file's facts and all. */
  readonly direction: "request" | "response";
  readonly command: (typeof COMMANDS)[number];
  readonly type: RecordType;
  readonly id: bigint;
  readonly packed: boolean;
  /** Unix time in milliseconds. */
  readonly time: number | undefined;
  /** Where the data is, in bytes. */
  readonly data: readonly [start: number, end: number];
}

/** @returns undefined for a buffer that is none of this version's with data in it */
export function wireMessage(bytes: Uint8Array, version: WireVersion): WireMessage | undefined {
  return version === "v1" ? messageV1(bytes) : (readResponse(bytes) ?? writeRequest(bytes));
}

/** struct virtio_pstore_hdr: id, flags, cmd, type, time_sec, time_nsec, unused. */
function messageV1(bytes: Uint8Array): WireMessage | undefined {
  if (bytes.length <= V1_HEADER) return undefined;
  const view = viewOf(bytes);
  const [command, type] = [view.getUint16(12, true), view.getUint16(14, true)];
  const flags = view.getUint32(8, true);
  if ((command !== READ && command !== WRITE) || type >= TYPES.length || flags > PACKED) return undefined;
  return {
    version: "v1",
    direction: command === READ ? "response" : "request",
    command: COMMANDS[command]!,
    type: TYPES[type]!,
    id: view.getBigUint64(0, true),
    packed: (flags & PACKED) !== 0,
    time: timeOf(view, 16, 24),
    data: [V1_HEADER, bytes.length],
  };
}

/** struct virtio_pstore_req: cmd, type, flags, id, count, reserved; the data behind it. */
function writeRequest(bytes: Uint8Array): WireMessage | undefined {
  if (bytes.length <= REQUEST) return undefined;
  const view = viewOf(bytes);
  const type = view.getUint16(2, true);
  const flags = view.getUint32(4, true);
  if (view.getUint16(0, true) !== WRITE || type >= TYPES.length || flags > PACKED) return undefined;
  return {
    version: "v2",
    direction: "request",
    command: "write",
    type: TYPES[type]!,
    id: view.getBigUint64(8, true),
    packed: (flags & PACKED) !== 0,
    time: undefined,
    data: [REQUEST, bytes.length],
  };
}

/** struct virtio_pstore_res (cmd, type, ret) and virtio_pstore_fileinfo, whose length counts the data. */
function readResponse(bytes: Uint8Array): WireMessage | undefined {
  const head = RESPONSE + FILE_INFO;
  if (bytes.length <= head) return undefined;
  const view = viewOf(bytes);
  const type = view.getUint16(RESPONSE + 12, true);
  const flags = view.getUint32(RESPONSE + 16, true);
  const length = view.getUint32(RESPONSE + 20, true);
  if (view.getUint16(0, true) !== READ || type >= TYPES.length || flags > PACKED) return undefined;
  return {
    version: "v2",
    direction: "response",
    command: "read",
    type: TYPES[type]!,
    id: view.getBigUint64(RESPONSE, true),
    packed: (flags & PACKED) !== 0,
    time: timeOf(view, RESPONSE + 24, RESPONSE + 32),
    data: [head, Math.min(bytes.length, head + length)],
  };
}

function timeOf(view: DataView, seconds: number, nanoseconds: number): number | undefined {
  const time = plausible(view.getBigUint64(seconds, true));
  return time === undefined
    ? undefined
    : time + Math.floor((view.getUint32(nanoseconds, true) % 1e9) / 1_000_000);
}

/**
 * Reads the record that a buffer carries.
 * @param version undefined where nobody said: then only what carries a dump is taken for a buffer
 */
export function readWire(
  bytes: Uint8Array,
  source: string,
  version?: WireVersion,
): StoreContents | undefined {
  for (const known of version === undefined ? WIRE_VERSIONS : [version]) {
    const message = wireMessage(bytes, known);
    if (message === undefined) continue;
    const { type, id, packed, time } = message;
    const [start, end] = message.data;
    const facts: RecordFacts = { source, backend: "virtio", type, id, offset: start, time };
    const contents = recordsOf(facts, bytes.subarray(start, end), { packed });
    if (version !== undefined || contents.records.some(({ header }) => header !== undefined)) return contents;
  }
  return undefined;
}
