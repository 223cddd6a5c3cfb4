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
  return joinAscending([...ranges].filter((r) => r.end > r.start).sort((a, b) => a.start - b.start));
}

/** Joins what touches or overlaps of ranges that ascend by start; none is empty. */
export function joinAscending(ranges: readonly Range[]): Range[] {
  const merged: { start: number; end: number }[] = [];
  for (const { start, end } of ranges) {
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

/**
 * Lays ranges, of which none is empty, over each other: ascending and disjoint, of each place the range on top. In
 * O(n log n), whatever overlaps what.
 * @param layerOf the lowest is on top, and in a layer the first of the list
 * @param cut returns the part of a range between two addresses in it
 */
export function overlay<R extends Range>(
  ranges: readonly R[],
  layerOf: (range: R) => number,
  cut: (range: R, start: number, end: number) => R,
): R[] {
  // As most lists are.
  if (ranges.every(({ start }, i) => i === 0 || start >= ranges[i - 1]!.end)) return [...ranges];
  const order = ranges.map((_, i) => i).sort((a, b) => ranges[a]!.start - ranges[b]!.start);
  const laid: R[] = [];
  for (let i = 0; i < order.length; ) {
    const from = i;
    const first = ranges[order[i++]!]!;
    let { end } = first;
    for (; i < order.length && ranges[order[i]!]!.start < end; i++) {
      end = Math.max(end, ranges[order[i]!]!.end);
    }
    if (i === from + 1) laid.push(first);
    else {
      const indexes = order.slice(from, i);
      indexes.sort((a, b) => layerOf(ranges[a]!) - layerOf(ranges[b]!) || a - b);
      const pile = indexes.map((index) => ranges[index]!);
      layPile(pile, laid, cut);
    }
  }
  return laid;
}

/** Lays ranges that overlap, the first on top, and adds what is seen of each. */
function layPile<R extends Range>(
  pile: readonly R[],
  laid: R[],
  cut: (range: R, start: number, end: number) => R,
): void {
  const edges = edgesOf(pile);
  // The range on top from an edge to the next; none behind the last.
  const top = new Array<R | undefined>(edges.length);
  // Leads to the first edge from here on behind which nothing lies yet.
  const free = Int32Array.from(edges, (_, edge) => edge);
  for (const range of pile) {
    let edge = follow(free, indexIn(edges, range.start));
    while (edges[edge]! < range.end) {
      top[edge] = range;
      free[edge] = edge + 1;
      edge = follow(free, edge);
    }
  }
  let from = 0;
  for (let edge = 1; edge < edges.length; edge++) {
    const range = top[from]!;
    if (top[edge] === range) continue;
    laid.push(cut(range, edges[from]!, edges[edge]!));
    from = edge;
  }
}

/** Where ranges begin or end, ascending, each once. */
function edgesOf(ranges: readonly Range[]): Float64Array {
  const edges = new Float64Array(2 * ranges.length);
  for (let i = 0; i < ranges.length; i++) {
    edges[2 * i] = ranges[i]!.start;
    edges[2 * i + 1] = ranges[i]!.end;
  }
  return edges.sort().filter((edge, i, all) => edge !== all[i - 1]);
}

/** Index of a value that is in an ascending list. */
function indexIn(values: Float64Array, value: number): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (values[middle]! < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Follows links to the one that leads to itself, and halves the way for the next. */
function follow(links: Int32Array, from: number): number {
  let at = from;
  while (links[at] !== at) {
    links[at] = links[links[at]!]!;
    at = links[at]!;
  }
  return at;
}
