import { alignDown, alignUp, PAGE_SIZE } from "../core/address.ts";
import { indexAtOrAbove, type Range } from "../core/ranges.ts";
import type { Warning } from "../core/warnings.ts";
import type { FlatRange } from "./address-space.ts";
import { type Budget, STRUCTURE } from "./budget.ts";
import {
  findBlockOffsets,
  listBlocks,
  type MemoryOffsets,
  type MemoryRegion,
  type RamBlock,
  readBlock,
  readRegion,
  unreadableBlock,
} from "./memory.ts";
import type { ProcessReader } from "./reader.ts";
import { pluggedParts } from "./virtio-mem.ts";

/**
 * What a range of guest-physical memory is to the guest: RAM; ROM (firmware, or RAM write-protected by the chipset's
 * PAM registers); memory of a device (video memory, ivshmem); or non-volatile memory (an NVDIMM).
 */
type RangeKind = "ram" | "rom" | "device" | "nonvolatile";

/** A range of guest-physical addresses backed by a RAMBlock. */
export interface LayoutRange {
  readonly start: number;
  readonly end: number;
  readonly kind: RangeKind;
  readonly block: RamBlock;
  readonly blockOffset: number;
  /** Whether the block is a memory backend's, which may have its own `dump=off`. */
  readonly backend: boolean;
  /** The backend's `dump` property; undefined where there is no backend or it cannot be read. */
  readonly dump: boolean | undefined;
}

export interface MemoryLayout {
  /** Ascending, disjoint, page-aligned. */
  readonly ranges: readonly LayoutRange[];
  /** Every RAMBlock of the process, mapped or not. */
  readonly blocks: readonly RamBlock[];
  readonly warnings: readonly Warning[];
}

/** QOM types whose memory regions are the machine's RAM: `-m` and every memory device go through one since QEMU 5.0. */
const isMemoryBackend = (type: string | undefined): boolean => type?.startsWith("memory-backend-") === true;

/** What virtio-mem plugs in pieces counts one by one; 1 TiB of which every other block of 2 MiB is plugged. */
const MAX_PIECES = 2 ** 18;

/**
 * Turns the system FlatView into ranges of guest memory; MMIO ranges have no RAMBlock and drop out.
 * @returns `undefined` when none has, or when it is in more pieces than any machine's
 */
export function layoutOf(
  reader: ProcessReader,
  view: readonly FlatRange[],
  regionName: number,
  budget: Budget,
): MemoryLayout | undefined {
  const offsets = calibrate(reader, view, regionName, budget);
  if (offsets === undefined || !budget.take(view.length * STRUCTURE)) return undefined;
  const plugged: PluggedCache = new Map();
  const ranges: LayoutRange[] = [];
  for (const range of view) {
    for (const piece of toLayoutRanges(reader, range, offsets, plugged, budget)) {
      if (ranges.push(piece) > MAX_PIECES) return undefined;
    }
  }
  const first = ranges.find(({ block }) => block.readable);
  return {
    ranges: joinRanges(ranges),
    blocks: first === undefined ? [] : listBlocks(reader, first.block.address, offsets),
    warnings: [...plugged.values()].includes("unreadable") ? [UNREADABLE_BITMAP] : [],
  };
}

function calibrate(
  reader: ProcessReader,
  view: readonly FlatRange[],
  regionName: number,
  budget: Budget,
): MemoryOffsets | undefined {
  for (const { region } of view) {
    if (!budget.take(STRUCTURE)) return undefined;
    const offsets = findBlockOffsets(reader, region);
    if (offsets !== undefined) return { regionName, ...offsets };
  }
  return undefined;
}

function* toLayoutRanges(
  reader: ProcessReader,
  range: FlatRange,
  offsets: MemoryOffsets,
  cache: PluggedCache,
  budget: Budget,
): Generator<LayoutRange> {
  const region = readRegion(reader, range.region, offsets);
  if (region?.block === undefined || region.ramDevice || !(region.ram || region.romDevice)) return;
  const rangeEnd = range.offsetInRegion + range.size;
  const block = blockOf(reader, region, region.block, rangeEnd, offsets);
  const backend = isMemoryBackend(region.owner?.type);
  const search = backend && block.readable;
  const plugged = search ? pluggedOf(reader, region, block, offsets, cache, budget) : undefined;
  const kind = kindOf(range, region, block, backend, plugged !== undefined);
  const dump = backend ? dumpProperty(reader, region, block) : undefined;
  const base = range.start - range.offsetInRegion;
  const parts: readonly Range[] = Array.isArray(plugged) ? plugged : [{ start: 0, end: block.maxLength }];
  for (let i = indexAtOrAbove(parts, range.offsetInRegion); i < parts.length; i++) {
    const part = parts[i]!;
    if (part.start >= rangeEnd) break;
    const start = alignUp(Math.max(range.start, base + part.start), PAGE_SIZE);
    const end = alignDown(Math.min(range.start + range.size, base + part.end), PAGE_SIZE);
    if (start < end) yield { start, end, kind, block, blockOffset: start - base, backend, dump };
  }
}

