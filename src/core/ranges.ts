/** Half-open range `[start, end)` of addresses or offsets. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

export const sizeOf = (range: Range): number => range.end - range.start;

export const totalSize = (ranges: Iterable<Range>): number => {
  let total = 0;
  for (const range of ranges) total += sizeOf(range);
  return total;
};

/** Sorts by start and joins what touches or overlaps. Empty ranges vanish. */
export function mergeRanges(ranges: Iterable<Range>): Range[] {
  const sorted = [...ranges].filter((r) => r.end > r.start).sort((a, b) => a.start - b.start);
  const merged: { start: number; end: number }[] = [];
  for (const { start, end } of sorted) {
    const last = merged.at(-1);
    if (last !== undefined && start <= last.end) last.end = Math.max(last.end, end);
    else merged.push({ start, end });
  }
  return merged;
}

/**
 * Index of the range that contains `address`, or of the first one above it, in an ascending disjoint list;
 * `ranges.length` when there is none.
 */
export function indexAtOrAbove(ranges: readonly Range[], address: number): number {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (ranges[middle]!.end <= address) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The range of an ascending disjoint list that contains `address`. */
export function rangeAt<R extends Range>(ranges: readonly R[], address: number): R | undefined {
  const candidate = ranges[indexAtOrAbove(ranges, address)];
  return candidate !== undefined && candidate.start <= address ? candidate : undefined;
}

/**
 * Makes ranges ascending and disjoint: where two overlap the one that starts lower wins, of two that start together
 * the one listed first. `cutFront` returns a range without its part below an address.
 * @returns the ranges and how many bytes of others were dropped
 */
export function makeDisjoint<R extends Range>(
  ranges: readonly R[],
  cutFront: (range: R, start: number) => R,
): { ranges: R[]; dropped: number } {
  const kept: R[] = [];
  let dropped = 0;
  // Array.prototype.sort is stable.
  for (const range of [...ranges].sort((a, b) => a.start - b.start)) {
    const floor = kept.at(-1)?.end ?? 0;
    if (range.start >= floor) {
      kept.push(range);
      continue;
    }
    dropped += Math.min(range.end, floor) - range.start;
    if (range.end > floor) kept.push(cutFront(range, floor));
  }
  return { ranges: kept, dropped };
}
