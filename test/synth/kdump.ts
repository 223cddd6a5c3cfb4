import { deflateSync } from "node:zlib";

/** Kdump-compressed dumps and flattened streams, written from makedumpfile's documentation of them; nothing of src/. */

const PAGE = 4096;

/** `raw`: bytes as they are; the others by their flag in page_desc_t. */
export type KdumpCodec = "raw" | "zlib" | "lzo" | "snappy" | "zstd";
const FLAGS = { raw: 0, zlib: 1, lzo: 2, snappy: 4, zstd: 0x20 } as const;

export interface KdumpSpec {
  /** Contents by page frame; null: RAM that was left out. */
  readonly pages: ReadonlyMap<number, Buffer | null>;
  readonly codec?: KdumpCodec;
  /** Header version, default 6. */
  readonly version?: number;
  readonly signature?: string;
  readonly machine?: string;
  /** Default 31. */
  readonly dumpLevel?: number;
  /** Default 2; with one bitmap all RAM is dumped. */
  readonly bitmaps?: 1 | 2;
  /** Page frames that this member of a split set holds. */
  readonly split?: readonly [start: number, end: number];
  readonly incomplete?: boolean;
  readonly notes?: Buffer;
  readonly vmcoreinfo?: Buffer;
  /** Whether all pages of zeros share one descriptor, as makedumpfile's and QEMU's do. Default true. */
  readonly sharedZeros?: boolean;
}

/** The length that `packed` finds repeated: what it is given begins with so many bytes, over and over. */
const PERIOD = 32;

/**
 * A page as one block: repeated bytes as literals and copies of them, for zstd a page of one byte. What does not repeat
 * does not become shorter, and is stored as it is.
 */
export function packed(bytes: Buffer, codec: KdumpCodec): Buffer {
  if (codec === "zlib") return deflateSync(bytes, { level: 1 });
  const repeats = bytes.subarray(PERIOD).equals(bytes.subarray(0, -PERIOD));
  const isUniform = bytes.every((byte) => byte === bytes[0]);
  if (codec === "lzo" && repeats) return lzoRepeat(bytes);
  if (codec === "snappy" && repeats) return snappyRepeat(bytes);
  return codec === "zstd" && isUniform ? zstdUniform(bytes) : bytes;
}

/** A run of 32 literals, one copy of all that follows from 32 bytes before, the end mark. */
function lzoRepeat(bytes: Buffer): Buffer {
  let rest = bytes.length - PERIOD - 33;
  const copy = [32];
  for (; rest > 255; rest -= 255) copy.push(0);
  const distance = (PERIOD - 1) << 2;
  const tail = [...copy, rest, distance & 0xff, distance >> 8, 0x11, 0, 0];
  return Buffer.concat([Buffer.from([17 + PERIOD]), bytes.subarray(0, PERIOD), Buffer.from(tail)]);
}

/** The length, 32 literals, and copies of at most 64 bytes from 32 bytes before. */
function snappyRepeat(bytes: Buffer): Buffer {
  const copies: number[] = [];
  for (let rest = bytes.length - PERIOD; rest > 0; rest -= 64) {
    copies.push(((Math.min(rest, 64) - 1) << 2) | 2, PERIOD, 0);
  }
  const head = [(bytes.length & 0x7f) | 0x80, bytes.length >> 7, (PERIOD - 1) << 2];
  return Buffer.concat([Buffer.from(head), bytes.subarray(0, PERIOD), Buffer.from(copies)]);
}

/** A single-segment frame with a two-byte content size and one block of one byte repeated. */
function zstdUniform(bytes: Buffer): Buffer {
  const frame = Buffer.alloc(11);
  frame.writeUInt32LE(0xfd2fb528, 0);
  frame[4] = 0x60;
  frame.writeUInt16LE(bytes.length - 256, 5);
  frame.writeUIntLE((bytes.length << 3) | 3, 7, 3);
  frame[10] = bytes[0]!;
  return frame;
}

