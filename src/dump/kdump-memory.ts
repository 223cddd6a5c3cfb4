import { alignDown, PAGE_SIZE } from "../core/address.ts";
import type { Extent, PackedBlock, PackedPages, PageState, PhysicalMemory } from "../core/memory.ts";
import { indexAtOrAbove, type Range, rangeAt } from "../core/ranges.ts";
import { type KdumpMember, KdumpPages } from "./kdump-pages.ts";

/** Members of a split set that are read at a time: each keeps at most 2 MiB. */
const MAX_OPEN = 16;
/** An extent ends after so many page frames, that signals are heard: 64 MiB, or some hundred with larger pages. */
const RUN_PAGES = 16_384;

/** One window of page frames, and the file that has it. */
interface Window extends Range {
  readonly member: KdumpMember;
}

/**
 * Physical memory of a kdump-compressed dump, in one file or a split set of them. A page frame that the first bitmap
 * has and the second has not was *excluded* by whoever filtered the dump; pages of zeros are not among them, for their
 * descriptors share one place. One whose bytes are in no file, or cannot be unpacked, is *absent*.
 */
export class KdumpMemory implements PhysicalMemory, PackedPages {
  readonly ranges: readonly Range[];
  readonly blockSize: number;
  /** Physical address of page frame 0. */
  readonly #base: number;
  readonly #windows: readonly Window[];
  readonly #open = new Map<KdumpMember, KdumpPages>();

  /**
   * @param members with disjoint windows, ascending
   * @param ram page frames that there are, ascending and disjoint
   * @param base physical address of page frame 0, a multiple of the block size
   */
  constructor(members: readonly KdumpMember[], ram: readonly Range[], blockSize: number, base = 0) {
    this.blockSize = blockSize;
    this.#base = base;
    this.#windows = members
      .filter(({ window }) => window.end > window.start)
      .map((member) => ({ ...member.window, member }));
    this.ranges = ram.map(({ start, end }) => ({
      start: base + start * blockSize,
      end: base + end * blockSize,
    }));
  }

  extentAt(address: number, limit: number): Extent {
    const range = this.ranges[indexAtOrAbove(this.ranges, address)];
    if (range === undefined || range.start >= limit) return { start: address, end: limit, state: "absent" };
    if (range.start > address) return { start: address, end: range.start, state: "absent" };
    const last = Math.min(limit, range.end);
    const run = this.#runAt(this.#frameOf(address), Math.ceil((last - this.#base) / this.blockSize));
    return { start: address, end: Math.min(last, this.#base + run.end * this.blockSize), state: run.state };
  }

  readPage(address: number, target: Uint8Array): PageState {
    if (rangeAt(this.ranges, address) === undefined) return "absent";
    const pfn = this.#frameOf(address);
    const window = rangeAt(this.#windows, pfn);
    if (window === undefined) return "absent";
    const pages = this.#pagesOf(window.member);
    if (!pages.has(pfn)) return "excluded";
    const block = pages.blockOf(pfn);
    if (block === undefined) return "absent";
    const at = alignDown(address - this.#base, PAGE_SIZE) - pfn * this.blockSize;
    target.set(block.subarray(at, at + PAGE_SIZE));
    return "present";
  }

  get packed(): PackedPages {
    return this;
  }

  blockAt(address: number): PackedBlock | undefined {
    const pfn = this.#frameOf(address);
    const window = rangeAt(this.#windows, pfn);
    return window && this.#pagesOf(window.member).packedOf(pfn);
  }

  #frameOf(address: number): number {
    return Math.floor((address - this.#base) / this.blockSize);
  }

  /** The state of a page frame that there is, and where that of another one begins; at most `limit`. */
  #runAt(first: number, limit: number): { readonly state: PageState; readonly end: number } {
    const window = this.#windows[indexAtOrAbove(this.#windows, first)];
    if (window === undefined || window.start > first) {
      return { state: "absent", end: Math.min(limit, window?.start ?? limit) };
    }
    const pages = this.#pagesOf(window.member);
    const end = Math.min(limit, window.end);
    if (!pages.has(first)) return { state: "excluded", end: pages.runAt(first, end).end };
    // Not to the end of the run: whoever walks it would have it read again for each extent.
    const run = pages.runAt(first, Math.min(end, first + RUN_PAGES));
    const state = pages.stateOf(first);
    let pfn = first + 1;
    while (pfn < run.end && pages.stateOf(pfn) === state) pfn++;
    return { state, end: pfn };
  }

  #pagesOf(member: KdumpMember): KdumpPages {
    const open = this.#open.get(member);
    if (open !== undefined) return open;
    if (this.#open.size >= MAX_OPEN) {
      const [oldest] = this.#open.keys();
      this.#open.delete(oldest!);
    }
    const pages = new KdumpPages(member);
    this.#open.set(member, pages);
    return pages;
  }
}
