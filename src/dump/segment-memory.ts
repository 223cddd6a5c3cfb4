import { alignDown, PAGE_SIZE } from "../core/address.ts";
import {
  type ByteSource,
  type Extent,
  type PageState,
  type PhysicalMemory,
  rawExtent,
} from "../core/memory.ts";
import { indexAtOrAbove, joinAscending, type Range } from "../core/ranges.ts";
import { layOut, type Run, type Segment } from "./vmcore-runs.ts";

/** Memory all of whose bytes lie in the file, from `offset` on. */
export interface WholeSegment extends Range {
  readonly offset: number;
}

/** As segments that leave nothing out. */
export const segmentsOf = (pieces: readonly WholeSegment[]): Segment[] =>
  pieces.map(({ start, end, offset }) => ({ paddr: start, memsz: end - start, filesz: end - start, offset }));

/**
 * Physical memory in segments that lie raw in a file, in any order, which may overlap or begin and end inside a page:
 * where they meet, the page is put together, else the cut page counts as not there.
 */
export class SegmentMemory implements PhysicalMemory {
  readonly ranges: readonly Range[];
  readonly #runs: readonly Run[];
  readonly #pieces: readonly Run[];
  readonly #source: ByteSource;

  constructor(source: ByteSource, segments: readonly Segment[]) {
    const { runs, pieces } = layOut(segments, source.size);
    this.#source = source;
    this.#runs = runs;
    this.#pieces = pieces;
    this.ranges = joinAscending(runs);
  }

  extentAt(address: number, limit: number, holes = true): Extent {
    const run = this.#runs[indexAtOrAbove(this.#runs, address)];
    if (run === undefined || run.start >= limit) return { start: address, end: limit, state: "absent" };
    if (run.start > address) return { start: address, end: run.start, state: "absent" };
    const end = Math.min(limit, run.end);
    if (run.offset === undefined) return { start: address, end, state: run.state };
    return rawExtent(address, end, this.#source, run.offset + (address - run.start), holes);
  }

  readPage(address: number, target: Uint8Array): PageState {
    const page = alignDown(address, PAGE_SIZE);
    const { state, at, end } = this.extentAt(page, page + PAGE_SIZE);
    if (state === "zero") target.fill(0, 0, PAGE_SIZE);
    if (at === undefined) return state === "present" ? this.#readPieces(page, target) : state;
    const got = at.source.read(at.offset, target.subarray(0, end - page));
    return got === PAGE_SIZE ? "present" : "absent";
  }

  #readPieces(page: number, target: Uint8Array): PageState {
    let done = 0;
    for (let i = indexAtOrAbove(this.#pieces, page); done < PAGE_SIZE; i++) {
      const { start, end, offset } = this.#pieces[i]!;
      const got = this.#source.read(offset!, target.subarray(start - page, end - page));
      if (got < end - start) return "absent";
      done += got;
    }
    return "present";
  }
}