/** The region's block; region and block point at each other, or the block is not to be believed. */
function blockOf(
  reader: ProcessReader,
  region: MemoryRegion,
  address: number,
  end: number,
  offsets: MemoryOffsets,
): RamBlock {
  const mutual = reader.u64(address + offsets.blockRegion) === region.address;
  const block = mutual ? readBlock(reader, address, offsets) : undefined;
  return block === undefined || end > block.maxLength ? unreadableBlock(region, end) : block;
}

const UNREADABLE_BITMAP: Warning = {
  code: "LAY002",
  message: "a virtio-mem device does not say which of its memory is plugged: all of it is taken for plugged",
};

/** Plugged parts by region: several FlatRanges show one region. */
type PluggedCache = Map<number, Plugged>;
type Plugged = ReturnType<typeof pluggedParts>;
/** QEMU has slots for 256 memory devices. */
const MAX_BACKENDS = 512;

/** The parts of a region that virtio-mem plugged; `undefined` when the region is none of virtio-mem's. */
function pluggedOf(
  reader: ProcessReader,
  { address, owner }: MemoryRegion,
  { usedLength }: RamBlock,
  { regionName }: MemoryOffsets,
  cache: PluggedCache,
  budget: Budget,
): Plugged {
  if (owner === undefined || (!cache.has(address) && cache.size >= MAX_BACKENDS)) return undefined;
  if (!cache.has(address)) {
    cache.set(address, pluggedParts(reader, address, regionName, owner.address, usedLength, budget));
  }
  return cache.get(address);
}

/**
 * HostMemoryBackend (`include/sysemu/hostmem.h`): Object (40 bytes), uint64_t size, bool merge, dump, … alike from 5.2 to
 * 11.1. `dump` begins as the machine's dump-guest-core (`backends/hostmem.c` host_memory_backend_init).
 */
const BACKEND_SIZE = 40;
const BACKEND_MERGE = 48;
const BACKEND_DUMP = 49;

function dumpProperty(
  reader: ProcessReader,
  { owner }: MemoryRegion,
  { maxLength, readable }: RamBlock,
): boolean | undefined {
  if (owner === undefined || !readable) return undefined;
  const size = reader.u64(owner.address + BACKEND_SIZE) ?? 0;
  const merge = reader.u8(owner.address + BACKEND_MERGE) ?? 2;
  const dump = reader.u8(owner.address + BACKEND_DUMP) ?? 2;
  return size > 0 && size <= maxLength && merge <= 1 && dump <= 1 ? dump === 1 : undefined;
}

function kindOf(
  range: FlatRange,
  region: MemoryRegion,
  block: RamBlock,
  backend: boolean,
  virtioMem: boolean,
): RangeKind {
  if (range.nonvolatile || region.nonvolatile) return "nonvolatile";
  if (range.readonly || region.readonly || region.romDevice) return "rom";
  if (backend) return isPciMemory(block) && !virtioMem ? "device" : "ram";
  // microvm leaves its firmware writable; nobody owns it.
  return region.owner === undefined && FIRMWARE.test(region.name) ? "rom" : "device";
}

const FIRMWARE = /bios|rom|flash/;

/** A block registered for a PCI device carries its address: ivshmem's backend is device memory, not RAM. */
const isPciMemory = ({ idstr }: RamBlock): boolean => /^[0-9a-f]{4}:[0-9a-f]{2}:/.test(idstr);

/** Joins neighbours that are contiguous in the guest and in the same block. */
function joinRanges(ranges: readonly LayoutRange[]): LayoutRange[] {
  const joined: LayoutRange[] = [];
  for (const range of ranges) {
    const last = joined.at(-1);
    const follows =
      last !== undefined &&
      last.end === range.start &&
      last.kind === range.kind &&
      last.block.address === range.block.address &&
      last.blockOffset + (last.end - last.start) === range.blockOffset;
    if (follows) joined[joined.length - 1] = { ...last, end: range.end };
    else joined.push(range);
  }
  return joined;
}
