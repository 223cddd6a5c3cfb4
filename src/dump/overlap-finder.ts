import type { Range } from "../core/ranges.ts";

/** A range of a file and whose it is; nobody has two. */
export interface OwnedRange extends Range {
  readonly owner: number;
}

/** How many ranges at the end of the ascending ones can turn out to be those that are out of order. */
const TAIL = 64;
/** Ranges out of order that are kept. */
const MAX_STRAYS = 1 << 16;

/**
 * Finds ranges that overlap among any number of them, in bounded memory, by two passes. Dumps have their pages in order,
 * so `add` keeps only ranges that are not; `overlapOf` compares each range with these. Of ranges in order no two overlap,
 * so no overlap is missed, unless more than 65 536 are out of order.
 */
export class OverlapFinder {
  /** The last of the ascending, disjoint ranges, and where those before them end. */
  readonly #tail: OwnedRange[] = [];
  #floor = 0;
  readonly #strays: OwnedRange[] = [];
  /** How many ranges out of order there was no room for. */
  dropped = 0;
  #sorted: SortedRanges | undefined;

  /** Whether there can be overlaps. */
  get any(): boolean {
    return this.#strays.length > 0;
  }

  add(range: OwnedRange): void {
    if (range.start < this.#floor) {
      this.#stray(range);
      return;
    }
    // A few that lie above it may be those that are out of order; they go where all of them are compared.
    const tail = this.#tail;
    let inOrder = tail.length;
    while (inOrder > 0 && tail[inOrder - 1]!.end > range.start) inOrder--;
    for (const above of tail.splice(inOrder)) this.#stray(above);
    tail.push(range);
    if (tail.length > TAIL) this.#floor = tail.shift()!.end;
  }

  /** One that overlaps this range and is another's, when all have been added; of two, each pair is told once. */
  overlapOf({ start, end, owner }: OwnedRange): OwnedRange | undefined {
    const strays = this.#strays;
    this.#sorted ??= sorted(strays);
    const { indexes, farthest } = this.#sorted;
    // One that is kept itself is compared with those before it.
    const before = indexes.get(owner) ?? firstFrom(strays, end);
    const other = before === 0 ? undefined : strays[farthest[before - 1]!]!;
    return other !== undefined && other.end > start ? other : undefined;
  }

  #stray(range: OwnedRange): void {
    if (this.#strays.length < MAX_STRAYS) this.#strays.push(range);
    else this.dropped++;
  }
}

/** Ranges in order of their starts. */
interface SortedRanges {
  /** By owner. */
  readonly indexes: ReadonlyMap<number, number>;
  /** Which of those up to each ends last. */
  readonly farthest: Int32Array;
}

/** Sorts ranges in place. */
function sorted(ranges: OwnedRange[]): SortedRanges {
  ranges.sort((a, b) => a.start - b.start);
  const farthest = new Int32Array(ranges.length);
  const indexes = new Map<number, number>();
  let best = 0;
  for (const [i, { end, owner }] of ranges.entries()) {
    if (end > ranges[best]!.end) best = i;
    farthest[i] = best;
    indexes.set(owner, i);
  }
  return { indexes, farthest };
}

/** Index of the first that starts at or behind `start`. */
function firstFrom(ranges: readonly OwnedRange[], start: number): number {
  let [low, high] = [0, ranges.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (ranges[middle]!.start < start) low = middle + 1;
    else high = middle;
  }
  return low;
}
