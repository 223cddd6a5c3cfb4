import type { ProcessMapping } from "../core/process.ts";
import { type Budget, STRUCTURE } from "./budget.ts";
import { findNameOffset, isMemoryRegion } from "./memory.ts";
import { qomType } from "./qom.ts";
import type { ProcessReader } from "./reader.ts";
import { type Checkpoint, wordScanner } from "./scan.ts";

/**
 * AddressSpace (`include/exec/memory.h`): struct rcu_head (16), char *name, MemoryRegion *root,
 * FlatView *current_map, … QTAILQ_ENTRY address_spaces_link. The one named "memory" is what the vCPUs' physical
 * addresses mean; every entry to guest memory goes through its current_map, because the heap is full of stale
 * FlatRange arrays that pass every local check.
 */
const NAME = 16;
const ROOT = 24;
const CURRENT_MAP = 32;
const LINK_SEARCH = { from: 40, to: 200 } as const;

/** FlatView: struct rcu_head (16), unsigned ref, FlatRange *ranges, unsigned nr, nr_allocated. */
const VIEW_RANGES = 24;
const VIEW_COUNT = 32;
const VIEW_ALLOCATED = 36;
/** FlatRange: mr, offset_in_region, Int128 start, Int128 size, dirty_log_mask, romd_mode, readonly, nonvolatile. */
const RANGE_SIZE = 64;
const RANGE_READONLY = 50;
const RANGE_NONVOLATILE = 51;

/** 50 ranges in an ordinary machine; every PCI BAR adds one. */
const MAX_RANGES = 65_536;
const MAX_ADDRESS_SPACES = 65_536;
/** QEMU's own data and bss take 4 MiB; where they are not known, the smaller mappings are looked at first. */
const MAX_SCAN = 128 * 2 ** 20;
/** More candidates than this are no machine's. */
const MAX_CANDIDATES = 16;
/** What it costs to see whether a region is named "system". */
const ROOT_STEPS = 8 * STRUCTURE;

export interface QemuAddressSpace {
  readonly address: number;
  readonly name: string;
  readonly root: number;
  readonly currentMap: number;
}

export interface FlatRange {
  readonly region: number;
  readonly offsetInRegion: number;
  readonly start: number;
  readonly size: number;
  readonly readonly: boolean;
  readonly nonvolatile: boolean;
}

function readAddressSpace(reader: ProcessReader, address: number): QemuAddressSpace | undefined {
  const root = reader.pointer(address + ROOT);
  const currentMap = root === undefined ? undefined : reader.pointer(address + CURRENT_MAP);
  const nameAt = currentMap === undefined ? undefined : reader.u64(address + NAME);
  if (nameAt === undefined || root === undefined || currentMap === undefined) return undefined;
  const name = reader.string(nameAt);
  return name === undefined ? undefined : { address, name, root, currentMap };
}

/**
 * Finds `address_space_memory` without symbols: a static variable, so a scan of the given mappings (the executable's
 * .data and .bss first) for an AddressSpace named "memory" whose root is the memory region "system".
 */
export async function findSystemMemory(
  reader: ProcessReader,
  mappings: readonly ProcessMapping[],
  budget: Budget,
  checkpoint?: Checkpoint,
): Promise<QemuAddressSpace[]> {
  const found: QemuAddressSpace[] = [];
  const look = (address: number): void => {
    const space = readAddressSpace(reader, address);
    if (space?.name !== "memory" || !budget.take(ROOT_STEPS)) return;
    if (isSystemRoot(reader, space.root)) found.push(space);
  };
  const visit = (words: Uint32Array, base: number): void => {
    for (let i = NAME / 4; i + 5 < words.length; i += 2) {
      if (!hasThreePointers(words, i)) continue;
      if (found.length >= MAX_CANDIDATES || !budget.take(0)) return;
      look(base + i * 4 - NAME);
    }
  };
  const scan = wordScanner(reader.image, CURRENT_MAP + 8, visit, checkpoint);
  let left = MAX_SCAN;
  for (const mapping of mappings) {
    if (found.length > 0 || !budget.take(0)) break;
    const size = mapping.presentEnd - mapping.start;
    if (size > left) continue;
    left -= size;
    await scan(mapping);
  }
  return found.filter((space, i) => found.findIndex((other) => other.address === space.address) === i);
}

