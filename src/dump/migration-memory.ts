import { alignDown, PAGE_SIZE } from "../core/address.ts";
import { type Extent, type PageState, type PhysicalMemory, rawExtent } from "../core/memory.ts";
import { indexAtOrAbove, joinAscending, type Range } from "../core/ranges.ts";
import type { Segment } from "./migration-layout.ts";
import type { PageReader } from "./migration-page-reader.ts";

/** An extent ends after so many pages, that signals are heard: 64 MiB. */
const RUN_PAGES = 16_384;

/**
 * Physical memory of a migration stream. A page is what came for it last; one that never came, or whose last copy cannot
 * be unpacked, is *absent*.
 */
export class MigrationMemory implements PhysicalMemory {
  readonly ranges: readonly Range[];
  readonly #reader: PageReader;
  readonly #segments: readonly Segment[];

  /** @param segments ascending, disjoint, of whole pages */
  constructor(reader: PageReader, segments: readonly Segment[]) {
    this.#reader = reader;
    this.#segments = segments;
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
      const there = alignDown(Math.max(0, this.#reader.source.size - offset), PAGE_SIZE);
      if (there === 0) return { start: address, end, state: "absent" };
      return rawExtent(address, Math.min(end, address + there), this.#reader.source, offset, holes);
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
    return this.#reader.read(pages.placeOf(index), target) ? "present" : "absent";
  }
}
