import { patternBytes, seedOf } from "./pattern.ts";
import type { FlatRangePlan, ObjectWriter } from "./qemu-objects.ts";
import { ADDRESSES, type Heap, type SyntheticProcess } from "./qemu-process.ts";
import type { RamMapping } from "./qemu-segments.ts";
import type { BlockKind, BlockMap, BlockPiece, BlockSpec } from "./qemu-spec.ts";

/** Guest memory: RAMBlocks with their regions and owners, what the guest sees of them, and how they are mapped. */

/** find_ram_offset aligns ram_addr_t to 64 pages. */
const RAM_ADDR_ALIGN = 0x4_0000;
const HOST_STEP = 0x1000_0000;
const RAM_SHARED = 1 << 1;
const RAM_RESIZEABLE = 1 << 2;
const RAM_MIGRATABLE = 1 << 4;
const RAM_GUEST_MEMFD = 1 << 12;

const DEFAULT_OWNERS: Readonly<Record<BlockKind, string | undefined>> = {
  ram: "memory-backend-ram",
  rom: undefined,
  device: "VGA",
  nonvolatile: "memory-backend-file",
  "rom-device": "cfi.pflash01",
  "ram-device": "vfio-pci",
};

export interface PlacedBlock {
  readonly spec: BlockSpec;
  readonly host: number;
  readonly offset: number;
  readonly region: number;
  readonly address: number;
  readonly owner: string | undefined;
  readonly bytes: Buffer;
}

/** Registers of a device at a guest-physical address. */
export interface DeviceRegion {
  readonly region: number;
  readonly gpa: number;
  readonly size: number;
  readonly priority: number;
}

/** Flags of a FlatRange that is neither ROM nor non-volatile nor logged. */
export const PLAIN = { readonly: false, nonvolatile: false, dirtyLogMask: 0 } as const;

/** The last component of the block's name: MemoryRegion.name of a device's memory has no device path. */
const regionName = (idstr: string): string => (idstr.startsWith("/rom@") ? idstr : idstr.split("/").at(-1)!);

export function placeBlocks(
  writer: ObjectWriter,
  specs: readonly BlockSpec[],
  parents: { readonly unattached: number; readonly objects: number; readonly machineObject: number },
): PlacedBlock[] {
  let offset = 0;
  let slot = 0;
  let previousEnd = 0;
  return specs.map((spec) => {
    const host = spec.joinPrevious === true ? previousEnd : (spec.host ?? ADDRESSES.ram + slot++ * HOST_STEP);
    previousEnd = host + spec.size;
    const used = spec.used ?? spec.size;
    const bytes = Buffer.alloc(spec.size);
    bytes.set(
      spec.contents ??
        patternBytes(used, seedOf(spec.idstr), spec.pages === undefined ? {} : { pages: spec.pages }),
    );
    const owner = spec.owner === null ? undefined : (spec.owner ?? defaultOwner(spec));
    const region = blockRegion(writer, spec, owner, parents);
    const resizeable = used < spec.size ? RAM_RESIZEABLE : 0;
    const memfd = spec.guestMemfd === true ? RAM_GUEST_MEMFD : 0;
    const address = writer.block({
      idstr: spec.idstr,
      region,
      host,
      offset,
      usedLength: used,
      maxLength: spec.size,
      flags: RAM_MIGRATABLE | (spec.shared === true ? RAM_SHARED : 0) | resizeable | memfd,
      pageSize: spec.pageSize ?? 4096,
      fd: spec.file === undefined ? -1 : 20 + slot,
    });
    const placed = { spec, host, offset, region, address, owner, bytes };
    offset += Math.ceil(spec.size / RAM_ADDR_ALIGN) * RAM_ADDR_ALIGN;
    return placed;
  });
}

const defaultOwner = (spec: BlockSpec): string | undefined => {
  if (spec.idstr.startsWith("/rom@")) return "fw_cfg_io";
  if (spec.kind !== "ram" || spec.file === undefined) return DEFAULT_OWNERS[spec.kind];
  return spec.file.startsWith("/memfd:") ? "memory-backend-memfd" : DEFAULT_OWNERS.ram;
};

function blockRegion(
  writer: ObjectWriter,
  spec: BlockSpec,
  owner: string | undefined,
  parents: { readonly unattached: number; readonly objects: number; readonly machineObject: number },
): number {
  const plan = {
    name: regionName(spec.idstr),
    size: BigInt(spec.used ?? spec.size),
    ram: spec.kind !== "rom-device",
    readonly: spec.kind === "rom",
    nonvolatile: spec.kind === "nonvolatile",
    romDevice: spec.kind === "rom-device",
    ramDevice: spec.kind === "ram-device",
    terminates: true,
    dirtyLogMask: spec.kind === "device" ? 1 : 0,
  };
  if (owner === undefined) return writer.region({ ...plan, parent: parents.unattached });
  if (!owner.startsWith("memory-backend-")) {
    const place = owner === "fw_cfg_io" ? parents.machineObject : parents.unattached;
    const object = writer.newObject(owner, 0x5d0, place);
    return writer.region({ ...plan, parent: object, owner: object });
  }
  // HostMemoryBackend contains its region.
  const { backendSize, backendRegion } = writer.layout;
  const object = writer.newObject(owner, backendSize, parents.objects);
  const filtered = spec.file !== undefined || (spec.pageSize ?? 4096) > 4096;
  writer.process
    .struct(object, `HostMemoryBackend(${spec.idstr})`)
    .count(40, "size", spec.size)
    .flag(48, "merge", true)
    .flag(49, "dump", spec.backendDump ?? (spec.dump !== false || filtered));
  return writer.region({ ...plan, parent: object, owner: object, at: object + backendRegion });
}