export function buildKdump(spec: KdumpSpec): Buffer {
  const { pages, codec = "raw", version = 6, bitmaps = 2, split, sharedZeros = true } = spec;
  const pfns = [...pages.keys()].sort((a, b) => a - b);
  const maxMapnr = (pfns.at(-1) ?? 0) + 1;
  const half = Math.ceil(Math.ceil(maxMapnr / 8) / PAGE);
  const bits = (has: (pfn: number) => boolean) => {
    const bytes = Buffer.alloc(half * PAGE);
    for (const pfn of pfns) if (has(pfn)) bytes[pfn >> 3]! |= 1 << (pfn & 7);
    return bytes;
  };
  const dumped = pfns.filter((pfn) => pages.get(pfn) !== null);
  const own = dumped.filter((pfn) => split === undefined || (pfn >= split[0] && pfn < split[1]));
  const descriptors = 2 * PAGE + bitmaps * half * PAGE;
  const data: Buffer[] = [];
  let at = descriptors + 24 * dumped.length;
  const place = (bytes: Buffer) => {
    data.push(bytes);
    at += bytes.length;
    return at - bytes.length;
  };
  const isZero = (bytes: Buffer) => bytes.every((byte) => byte === 0);
  // Dumps of many pages have the same one over and over.
  const blocks = new Map<Buffer, Buffer>();
  const blockOf = (bytes: Buffer) => {
    const block = blocks.get(bytes) ?? packed(bytes, codec);
    blocks.set(bytes, block);
    return block;
  };
  const zeros = sharedZeros && own.some((pfn) => isZero(pages.get(pfn)!)) ? Buffer.alloc(PAGE) : undefined;
  const zeroPage = zeros && { at: place(packed(zeros, codec)), size: packed(zeros, codec).length };
  const table = Buffer.alloc(24 * dumped.length);
  for (const [i, pfn] of own.entries()) {
    const bytes = pages.get(pfn)!;
    const block = blockOf(bytes);
    const shared = zeroPage !== undefined && isZero(bytes);
    const stored = block.length < PAGE ? block : bytes;
    table.writeBigUInt64LE(BigInt(shared ? zeroPage.at : place(stored)), 24 * i);
    table.writeUInt32LE(shared ? zeroPage.size : stored.length, 24 * i + 8);
    table.writeUInt32LE(stored === bytes && !shared ? 0 : FLAGS[codec], 24 * i + 12);
  }
  const vmcoreinfoAt = spec.vmcoreinfo === undefined ? 0 : place(spec.vmcoreinfo);
  const notesAt = spec.notes === undefined ? 0 : place(spec.notes);
  const header = Buffer.alloc(PAGE);
  header.write(spec.signature ?? "KDUMP   ", 0, "latin1");
  header.writeInt32LE(version, 8);
  header.write("Linux", 12);
  header.write("6.1.0-synth", 12 + 2 * 65);
  header.write(spec.machine ?? "x86_64", 12 + 4 * 65);
  header.writeUInt32LE(FLAGS[codec] | (spec.incomplete === true ? 8 : 0), 424);
  header.writeUInt32LE(PAGE, 428);
  header.writeUInt32LE(1, 432);
  header.writeUInt32LE(bitmaps * half, 436);
  header.writeUInt32LE(version >= 6 ? 0 : maxMapnr, 440);
  header.writeUInt32LE(2, 460);
  const sub = Buffer.alloc(PAGE);
  const wide = (offset: number, value: number) => sub.writeBigUInt64LE(BigInt(value), offset);
  if (version >= 1) sub.writeInt32LE(spec.dumpLevel ?? 31, 8);
  if (version >= 2 && split !== undefined) {
    sub.writeInt32LE(1, 12);
    wide(16, version >= 6 ? 0 : split[0]);
    wide(24, version >= 6 ? 0 : split[1]);
  }
  if (version >= 3) {
    wide(32, vmcoreinfoAt);
    wide(40, spec.vmcoreinfo?.length ?? 0);
  }
  if (version >= 4) {
    wide(48, notesAt);
    wide(56, spec.notes?.length ?? 0);
  }
  if (version >= 6) {
    wide(80, split?.[0] ?? 0);
    wide(88, split?.[1] ?? 0);
    wide(96, maxMapnr);
  }
  const maps = [bits(() => true), bits((pfn) => pages.get(pfn) !== null)].slice(2 - bitmaps);
  return Buffer.concat([header, sub, ...maps, table, ...data]);
}

/** A record of a flattened stream. */
export interface FlatRecord {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** The stream of these records, in their order. */
export function flattened(records: readonly FlatRecord[], end = true): Buffer {
  const header = Buffer.alloc(4096);
  header.write("makedumpfile", 0, "latin1");
  header.writeBigInt64BE(1n, 16);
  header.writeBigInt64BE(1n, 24);
  const parts: Uint8Array[] = [header];
  for (const { offset, bytes } of records) {
    const head = Buffer.alloc(16);
    head.writeBigInt64BE(BigInt(offset), 0);
    head.writeBigInt64BE(BigInt(bytes.length), 8);
    parts.push(head, bytes);
  }
  if (end) parts.push(Buffer.alloc(16, 0xff));
  return Buffer.concat(parts);
}
