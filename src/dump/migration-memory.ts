import { unpackers } from "../codec/pages.ts";
import { alignDown, PAGE_SIZE } from "../core/address.ts";
import {
  type ByteSource,
  type Extent,
  type PageState,
  type PhysicalMemory,
  rawExtent,
} from "../core/memory.ts";
import { indexAtOrAbove, joinAscending, type Range } from "../core/ranges.ts";
import { CachedSource } from "../io/cached-source.ts";
import { applyDelta } from "./migration-delta.ts";
import type { Segment } from "./migration-layout.ts";
import type { PagePlace } from "./migration-pages.ts";
import type { Delta } from "./migration-ram.ts";

/** An extent ends after so many pages, that signals are heard: 64 MiB. */
const RUN_PAGES = 16_384;
/** How far behind the last page another begins that is read with it. */
const AHEAD = 64 * 1024;
/** compressBound() of zlib for a page, and room to spare. */
const MAX_COMPRESSED = PAGE_SIZE + 64;

/**
 * Physical memory of a migration stream. A page is what came for it last; one that never came, or whose last copy cannot
 * be unpacked, is *absent*.
 */
export class MigrationMemory implements PhysicalMemory {
  readonly ranges: readonly Range[];
  readonly #source: ByteSource;
  readonly #ahead: CachedSource;
  readonly #segments: readonly Segment[];
  readonly #deltas: readonly Delta[];
  readonly #packed = Buffer.allocUnsafeSlow(MAX_COMPRESSED);
  readonly #page = Buffer.allocUnsafeSlow(PAGE_SIZE);
  #last = 0;

  /** @param segments ascending, disjoint, of whole pages */
  constructor(source: ByteSource, segments: readonly Segment[], deltas: readonly Delta[]) {
    this.#source = source;
    this.#ahead = new CachedSource(source);
    this.#segments = segments;
    this.#deltas = deltas;
    this.ranges = joinAscending(segments);
  }

  extentAt(address: number, limit: number, holes = true): Extent {
    const segment = this.#segments[indexAtOrAbove(this.#segments, address)];
    if (segment === undefined || segment.start >= limit)
      return { start: address, end: limit, state: "absent" };
    if (segment.start > address) return { start: address, end: segment.start, state: "absent" };
    const { pages } = segment.block;
    const inBlock = segment.offset + (address - segment.start);
    const page = Math.floor(inBlock / PAGE_SIZE);
    const last = Math.min(limit, segment.end);
    const most = Math.min(page + RUN_PAGES, Math.ceil((inBlock + (last - address)) / PAGE_SIZE));
    const end = Math.min(last, address + pages.runEnd(page, most) * PAGE_SIZE - inBlock);
    const state = pages.presence(page);
    if (state === "present" && pages.contiguousAt !== undefined) {
      const offset = pages.contiguousAt + inBlock;
      const there = alignDown(Math.max(0, this.#source.size - offset), PAGE_SIZE);
      if (there === 0) return { start: address, end, state: "absent" };
      return rawExtent(address, Math.min(end, address + there), this.#source, offset, holes);
    }
    return { start: address, end, state };
  }

  readPage(address: number, target: Uint8Array): PageState {
    const page = alignDown(address, PAGE_SIZE);
    const segment = this.#segments[indexAtOrAbove(this.#segments, page)];
    if (segment === undefined || segment.start > page) return "absent";
    const { pages } = segment.block;
    const index = (segment.offset + (page - segment.start)) / PAGE_SIZE;
    const state = pages.presence(index);
    if (state === "zero") target.fill(0, 0, PAGE_SIZE);
    if (state !== "present") return state;
    if (!this.#unpack(pages.placeOf(index))) return "absent";
    target.set(this.#page);
    return "present";
  }

  /** Puts a page into the buffer; false when its bytes are not what they should be. */
  #unpack(place: PagePlace): boolean {
    const steps: Delta[] = [];
    let from: PagePlace | undefined = place;
    while (from?.kind === "delta") {
      const delta: Delta = this.#deltas[from.offset]!;
      steps.push(delta);
      from = delta.before;
    }
    if (from === undefined) this.#page.fill(0);
    else if (!this.#unpackWhole(from)) return false;
    return steps.reverse().every((delta) => this.#apply(delta));
  }

  #unpackWhole({ kind, offset }: PagePlace): boolean {
    if (kind === "raw") return this.#read(offset, this.#page);
    if (kind === "fill") {
      const byte = this.#packed.subarray(0, 1);
      if (!this.#read(offset, byte)) return false;
      this.#page.fill(byte[0]!);
      return true;
    }
    const length = this.#packed.subarray(0, 4);
    if (!this.#read(offset, length)) return false;
    const packed = this.#packed.subarray(0, length.readUInt32BE(0));
    return this.#read(offset + 4, packed) && unpackers.zlib(packed, this.#page) === PAGE_SIZE;
  }

  #apply({ offset, length }: Delta): boolean {
    const bytes = this.#packed.subarray(0, length);
    return this.#read(offset, bytes) && applyDelta(bytes, this.#page);
  }

  /** Pages come in order for whoever copies them, and at random for whoever follows page tables. */
  #read(offset: number, target: Buffer): boolean {
    const isNext = offset >= this.#last && offset <= this.#last + AHEAD;
    this.#last = offset;
    return (isNext ? this.#ahead : this.#source).read(offset, target) === target.length;
  }
}