/** ram_list is sorted from the largest block to the smallest. */
export const byListOrder = (blocks: readonly PlacedBlock[]): PlacedBlock[] =>
  [...blocks].sort((a, b) => b.spec.size - a.spec.size);

/** RAMList: mutex 0, mru_block 48, blocks 56, dirty_memory 64, version 88. */
export function linkRam(writer: ObjectWriter, ramList: number, blocks: readonly PlacedBlock[]): void {
  const order = byListOrder(blocks).map(({ address }) => address);
  writer.process
    .struct(ramList, "ram_list")
    .raw(40, 1, 1) // mutex.initialized
    .pointer(48, "mru_block", order[0] ?? 0)
    .raw(88, 4, order.length);
  writer.linkBlocks(ramList + 56, order);
}

/** Bytes of a part: the rest of the block when not given. */
export const sizeOf = (spec: BlockSpec, part: BlockMap): number =>
  part.size ?? (spec.used ?? spec.size) - (part.offset ?? 0);

export function flatRangesOf(
  blocks: readonly PlacedBlock[],
  mmio: readonly DeviceRegion[],
  accel: "tcg" | "kvm" | "xen",
): FlatRangePlan[] {
  const ram = blocks.flatMap(({ spec, region }) =>
    spec.map.map((part) => ({
      region,
      offsetInRegion: part.offset ?? 0,
      start: BigInt(part.gpa),
      size: BigInt(sizeOf(spec, part)),
      readonly: part.readonly === true || spec.kind === "rom",
      nonvolatile: spec.kind === "nonvolatile",
      // DIRTY_MEMORY_CODE under TCG, DIRTY_MEMORY_VGA for video memory.
      dirtyLogMask: (accel === "tcg" ? 2 : 0) | (spec.kind === "device" ? 1 : 0),
    })),
  );
  const devices = mmio.map(({ region, gpa, size }) => {
    return { region, offsetInRegion: 0, start: BigInt(gpa), size: BigInt(size), ...PLAIN };
  });
  const all = [...ram, ...devices].sort((a, b) => (a.start < b.start ? -1 : 1));
  for (const [i, range] of all.entries()) {
    const next = all[i + 1];
    if (next !== undefined && next.start < range.start + range.size) {
      throw new Error(`FlatRanges overlap at 0x${next.start.toString(16)}`);
    }
  }
  return all;
}

/** Packed {u64 address, u64 length, u32 type} of the main RAM. */
export function writeE820(
  process: SyntheticProcess,
  heap: Heap,
  pointer: number,
  blocks: readonly PlacedBlock[],
): void {
  const parts = blocks.flatMap(({ spec }) =>
    spec.kind === "ram" ? spec.map.map((part) => ({ spec, part })) : [],
  );
  const table = heap.alloc(Math.max(1, parts.length) * 20);
  process.put(pointer, 8, table);
  for (const [i, { spec, part }] of parts.entries()) {
    process.put(table + i * 20, 8, part.gpa);
    process.put(table + i * 20 + 8, 8, sizeOf(spec, part));
    process.put(table + i * 20 + 16, 4, 1);
  }
}

/** Blocks that lie together form one mapping; its PT_LOADs are those of its first block. */
export function ramMappings(blocks: readonly PlacedBlock[]): RamMapping[] {
  const mappings: { name: string; host: number; bytes: Buffer; pieces: BlockPiece[] }[] = [];
  for (const { spec, host, bytes } of blocks) {
    const last = mappings.at(-1);
    if (spec.joinPrevious !== true || last === undefined) {
      mappings.push({ name: spec.idstr, host, bytes, pieces: piecesOf(spec) });
    } else {
      const pieces = [{ size: last.bytes.length + bytes.length }];
      mappings[mappings.length - 1] = { ...last, bytes: Buffer.concat([last.bytes, bytes]), pieces };
    }
  }
  return mappings;
}

function piecesOf(spec: BlockSpec): BlockPiece[] {
  if (spec.pieces !== undefined) return [...spec.pieces];
  const cuts = [0, ...(spec.split ?? []), spec.size];
  return cuts.slice(1).map((end, i) => {
    const size = end - cuts[i]!;
    return spec.dump === false ? { size, filesz: 0 } : { size };
  });
}
