import { qomType } from "./qom.ts";
import type { ProcessReader } from "./reader.ts";

/**
 * QEMU's memory API as it lies in a process: MemoryRegion, RAMBlock, FlatView, AddressSpace
 * (`include/exec/memory.h`, `include/exec/ramblock.h`, `system/memory.c`). Members keep their order from QEMU 5.2 to
 * current while their offsets move by build options, so offsets are found by what they point at.
 */

/** Where the members of this build's structures are, in bytes. Found once per process, by `calibrate…`. */
export interface MemoryOffsets {
  /** MemoryRegion.name. */
  readonly regionName: number;
  /** MemoryRegion.ram_block; `owner` follows it. */
  readonly regionBlock: number;
  /** RAMBlock.mr; host, colo_cache, offset, used_length, max_length, resized, flags, idstr follow it. */
  readonly blockRegion: number;
}

const NAME_SEARCH = { from: 160, to: 360 } as const;
const BLOCK_SEARCH = { from: 40, to: 128 } as const;
const BLOCK_REGION_SEARCH = { from: 8, to: 64 } as const;

/** MemoryRegion: `ram`, `readonly`, `nonvolatile`, `rom_device` follow the Object and `romd_mode`. */
const REGION_RAM = 41;
const REGION_READONLY = 43;
const REGION_NONVOLATILE = 44;
const REGION_ROM_DEVICE = 45;
/** `ram_device` is found from the name: nothing between them has changed size since 5.2. */
const RAM_DEVICE_BEFORE_NAME = 79;

/** RAMBlock members, from `mr` on. */
const BLOCK_HOST = 8;
const BLOCK_OFFSET = 24;
const BLOCK_USED = 32;
const BLOCK_MAX = 40;
const BLOCK_FLAGS = 56;
const BLOCK_IDSTR = 60;
const IDSTR_SIZE = 256;
/** QLIST_ENTRY {le_next, le_prev} after idstr, 8-aligned. */
const BLOCK_NEXT = 320;
/** `page_size` lies a few words behind the list entry. */
const PAGE_SIZE_SEARCH = { from: 336, to: 408 } as const;
const PAGE_SIZES: ReadonlySet<number> = new Set([4096, 2 ** 16, 2 ** 21, 2 ** 30]);

/** RAM_SHARED, RAM_GUEST_MEMFD (since 9.1; RAM_GUEST_MEMFD_PRIVATE later): `include/exec/memory.h`. */
const RAM_SHARED = 1 << 1;
const RAM_GUEST_MEMFD = 1 << 12;

/** 256 DIMMs, a few dozen ROMs and device memories: QEMU cannot have more. */
const MAX_BLOCKS = 4096;
/** No machine maps more: guest-physical addresses have 52 bits. */
const MAX_BLOCK_SIZE = 2 ** 52;

/** One RAMBlock: guest memory that lies contiguous in the process. */
export interface RamBlock {
  readonly address: number;
  /** "pc.ram", the id of a memory backend, "pc.bios" …; the region's name where QEMU gave none (virtio-pmem). */
  readonly idstr: string;
  /** Address in the process. */
  readonly host: number;
  /** ram_addr_t: where `info ramblock` puts it. */
  readonly offset: number;
  readonly usedLength: number;
  readonly maxLength: number;
  readonly shared: boolean;
  /** Whether a guest_memfd backs it too: pages that a confidential guest made private are in that alone. */
  readonly guestMemfd: boolean;
  /** Page size of the backing: 4096, or that of its hugetlbfs. */
  readonly pageSize: number;
  /** False when the structure is not in the core or damaged: then only the size, from the region, is known. */
  readonly readable: boolean;
}

export interface MemoryRegion {
  readonly address: number;
  readonly name: string;
  readonly ram: boolean;
  readonly readonly: boolean;
  readonly nonvolatile: boolean;
  readonly romDevice: boolean;
  /** Memory of a passed-through device (VFIO): reading it has effects, QEMU never dumps it. */
  readonly ramDevice: boolean;
  readonly block: number | undefined;
  /** The owner's address and QOM type, e.g. "memory-backend-ram", "VGA". */
  readonly owner: { readonly address: number; readonly type: string } | undefined;
}

/** TYPE_MEMORY_REGION was "qemu:memory-region" up to QEMU 5.2; IOMMUs have a subtype. */
export const isMemoryRegion = (reader: ProcessReader, address: number): boolean =>
  qomType(reader, address)?.name.endsWith("memory-region") === true;

/** Offset of MemoryRegion.name, from a region whose name is known. */
export function findNameOffset(reader: ProcessReader, region: number, name: string): number | undefined {
  for (let offset = NAME_SEARCH.from; offset < NAME_SEARCH.to; offset += 8) {
    const at = reader.u64(region + offset);
    if (at !== undefined && reader.string(at) === name) return offset;
  }
  return undefined;
}

/** Offsets of MemoryRegion.ram_block and RAMBlock.mr, from a RAM region: the two point at each other. */
export function findBlockOffsets(
  reader: ProcessReader,
  region: number,
): Pick<MemoryOffsets, "regionBlock" | "blockRegion"> | undefined {
  for (let regionBlock = BLOCK_SEARCH.from; regionBlock < BLOCK_SEARCH.to; regionBlock += 8) {
    const block = reader.pointer(region + regionBlock);
    if (block === undefined) continue;
    for (let mr = BLOCK_REGION_SEARCH.from; mr < BLOCK_REGION_SEARCH.to; mr += 8) {
      if (reader.u64(block + mr) !== region) continue;
      const offsets = { regionName: 0, regionBlock, blockRegion: mr };
      if (readBlock(reader, block, offsets) !== undefined) return { regionBlock, blockRegion: mr };
    }
  }
  return undefined;
}

