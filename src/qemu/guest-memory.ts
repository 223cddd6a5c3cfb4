import { alignDown, PAGE_SIZE } from "../core/address.ts";
import {
  type ByteSource,
  type Extent,
  type PageState,
  type PhysicalMemory,
  rawExtent,
} from "../core/memory.ts";
import type { ProcessImage } from "../core/process.ts";
import { indexAtOrAbove, mergeRanges, type Range } from "../core/ranges.ts";

/** A run of guest-physical addresses that lies contiguous in the qemu process; page-aligned. */
export interface HostedRange extends Range {
  /** Process address of the byte at `start`. */
  readonly host: number;
  /** Where the same bytes lie outside the core (`--ram BLOCK=PATH`), used for what the core lacks. */
  readonly fallback?: { readonly source: ByteSource; readonly offset: number };
  /** What the core left out is known to be memory that was never written. */
  readonly untouched?: boolean;
}

/** The memory of a guest as its qemu process holds it. A page that is in part beyond the core's end is absent. */
export class QemuGuestMemory implements PhysicalMemory {
  readonly ranges: readonly Range[];
  readonly #hosted: readonly HostedRange[];
  readonly #image: ProcessImage;

  /** @param hosted ascending and disjoint */
  constructor(image: ProcessImage, hosted: readonly HostedRange[]) {
    this.#image = image;
    this.#hosted = hosted;
    this.ranges = mergeRanges(hosted);
  }

  extentAt(address: number, limit: number, holes = true): Extent {
    const range = this.#hosted[indexAtOrAbove(this.#hosted, address)];
    if (range === undefined || range.start >= limit) return { start: address, end: limit, state: "absent" };
    if (range.start > address) return { start: address, end: range.start, state: "absent" };
    const host = range.host + (address - range.start);
    const inProcess = this.#image.extentAt(host, host + Math.min(range.end, limit) - address);
    const length = alignDown(inProcess.end - inProcess.start, PAGE_SIZE);
    if (inProcess.at !== undefined && length > 0) {
      return rawExtent(address, address + length, inProcess.at.source, inProcess.at.offset, holes);
    }
    // A cut page counts as absent as a whole.
    return this.#missing(range, address, address + Math.max(length, PAGE_SIZE), holes);
  }

  #missing(range: HostedRange, start: number, end: number, holes: boolean): Extent {
    const { fallback, untouched } = range;
    if (fallback === undefined) return { start, end, state: untouched === true ? "zero" : "absent" };
    const offset = fallback.offset + (start - range.start);
    const available = alignDown(Math.max(0, fallback.source.size - offset), PAGE_SIZE);
    if (available === 0) return { start, end, state: "absent" };
    return rawExtent(start, Math.min(end, start + available), fallback.source, offset, holes);
  }

  readPage(address: number, target: Uint8Array): PageState {
    const page = alignDown(address, PAGE_SIZE);
    const { state, at } = this.extentAt(page, page + PAGE_SIZE);
    if (state === "zero") target.fill(0, 0, PAGE_SIZE);
    if (at === undefined) return state;
    return at.source.read(at.offset, target.subarray(0, PAGE_SIZE)) === PAGE_SIZE ? "present" : "absent";
  }
}
