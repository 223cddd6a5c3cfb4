import { alignDown, PAGE_SIZE } from "../core/address.ts";
import { isZero, viewOf } from "../core/bytes.ts";
import type {
  ByteSource,
  Extent,
  PackedBlock,
  PackedPages,
  PageState,
  PhysicalMemory,
} from "../core/memory.ts";
import { indexAtOrAbove, type Range } from "../core/ranges.ts";
import { CachedSource } from "../io/cached-source.ts";
import { Bitmap, rangesOfFrames } from "./bitmap.ts";
import type { KdumpHeader } from "./kdump-header.ts";
import {
  DESCRIPTOR_SIZE,
  decodeDescriptor,
  type PageDescriptor,
  storageOf,
  unpackPage,
} from "./kdump-page.ts";

/** Unpacked blocks that are kept for those who come back: page tables are read over and over. */
const KEPT = 256;

/**
 * Physical memory of a kdump-compressed dump. A page frame that the first bitmap has and the second has not was
 * *excluded* by whoever filtered the dump; pages of zeros are not among them, for their descriptors share one place. One
 * whose bytes are not in the file, or cannot be unpacked, is *absent*.
 */
export class KdumpMemory implements PhysicalMemory, PackedPages {
  readonly ranges: readonly Range[];
  readonly #header: KdumpHeader;
  readonly #source: ByteSource;
  readonly #dumped: Bitmap;
  readonly #descriptors: CachedSource;
  readonly #data: CachedSource;
  readonly #packed: Buffer;
  readonly #kept = new Map<number, Buffer>();
  readonly #descriptor = Buffer.alloc(DESCRIPTOR_SIZE);
  readonly #fields = viewOf(this.#descriptor);
  /** Where all pages of zeros are, once it is known; every descriptor of one leads there. */
  #zeros: number | undefined;
  /** The first data in the file, which is the page of zeros where there is one. */
  readonly #first: number;

  /** @throws UnsupportedError for RAM in more than a million pieces */
  constructor(source: ByteSource, header: KdumpHeader) {
    this.#source = source;
    this.#header = header;
    const { maxMapnr, blockSize, split } = header;
    const ram = new Bitmap(source, header.ramBitmap, maxMapnr);
    this.#dumped = new Bitmap(source, header.dumpedBitmap, maxMapnr);
    this.#descriptors = new CachedSource(source);
    this.#data = new CachedSource(source);
    this.#packed = Buffer.allocUnsafeSlow(blockSize);
    this.#first = header.descriptors + DESCRIPTOR_SIZE * this.#dumped.rank(maxMapnr);
    const window = split ?? { start: 0, end: maxMapnr };
    this.ranges = rangesOfFrames(ram.runs(window.start, Math.min(window.end, maxMapnr)), blockSize);
  }

  extentAt(address: number, limit: number): Extent {
    const range = this.ranges[indexAtOrAbove(this.ranges, address)];
    if (range === undefined || range.start >= limit) return { start: address, end: limit, state: "absent" };
    if (range.start > address) return { start: address, end: range.start, state: "absent" };
    const { blockSize } = this.#header;
    const last = Math.min(limit, range.end);
    const first = Math.floor(address / blockSize);
    const end = Math.ceil(last / blockSize);
    const run = this.#dumped.runAt(first, end);
    const bounded = (pfn: number) => Math.min(last, pfn * blockSize);
    if (!run.set) return { start: address, end: bounded(run.end), state: "excluded" };
    const state = this.#stateOf(first);
    let pfn = first + 1;
    const most = Math.min(run.end, first + RUN_PAGES);
    while (pfn < most && this.#stateOf(pfn) === state) pfn++;
    return { start: address, end: bounded(pfn), state };
  }

  readPage(address: number, target: Uint8Array): PageState {
    const { blockSize } = this.#header;
    const pfn = Math.floor(address / blockSize);
    if (this.ranges.length === 0 || !this.#isRam(address)) return "absent";
    if (!this.#dumped.has(pfn)) return "excluded";
    const block = this.#block(this.#descriptorOf(pfn));
    if (block === undefined) return "absent";
    const at = alignDown(address, PAGE_SIZE) - pfn * blockSize;
    target.set(block.subarray(at, at + PAGE_SIZE));
    return "present";
  }

  get packed(): PackedPages {
    return this;
  }

  get blockSize(): number {
    return this.#header.blockSize;
  }

  blockAt(address: number): PackedBlock | undefined {
    const descriptor = this.#descriptorOf(Math.floor(address / this.#header.blockSize));
    const codec = storageOf(descriptor.flags);
    return codec !== undefined && this.#isInFile(descriptor) ? { ...descriptor, codec } : undefined;
  }

  readPacked({ offset }: PackedBlock, target: Uint8Array): number {
    return this.#data.read(offset, target);
  }

  #isRam(address: number): boolean {
    const range = this.ranges[indexAtOrAbove(this.ranges, address)];
    return range !== undefined && range.start <= address;
  }

  #stateOf(pfn: number): PageState {
    const descriptor = this.#descriptorOf(pfn);
    if (!this.#isInFile(descriptor)) return "absent";
    if (this.#zeros === undefined && descriptor.offset === this.#first) {
      const block = this.#block(descriptor);
      const { blockSize } = this.#header;
      const isZeros = block !== undefined && isZeroBlock(block, blockSize);
      this.#zeros = isZeros ? descriptor.offset : Number.NaN;
    }
    return descriptor.offset === this.#zeros ? "zero" : "present";
  }

  #isInFile({ offset, size }: PageDescriptor): boolean {
    return (
      offset >= this.#header.descriptors &&
      size > 0 &&
      size <= this.#header.blockSize &&
      offset + size <= this.#source.size
    );
  }

  #descriptorOf(pfn: number): PageDescriptor {
    const from = this.#header.split?.start ?? 0;
    const index = this.#dumped.rank(pfn) - (from === 0 ? 0 : this.#dumped.rank(from));
    const bytes = this.#descriptor;
    const got = this.#descriptors.read(this.#header.descriptors + index * DESCRIPTOR_SIZE, bytes);
    if (got < DESCRIPTOR_SIZE) return { offset: 0, size: 0, flags: 0 };
    return decodeDescriptor(this.#fields, 0);
  }

  /** The unpacked block; undefined where it is not whole. */
  #block(descriptor: PageDescriptor): Buffer | undefined {
    const { offset, size, flags } = descriptor;
    const kept = this.#kept.get(offset);
    if (kept !== undefined) return kept;
    if (!this.#isInFile(descriptor)) return undefined;
    const packed = this.#packed.subarray(0, size);
    if (this.#data.read(offset, packed) < size) return undefined;
    const block = this.#reused();
    if (unpackPage(packed, flags, block) !== this.#header.blockSize) return undefined;
    this.#kept.set(offset, block);
    return block;
  }

  /** A buffer for one more block: the oldest, when enough are kept. */
  #reused(): Buffer {
    if (this.#kept.size < KEPT) return Buffer.allocUnsafeSlow(this.#header.blockSize);
    const [oldest] = this.#kept;
    this.#kept.delete(oldest![0]);
    return oldest![1];
  }
}

/** An extent ends after so many pages, that signals are heard: 64 MiB. */
const RUN_PAGES = 16_384;

function isZeroBlock(block: Buffer, size: number): boolean {
  for (let at = 0; at < size; at += PAGE_SIZE) if (!isZero(block, at, PAGE_SIZE)) return false;
  return true;
}