export function readRegion(
  reader: ProcessReader,
  address: number,
  offsets: MemoryOffsets,
): MemoryRegion | undefined {
  if (!isMemoryRegion(reader, address)) return undefined;
  const nameAt = reader.u64(address + offsets.regionName);
  const owner = reader.pointer(address + offsets.regionBlock + 8);
  const flag = (offset: number) => reader.u8(address + offset) === 1;
  return {
    address,
    name: (nameAt === undefined ? undefined : reader.string(nameAt)) ?? "",
    ram: flag(REGION_RAM),
    readonly: flag(REGION_READONLY),
    nonvolatile: flag(REGION_NONVOLATILE),
    romDevice: flag(REGION_ROM_DEVICE),
    ramDevice: flag(offsets.regionName - RAM_DEVICE_BEFORE_NAME),
    block: reader.pointer(address + offsets.regionBlock),
    owner: owner === undefined ? undefined : ownerAt(reader, owner),
  };
}

function ownerAt(reader: ProcessReader, address: number): MemoryRegion["owner"] {
  const type = qomType(reader, address)?.name;
  return type === undefined ? undefined : { address, type };
}

/** The RAMBlock at `address`, or `undefined` when its members cannot be those of one. */
export function readBlock(
  reader: ProcessReader,
  address: number,
  offsets: MemoryOffsets,
): RamBlock | undefined {
  const at = address + offsets.blockRegion;
  const host = reader.u64(at + BLOCK_HOST);
  const offset = reader.u64(at + BLOCK_OFFSET);
  const usedLength = reader.u64(at + BLOCK_USED);
  const maxLength = reader.u64(at + BLOCK_MAX);
  const flags = reader.u32(at + BLOCK_FLAGS);
  const idstr = readIdstr(reader, at, offsets);
  if (host === undefined || offset === undefined || usedLength === undefined || maxLength === undefined) {
    return undefined;
  }
  if (flags === undefined || idstr === undefined) return undefined;
  const sane = host % 4096 === 0 && offset % 4096 === 0 && usedLength > 0 && usedLength <= maxLength;
  if (!sane || maxLength > MAX_BLOCK_SIZE || !Number.isFinite(host + maxLength)) return undefined;
  return {
    address,
    idstr,
    host,
    offset,
    usedLength,
    maxLength,
    shared: (flags & RAM_SHARED) !== 0,
    guestMemfd: (flags & RAM_GUEST_MEMFD) !== 0,
    pageSize: readPageSize(reader, at, host, maxLength),
    readable: true,
  };
}

function readIdstr(reader: ProcessReader, at: number, offsets: MemoryOffsets): string | undefined {
  if (reader.u8(at + BLOCK_IDSTR) !== 0) return reader.string(at + BLOCK_IDSTR, IDSTR_SIZE - 1);
  const region = reader.u64(at) ?? 0;
  const nameAt = reader.u64(region + offsets.regionName);
  return (nameAt === undefined ? undefined : reader.string(nameAt)) ?? "unnamed";
}

/** Stands for the block of a RAM region whose RAMBlock cannot be read: all of it is absent. */
export const unreadableBlock = (region: MemoryRegion, size: number): RamBlock => ({
  address: region.address,
  idstr: region.name === "" ? "unnamed" : region.name,
  host: 0,
  offset: 0,
  usedLength: size,
  maxLength: size,
  shared: false,
  guestMemfd: false,
  pageSize: 4096,
  readable: false,
});

/** The last word that is a page size: `fd_offset`, which may be one by chance, lies in front (QEMU ≥ 8.1). */
function readPageSize(reader: ProcessReader, at: number, host: number, length: number): number {
  let pageSize = 4096;
  for (let offset = PAGE_SIZE_SEARCH.from; offset < PAGE_SIZE_SEARCH.to; offset += 8) {
    const value = reader.u64(at + offset);
    if (value !== undefined && PAGE_SIZES.has(value)) pageSize = value;
  }
  return host % pageSize === 0 && length % pageSize === 0 ? pageSize : 4096;
}

/**
 * Every RAMBlock of the process in list order, from any one of them: QLIST_ENTRY {le_next, le_prev}, where le_prev
 * points at the le_next (or list head) that points here.
 */
export function listBlocks(reader: ProcessReader, from: number, offsets: MemoryOffsets): RamBlock[] {
  const seen = new Set<number>();
  const collect = (start: number | undefined, step: (block: number) => number | undefined): RamBlock[] => {
    const found: RamBlock[] = [];
    for (let at = start; at !== undefined && !seen.has(at) && seen.size < MAX_BLOCKS; at = step(at)) {
      seen.add(at);
      const block = readBlock(reader, at, offsets);
      if (block !== undefined) found.push(block);
    }
    return found;
  };
  const next = offsets.blockRegion + BLOCK_NEXT;
  // An entry that leads back is one of the list, even where the block itself is odd.
  const following = (block: number): number | undefined => {
    const other = reader.pointer(block + next);
    return other === undefined || reader.u64(other + next + 8) !== block + next ? undefined : other;
  };
  const forward = collect(from, following);
  const previous = (block: number): number | undefined => {
    const link = reader.pointer(block + next + 8);
    return link === undefined || reader.u64(link) !== block ? undefined : link - next;
  };
  return [...collect(previous(from), previous).reverse(), ...forward];
}
