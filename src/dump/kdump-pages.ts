import { PAGE_SIZE } from "../core/address.ts";
import { isZero, viewOf } from "../core/bytes.ts";
import type { ByteSource, PackedBlock, PageState } from "../core/memory.ts";
import type { Range } from "../core/ranges.ts";
import { CachedSource } from "../io/cached-source.ts";
import type { Bitmap, BitRun } from "./bitmap.ts";
import type { KdumpHeader } from "./kdump-header.ts";
import {
  DESCRIPTOR_SIZE,
  decodeDescriptor,
  type PageDescriptor,
  storageOf,
  unpackPage,
} from "./kdump-page.ts";

/** Bytes of unpacked blocks that are kept for those who come back: page tables are read over and over. */
const KEPT = 2 ** 20;

/** A dump's file, or one of a split set: what it says of the page frames of its window. */
export interface KdumpMember {
  readonly source: ByteSource;
  readonly header: KdumpHeader;
  /** Page frames whose descriptors it has, in this order. */
  readonly window: Range;
  /** Which page frames were dumped; counted from the window's start. */
  readonly dumped: Bitmap;
  /** Offset of the first data in the file, which is the page of zeros where there is one. */
  readonly firstData: number;
}

interface KeptBlock {
  readonly size: number;
  readonly flags: number;
  readonly block: Buffer;
}

/** Reads the pages of one file. All that it keeps, but for the member, is for speed. */
export class KdumpPages {
  readonly #header: KdumpHeader;
  readonly #source: ByteSource;
  readonly #dumped: Bitmap;
  readonly #firstData: number;
  readonly #descriptors: CachedSource;
  readonly #data: CachedSource;
  readonly #packed: Buffer;
  /** By offset. */
  readonly #kept = new Map<number, KeptBlock>();
  readonly #mostKept: number;
  readonly #descriptor = Buffer.alloc(DESCRIPTOR_SIZE);
  readonly #fields = viewOf(this.#descriptor);
  /** Where all pages of zeros are, once it is known; every descriptor of one leads there. */
  #zeros: number | undefined;

  constructor({ source, header, dumped, firstData }: KdumpMember) {
    this.#source = source;
    this.#header = header;
    this.#dumped = dumped.fresh();
    this.#firstData = firstData;
    this.#descriptors = new CachedSource(source);
    this.#data = new CachedSource(source);
    this.#packed = Buffer.allocUnsafeSlow(header.blockSize);
    this.#mostKept = KEPT / header.blockSize;
  }

  /** Whether a page frame was dumped, and how long all are like it. */
  runAt(pfn: number, limit: number): BitRun {
    return this.#dumped.runAt(pfn, limit);
  }

  has(pfn: number): boolean {
    return this.#dumped.has(pfn);
  }

  /** What is to be had of a page frame that was dumped, by its descriptor. */
  stateOf(pfn: number): PageState {
    const descriptor = this.#descriptorOf(pfn);
    if (!this.#isInFile(descriptor)) return "absent";
    if (this.#zeros === undefined && descriptor.offset === this.#firstData) {
      const block = this.#block(descriptor);
      const isZeros = block !== undefined && isZeroBlock(block, this.#header.blockSize);
      this.#zeros = isZeros ? descriptor.offset : Number.NaN;
    }
    return descriptor.offset === this.#zeros ? "zero" : "present";
  }

  /** A page frame that was dumped, unpacked; undefined where it is not whole. The bytes are good until the next call. */
  blockOf(pfn: number): Buffer | undefined {
    return this.#block(this.#descriptorOf(pfn));
  }

  /** A page frame that was dumped, as it is stored. */
  packedOf(pfn: number): PackedBlock | undefined {
    const descriptor = this.#descriptorOf(pfn);
    const codec = storageOf(descriptor.flags);
    if (codec === undefined || !this.#isInFile(descriptor)) return undefined;
    const { offset, size } = descriptor;
    return { size, codec, read: (target) => this.#data.read(offset, target) };
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
    const bytes = this.#descriptor;
    const at = this.#header.descriptors + this.#dumped.rank(pfn) * DESCRIPTOR_SIZE;
    if (this.#descriptors.read(at, bytes) < DESCRIPTOR_SIZE) return { offset: 0, size: 0, flags: 0 };
    return decodeDescriptor(this.#fields, 0, this.#header.layout.littleEndian);
  }

  #block(descriptor: PageDescriptor): Buffer | undefined {
    if (!this.#isInFile(descriptor)) return undefined;
    const { offset, size, flags } = descriptor;
    const kept = this.#kept.get(offset);
    if (kept !== undefined && kept.size === size && kept.flags === flags) {
      // To the end of the queue: what is read often stays.
      this.#kept.delete(offset);
      this.#kept.set(offset, kept);
      return kept.block;
    }
    const packed = this.#packed.subarray(0, size);
    if (this.#data.read(offset, packed) < size) return undefined;
    const block = this.#reused();
    if (unpackPage(packed, flags, block) !== this.#header.blockSize) return undefined;
    this.#kept.set(offset, { size, flags, block });
    return block;
  }

  /** A buffer for one more block: that of the one not read for longest, when enough are kept. */
  #reused(): Buffer {
    if (this.#kept.size < this.#mostKept) return Buffer.allocUnsafeSlow(this.#header.blockSize);
    const [oldest] = this.#kept;
    this.#kept.delete(oldest![0]);
    return oldest![1].block;
  }
}

function isZeroBlock(block: Buffer, size: number): boolean {
  for (let at = 0; at < size; at += PAGE_SIZE) if (!isZero(block, at, PAGE_SIZE)) return false;
  return true;
}