/** Whether name, root and current_map can be user-space pointers: not null, upper half below 2^15 and not zero. */
function hasThreePointers(words: Uint32Array, at: number): boolean {
  for (let i = at; i < at + 6; i += 2) {
    const high = words[i + 1]!;
    if (words[i] === 0 || high === 0 || high >= 0x8000) return false;
  }
  return true;
}

const isSystemRoot = (reader: ProcessReader, root: number): boolean =>
  isMemoryRegion(reader, root) && findNameOffset(reader, root, "system") !== undefined;

/**
 * Every AddressSpace of the process, `from` first. The list entry is found by its shape: `tqe_next` leads to another
 * AddressSpace whose `tql_prev` leads back (`include/qemu/queue.h`, QTAILQ).
 */
export function listAddressSpaces(reader: ProcessReader, from: QemuAddressSpace): QemuAddressSpace[] {
  for (let link = LINK_SEARCH.from; link < LINK_SEARCH.to; link += 8) {
    const spaces = followLinks(reader, from, link);
    if (spaces.length > 1) return spaces;
  }
  return [from];
}

function followLinks(reader: ProcessReader, from: QemuAddressSpace, link: number): QemuAddressSpace[] {
  const spaces = [from];
  const seen = new Set([from.address]);
  for (let at = from.address; spaces.length < MAX_ADDRESS_SPACES; ) {
    const next = reader.pointer(at + link);
    if (next === undefined || seen.has(next) || reader.u64(next + link + 8) !== at + link) break;
    const space = readAddressSpace(reader, next);
    // A space may be unnamed for a moment while it is being set up; its root still is a region or null.
    if (space === undefined) break;
    seen.add(next);
    spaces.push(space);
    at = next;
  }
  return spaces;
}

/**
 * The ranges of an AddressSpace's current FlatView, ascending and disjoint as QEMU keeps them.
 * @returns `undefined` when the view is not in the core or breaks that promise
 */
export function readFlatView(reader: ProcessReader, view: number, budget: Budget): FlatRange[] | undefined {
  const ranges = reader.pointer(view + VIEW_RANGES);
  const count = reader.u32(view + VIEW_COUNT);
  const allocated = reader.u32(view + VIEW_ALLOCATED);
  if (ranges === undefined || count === undefined || allocated === undefined) return undefined;
  if (count === 0 || count > allocated || count > MAX_RANGES) return undefined;
  if (!budget.take(count * STRUCTURE)) return undefined;
  const found: FlatRange[] = [];
  let floor = 0;
  for (let i = 0; i < count; i++) {
    const range = readFlatRange(reader, ranges + i * RANGE_SIZE);
    if (range === undefined || range.start < floor) return undefined;
    floor = range.start + range.size;
    found.push(range);
  }
  return found;
}

function readFlatRange(reader: ProcessReader, at: number): FlatRange | undefined {
  const region = reader.pointer(at);
  const offsetInRegion = reader.u64(at + 8);
  const start = reader.u64(at + 16);
  const size = reader.u64(at + 32);
  const high = (reader.u64(at + 24) ?? 1) + (reader.u64(at + 40) ?? 1);
  if (region === undefined || offsetInRegion === undefined || start === undefined || size === undefined) {
    return undefined;
  }
  if (high !== 0 || size === 0 || !Number.isSafeInteger(start + size + offsetInRegion)) return undefined;
  if (qomType(reader, region) === undefined) return undefined;
  return {
    region,
    offsetInRegion,
    start,
    size,
    readonly: reader.u8(at + RANGE_READONLY) === 1,
    nonvolatile: reader.u8(at + RANGE_NONVOLATILE) === 1,
  };
}
