import type { FlatRange } from "./address-space.ts";
import { type Budget, STRUCTURE } from "./budget.ts";
import { isMemoryRegion } from "./memory.ts";
import type { ProcessReader } from "./reader.ts";

/**
 * Renders the tree of memory regions into flat ranges the way QEMU does (`system/memory.c` render_memory_region):
 * for cores that lost the FlatView QEMU keeps. Offsets count from MemoryRegion.name backwards; the members between
 * have been the same since QEMU 2.x: Int128 size, addr, destructor, align, terminates, ram_device, enabled, …,
 * alias, alias_offset, priority, subregions, subregions_link, coalesced, name.
 */
const SIZE = -120;
const ADDR = -104;
const TERMINATES = -80;
const ENABLED = -78;
const ALIAS = -72;
const ALIAS_OFFSET = -64;
const SUBREGIONS_FIRST = -48;
const SUBREGIONS_NEXT = -32;

const REGION_READONLY = 43;
const REGION_NONVOLATILE = 44;

/** Deeper than any tree QEMU builds (host bridge, bus, bridge, BAR, alias …). */
const MAX_DEPTH = 40;
/** A large machine has a few thousand regions, aliases counted each time. */
const MAX_VISITS = 32_768;
/** An address space is 2^64 long; beyond exact numbers there is nothing to map. */
const ADDRESS_END = 2 ** 52;

interface Walk {
  readonly reader: ProcessReader;
  readonly name: number;
  readonly view: FlatRange[];
  readonly budget: Budget;
  visits: number;
}

interface Inherited {
  readonly clipStart: number;
  readonly clipEnd: number;
  readonly readonly: boolean;
  readonly nonvolatile: boolean;
}

/** Flat ranges under `root`, ascending and disjoint; `undefined` when the tree has none or is damaged. */
export function renderRegionTree(
  reader: ProcessReader,
  root: number,
  regionName: number,
  budget: Budget,
): FlatRange[] | undefined {
  const walk: Walk = { reader, name: regionName, view: [], budget, visits: 0 };
  render(walk, root, 0, { clipStart: 0, clipEnd: ADDRESS_END, readonly: false, nonvolatile: false }, 0);
  // Nothing left to take from: the view is not whole.
  if (walk.visits > MAX_VISITS || walk.view.length === 0 || !budget.take(0)) return undefined;
  return walk.view;
}

function render(walk: Walk, region: number, parentBase: number, inherited: Inherited, depth: number): void {
  const { reader, name, budget } = walk;
  if (++walk.visits > MAX_VISITS || depth > MAX_DEPTH || !budget.take(STRUCTURE)) return;
  if (!isMemoryRegion(reader, region)) return;
  const at = region + name;
  if (reader.u8(at + ENABLED) !== 1) return;
  const base = parentBase + (reader.u64(at + ADDR) ?? Number.NaN);
  const size = sizeOfRegion(reader, at + SIZE);
  const clipStart = Math.max(inherited.clipStart, base);
  const clipEnd = Math.min(inherited.clipEnd, base + size);
  if (!(clipStart < clipEnd)) return;
  const own: Inherited = {
    clipStart,
    clipEnd,
    readonly: inherited.readonly || reader.u8(region + REGION_READONLY) === 1,
    nonvolatile: inherited.nonvolatile || reader.u8(region + REGION_NONVOLATILE) === 1,
  };
  const alias = reader.pointer(at + ALIAS);
  if (alias !== undefined) {
    const aliasAddress = reader.u64(alias + name + ADDR) ?? Number.NaN;
    const offset = reader.u64(at + ALIAS_OFFSET) ?? Number.NaN;
    render(walk, alias, base - aliasAddress - offset, own, depth + 1);
    return;
  }
  // QEMU keeps the list sorted by priority: what is rendered first wins.
  let child = reader.pointer(at + SUBREGIONS_FIRST);
  while (child !== undefined && walk.visits <= MAX_VISITS) {
    render(walk, child, base, own, depth + 1);
    child = reader.pointer(child + name + SUBREGIONS_NEXT);
  }
  if (reader.u8(at + TERMINATES) === 1) fillGaps(walk, region, base, own);
}

/** Int128; the root's 2^64 has its upper half set. */
function sizeOfRegion(reader: ProcessReader, at: number): number {
  const low = reader.u64(at);
  const high = reader.u64(at + 8);
  if (low === undefined || high === undefined) return Number.NaN;
  return high !== 0 ? Number.POSITIVE_INFINITY : low;
}

/** Adds the parts of the clip that nothing rendered before covers; keeps the view ascending. */
function fillGaps({ view, budget }: Walk, region: number, base: number, own: Inherited): void {
  const { readonly, nonvolatile, clipStart, clipEnd } = own;
  const gaps: FlatRange[] = [];
  const add = (start: number, end: number) => {
    if (start < end) {
      gaps.push({ region, offsetInRegion: start - base, start, size: end - start, readonly, nonvolatile });
    }
  };
  const first = indexBehind(view, clipStart);
  let at = clipStart;
  let last = first;
  for (; last < view.length && view[last]!.start < clipEnd && budget.take(); last++) {
    const covered = view[last]!;
    add(at, covered.start);
    at = covered.start + covered.size;
  }
  add(at, clipEnd);
  if (gaps.length === 0) return;
  const merged = [...view.slice(first, last), ...gaps].sort((a, b) => a.start - b.start);
  view.splice(first, last - first, ...merged);
}

/** Index of the first range that ends behind `address`. */
function indexBehind(view: readonly FlatRange[], address: number): number {
  let low = 0;
  let high = view.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (view[middle]!.start + view[middle]!.size <= address) low = middle + 1;
    else high = middle;
  }
  return low;
}
