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
  /** `uname -s`, default Linux; QEMU leaves it empty. */
  readonly system?: string;
  readonly layout?: KdumpLayout;
  /** Bytes a page, default 4096. */
  readonly blockSize?: number;
  /** Seconds since 1970. */
  readonly timestamp?: number;
  readonly physBase?: number;
  /** What the first header says of page frames; default their number. */
  readonly maxMapnr?: number;
  /** Default 31. */
  readonly dumpLevel?: number;
  /** Default 2; with one bitmap all RAM is dumped. */
  readonly bitmaps?: 1 | 2;
  /** Blocks that each bitmap has beyond what it needs. */
  readonly spareBlocks?: number;
  /** Page frames that this member of a split set holds. */
  readonly split?: readonly [start: number, end: number];
  readonly incomplete?: boolean;
  readonly notes?: Buffer;
  readonly vmcoreinfo?: Buffer;
  readonly eraseinfo?: Buffer;
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

/** How a machine's compiler lays out the headers. */
export interface KdumpLayout {
  /** Of its `long`; default 64. */
  readonly bits?: 32 | 64;
  readonly bigEndian?: boolean;
  /** Whether a 32-bit machine aligns 64-bit members to 8 bytes, as ARM does and i386 does not. */
  readonly padded?: boolean;
}

/** Writes members of a C structure one behind another, each aligned as the machine's compiler would. */
class Struct {
  readonly bytes: Buffer;
  readonly #layout: KdumpLayout;
  #at = 0;

  constructor(size: number, layout: KdumpLayout, at = 0) {
    this.bytes = Buffer.alloc(size);
    this.#layout = layout;
    this.#at = at;
  }

  text(value: string, length: number): this {
    this.bytes.write(value, this.#at, "latin1");
    this.#at += length;
    return this;
  }

  int(...values: readonly number[]): this {
    for (const value of values) {
      this.#align(4);
      if (this.#layout.bigEndian === true) this.bytes.writeUInt32BE(value, this.#at);
      else this.bytes.writeUInt32LE(value, this.#at);
      this.#at += 4;
    }
    return this;
  }

  long(...values: readonly number[]): this {
    for (const value of values) {
      if (this.#layout.bits === 32) this.int(value);
      else this.wide(value);
    }
    return this;
  }

  wide(...values: readonly number[]): this {
    for (const value of values) {
      this.#align(this.#layout.bits === 32 && this.#layout.padded !== true ? 4 : 8);
      if (this.#layout.bigEndian === true) this.bytes.writeBigUInt64BE(BigInt(value), this.#at);
      else this.bytes.writeBigUInt64LE(BigInt(value), this.#at);
      this.#at += 8;
    }
    return this;
  }

  #align(size: number): void {
    this.#at = Math.ceil(this.#at / size) * size;
  }
}

export function buildKdump(spec: KdumpSpec): Buffer {
  const { pages, codec = "raw", version = 6, bitmaps = 2, split, sharedZeros = true, layout = {} } = spec;
  const { blockSize = PAGE } = spec;
  const pfns = [...pages.keys()].sort((a, b) => a - b);
  const maxMapnr = (pfns.at(-1) ?? 0) + 1;
  const half = Math.ceil(Math.ceil(maxMapnr / 8) / blockSize) + (spec.spareBlocks ?? 0);
  const bits = (has: (pfn: number) => boolean) => {
    const bytes = Buffer.alloc(half * blockSize);
    for (const pfn of pfns) if (has(pfn)) bytes[pfn >> 3]! |= 1 << (pfn & 7);
    return bytes;
  };
  const dumped = pfns.filter((pfn) => pages.get(pfn) !== null);
  const own = dumped.filter((pfn) => split === undefined || (pfn >= split[0] && pfn < split[1]));
  const descriptors = 2 * blockSize + bitmaps * half * blockSize;
  const data: Buffer[] = [];
  let at = descriptors + 24 * dumped.length;
  const place = (bytes: Buffer) => {
    data.push(bytes);
    at += bytes.length;
    return at - bytes.length;
  };
  const placed = (bytes: Buffer | undefined) => (bytes === undefined ? [0, 0] : [place(bytes), bytes.length]);
  const isZero = (bytes: Buffer) => bytes.every((byte) => byte === 0);
  const zeros =
    sharedZeros && own.some((pfn) => isZero(pages.get(pfn)!)) ? Buffer.alloc(blockSize) : undefined;
  const zeroPage = zeros && { at: place(packed(zeros, codec)), size: packed(zeros, codec).length };
  const table = new Struct(24 * dumped.length, { ...layout, padded: true });
  for (const pfn of own) {
    const bytes = pages.get(pfn)!;
    const block = packed(bytes, codec);
    const shared = zeroPage !== undefined && isZero(bytes);
    const stored = block.length < blockSize ? block : bytes;
    table.wide(shared ? zeroPage.at : place(stored));
    table.int(shared ? zeroPage.size : stored.length, stored === bytes && !shared ? 0 : FLAGS[codec]).wide(0);
  }
  const vmcoreinfo = placed(spec.vmcoreinfo) as [number, number];
  const notes = placed(spec.notes) as [number, number];
  const eraseinfo = placed(spec.eraseinfo) as [number, number];
  const header = new Struct(blockSize, layout);
  header.text(spec.signature ?? "KDUMP   ", 8).int(version);
  for (const name of [spec.system ?? "Linux", "", "6.1.0-synth", "", spec.machine ?? "x86_64", ""]) {
    header.text(name, 65);
  }
  header.long(spec.timestamp ?? 0, 0).int(FLAGS[codec] | (spec.incomplete === true ? 8 : 0), blockSize, 1);
  header.int(bitmaps * half, spec.maxMapnr ?? maxMapnr, 0, 0, 0, 0, 2);
  const sub = new Struct(blockSize, layout).long(spec.physBase ?? 0);
  if (version >= 1) sub.int(spec.dumpLevel ?? 31);
  if (version >= 2) {
    sub.int(split === undefined ? 0 : 1).long(...(version >= 6 ? [0, 0] : (split ?? [0, 0])));
  }
  if (version >= 3) sub.wide(vmcoreinfo[0]).long(vmcoreinfo[1]);
  if (version >= 4) sub.wide(notes[0]).long(notes[1]);
  if (version >= 5) sub.wide(eraseinfo[0]).long(eraseinfo[1]);
  if (version >= 6) sub.wide(...(split ?? [0, 0]), maxMapnr);
  const maps = [bits(() => true), bits((pfn) => pages.get(pfn) !== null)].slice(2 - bitmaps);
  return Buffer.concat([header.bytes, sub.bytes, ...maps, table.bytes, ...data]);
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
