import { alignDown, PAGE_SIZE } from "../core/address.ts";
import type { JobContext } from "../core/job.ts";
import type { ByteSource, Extent, PageState, PhysicalMemory } from "../core/memory.ts";
import { rawExtent } from "../core/memory.ts";
import { indexAtOrAbove, type Range, rangeAt } from "../core/ranges.ts";
import { Bitmap, ramRuns } from "./bitmap.ts";
import type { SadumpHeader } from "./sadump-header.ts";
import type { SadumpPiece } from "./sadump-members.ts";

/** An extent ends after so many page frames: 1 GiB. */
const RUN_FRAMES = 262_144;

/** What the bitmaps say. */
export interface SadumpFrames {
  /** Addresses. */
  readonly ram: readonly Range[];
  /** Page frames that have a block. */
  readonly dumpable: Bitmap;
  readonly blockSize: number;
  /** Bytes of all blocks. */
  readonly needed: number;
}

/** @throws UnsupportedError for RAM in more than a million pieces */
export async function framesOf(
  source: ByteSource,
  { maxMapnr, blockSize, ramBitmap, dumpableBitmap }: SadumpHeader,
  checkpoint?: JobContext["checkpoint"],
): Promise<SadumpFrames> {
  const place = { source, size: maxMapnr, order: "most-significant-first" } as const;
  const runs = await ramRuns({ ...place, offset: ramBitmap }, checkpoint);
  const all = { start: 0, end: maxMapnr };
  const dumpable = await Bitmap.open({ ...place, offset: dumpableBitmap }, all, checkpoint);
  const ram = runs.map(({ start, end }) => ({ start: start * blockSize, end: end * blockSize }));
  return { ram, dumpable, blockSize, needed: dumpable.rank(maxMapnr) * blockSize };
}

/**
 * Physical memory of a sadump dump: its blocks are the page frames of the second bitmap, in order. RAM that is not in
 * the second bitmap the firmware left out, as *excluded*: crash and makedumpfile show zeros for it, but nothing in the
 * dump says that it held any. Frames whose block is not in the files are *absent*.
 */
export class SadumpMemory implements PhysicalMemory {
  readonly ranges: readonly Range[];
  readonly #blockSize: number;
  readonly #bitmap: Bitmap;
  readonly #pieces: readonly SadumpPiece[];

  constructor({ ram, dumpable, blockSize }: SadumpFrames, pieces: readonly SadumpPiece[]) {
    this.ranges = ram;
    this.#bitmap = dumpable;
    this.#blockSize = blockSize;
    this.#pieces = pieces;
  }

  extentAt(address: number, limit: number, holes = true): Extent {
    const range = this.ranges[indexAtOrAbove(this.ranges, address)];
    if (range === undefined || range.start >= limit) return { start: address, end: limit, state: "absent" };
    if (range.start > address) return { start: address, end: range.start, state: "absent" };
    const last = Math.min(limit, range.end);
    const first = Math.floor(address / this.#blockSize);
    const most = Math.min(Math.ceil(last / this.#blockSize), first + RUN_FRAMES);
    const run = this.#bitmap.runAt(first, most);
    const end = Math.min(last, run.end * this.#blockSize);
    if (!run.set) return { start: address, end, state: "excluded" };
    const position = this.#bitmap.rank(first) * this.#blockSize + (address - first * this.#blockSize);
    return this.#extentIn(address, end, position, holes);
  }

  /** Of an address whose byte is at `position` of all blocks. */
  #extentIn(address: number, end: number, position: number, holes: boolean): Extent {
    const piece = rangeAt(this.#pieces, position);
    if (piece === undefined) return { start: address, end, state: "absent" };
    const { source, offset } = piece;
    const within = position - piece.start;
    const inPiece = Math.min(end, address + (piece.end - position));
    const there = alignDown(Math.max(0, source.size - offset - within), PAGE_SIZE);
    if (there === 0) return { start: address, end: inPiece, state: "absent" };
    return rawExtent(address, Math.min(inPiece, address + there), source, offset + within, holes);
  }

  readPage(address: number, target: Uint8Array): PageState {
    const page = alignDown(address, PAGE_SIZE);
    const { state, at } = this.extentAt(page, page + PAGE_SIZE, false);
    if (at === undefined) return state;
    return at.source.read(at.offset, target.subarray(0, PAGE_SIZE)) === PAGE_SIZE ? "present" : "absent";
  }
}
