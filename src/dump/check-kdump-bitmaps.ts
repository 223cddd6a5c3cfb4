import { alignDown } from "../core/address.ts";
import type { ByteSource } from "../core/memory.ts";
import { hex } from "../core/text.ts";
import { holeEnd } from "./bitmap.ts";
import { type CheckReport, FOUND } from "./check-report.ts";
import type { KdumpHeader } from "./kdump-header.ts";

const CHUNK = 64 * 1024;

/** What the bitmaps of a dump count. */
export interface PageCounts {
  /** Pages with a descriptor, in all parts of a split dump. */
  readonly dumped: number;
  /** Those of this part. */
  readonly own: number;
  /** RAM that was left out, of this part. */
  readonly excluded: number;
}

/** A header, and the physical address of its first page frame. */
export interface PlacedHeader extends KdumpHeader {
  readonly base: number;
}

/** A piece of both bitmaps. */
export interface BitmapChunk {
  /** Page frame of the first bit. */
  readonly first: number;
  /** How many bits count. */
  readonly bits: number;
  readonly ram: Buffer;
  readonly dumped: Buffer;
}

/** Reads both bitmaps side by side but for holes, which are clear; buffers are good until the next piece. */
export function* bitmapChunks(
  source: ByteSource,
  { ramBitmap, dumpedBitmap, bitmapSize, maxMapnr }: KdumpHeader,
): Generator<BitmapChunk> {
  const [ram, dumped] = [Buffer.alloc(CHUNK), Buffer.alloc(CHUNK)];
  /** Bytes of a hole that begins there. */
  const clear = (bitmap: number, at: number) =>
    holeEnd(source, bitmap + at, bitmap + bitmapSize) - bitmap - at;
  for (let at = 0; 8 * at < maxMapnr; at += CHUNK) {
    const skipped = Math.min(clear(ramBitmap, at), clear(dumpedBitmap, at));
    if (skipped >= CHUNK) {
      at += alignDown(skipped, CHUNK) - CHUNK;
      continue;
    }
    const bits = Math.min(8 * CHUNK, maxMapnr - 8 * at);
    const length = Math.ceil(bits / 8);
    for (const [bitmap, offset] of [
      [ram, ramBitmap],
      [dumped, dumpedBitmap],
    ] as const) {
      bitmap.fill(0);
      source.read(offset + at, bitmap.subarray(0, length));
      // Bits behind the last page frame are none.
      if (bits % 8 !== 0) bitmap[length - 1]! &= (1 << (bits % 8)) - 1;
    }
    yield { first: 8 * at, bits, ram, dumped };
  }
}

/** The bits set in [from, to). */
export function* setBits(bitmap: Buffer, from: number, to: number): Generator<number> {
  for (let bit = from; bit < to; bit++) {
    const byte = bitmap[bit >>> 3]!;
    if (byte === 0) bit |= 7;
    else if (((byte >> (bit & 7)) & 1) === 1) yield bit;
  }
}

/** Whatever was dumped is RAM, or one of the bitmaps is damaged. */
export async function checkBitmaps(
  source: ByteSource,
  header: PlacedHeader,
  report: CheckReport,
): Promise<PageCounts> {
  const { start, end } = header.split ?? { start: 0, end: header.maxMapnr };
  const counts = { dumped: 0, own: 0, excluded: 0 };
  for (const { first, bits, ram, dumped } of bitmapChunks(source, header)) {
    for (let i = 0; 8 * i < bits; i++) {
      const byte = dumped[i]!;
      const [left, strange] = [ram[i]! & ~byte, byte & ~ram[i]!];
      if ((byte | left) !== 0) {
        const own = within(first + 8 * i, start, end);
        counts.dumped += POPULATION[byte]!;
        counts.own += POPULATION[byte & own]!;
        counts.excluded += POPULATION[left & own]!;
      }
      if (strange !== 0) tellStrange(first + 8 * i, strange, header, report);
    }
    await report.checkpoint();
  }
  return counts;
}

/** Those of the eight page frames from `first` on that are in [start, end). */
function within(first: number, start: number, end: number): number {
  if (first >= start && first + 8 <= end) return 0xff;
  let bits = 0;
  for (let bit = 0; bit < 8; bit++) if (first + bit >= start && first + bit < end) bits |= 1 << bit;
  return bits;
}

/** Bits set in a byte. */
const POPULATION = Uint8Array.from({ length: 256 }, (_, byte) => byte.toString(2).replaceAll("0", "").length);

function tellStrange(
  first: number,
  bits: number,
  { base, blockSize, dumpedBitmap }: PlacedHeader,
  report: CheckReport,
): void {
  for (let bit = 0; bit < 8; bit++) {
    if (((bits >> bit) & 1) === 0) continue;
    const address = base + (first + bit) * blockSize;
    const message = `the page at ${hex(address)} was dumped, by the second bitmap, and is no RAM, by the first`;
    report.find(FOUND.dumpedNoRam, message, { offset: dumpedBitmap + first / 8, address });
  }
}
