import type { QemuLayout } from "./qemu-layouts.ts";
import type { Heap, SyntheticProcess } from "./qemu-process.ts";

/**
 * Writes QEMU's objects into the process: QOM (`include/qom/object.h`) and the memory API (`include/exec/memory.h`,
 * `ramblock.h`, `system/memory.c`).
 */

export interface RegionPlan {
  readonly name: string;
  readonly size: bigint;
  /** Object that contains it in the composition tree. */
  readonly parent: number;
  readonly owner?: number | undefined;
  readonly ram?: boolean;
  readonly readonly?: boolean;
  readonly nonvolatile?: boolean;
  readonly romDevice?: boolean;
  readonly ramDevice?: boolean;
  readonly terminates?: boolean;
  readonly dirtyLogMask?: number;
  /** Default true. */
  readonly enabled?: boolean;
  readonly alias?: number;
  readonly aliasOffset?: number;
  /** Where to write it, when it is part of another object. */
  readonly at?: number;
}

/** A region inside a container. */
export interface Subregion {
  readonly region: number;
  /** Relative to the container. */
  readonly addr: number;
  readonly priority: number;
}

export interface BlockPlan {
  readonly idstr: string;
  readonly region: number;
  readonly host: number;
  readonly offset: number;
  readonly usedLength: number;
  readonly maxLength: number;
  readonly flags: number;
  readonly pageSize: number;
  readonly fd: number;
}

export interface FlatRangePlan {
  readonly region: number;
  readonly offsetInRegion: number;
  readonly start: bigint;
  readonly size: bigint;
  readonly readonly: boolean;
  readonly nonvolatile: boolean;
  readonly dirtyLogMask: number;
}

/** Offsets that every version shares. */
const RAMBLOCK_SIZE = 432;
const SPACE_LINK = 72;
export class ObjectWriter {
  readonly process: SyntheticProcess;
  readonly layout: QemuLayout;
  readonly heap: Heap;
  /** Code addresses in the executable, for function pointers. */
  readonly text: number;
  private readonly classes = new Map<string, number>();

  constructor(process: SyntheticProcess, layout: QemuLayout, heap: Heap, text: number) {
    this.process = process;
    this.layout = layout;
    this.heap = heap;
    this.text = text;
  }

  /** ObjectClass of a type, made when first asked for: class → TypeImpl {name, class_size, instance_size, …}. */
  classOf(name: string, instanceSize: number, classSize = 0x60): number {
    const known = this.classes.get(name);
    if (known !== undefined) return known;
    const type = this.heap.alloc(112);
    this.process
      .struct(type, `TypeImpl(${name})`)
      .pointer(0, "name", this.heap.string(name))
      .length(8, "class_size", classSize)
      .length(16, "instance_size", instanceSize)
      .raw(32, 8, this.text + 0x120);
    const objectClass = this.heap.alloc(classSize);
    this.process
      .struct(objectClass, `ObjectClass(${name})`)
      .pointer(0, "type", type)
      .raw(80, 8, this.text + 0x80);
    this.classes.set(name, objectClass);
    return objectClass;
  }

  /** Fills the Object head {class, free, properties, ref, parent} of an instance. */
  object(address: number, type: string, instanceSize: number, parent: number, classSize?: number): number {
    this.process
      .struct(address, type)
      .pointer(0, "class", this.classOf(type, instanceSize, classSize))
      .raw(8, 8, this.text + 0x40)
      .raw(16, 8, this.heap.alloc(64))
      .raw(24, 4, 3)
      .pointer(32, "parent", parent);
    return address;
  }

  newObject(type: string, size: number, parent: number): number {
    return this.object(this.heap.alloc(size), type, size, parent);
  }

  region(plan: RegionPlan): number {
    const at = this.layout.region;
    const address = this.object(
      plan.at ?? this.heap.alloc(at.instanceSize),
      this.layout.regionType,
      at.instanceSize,
      plan.parent,
    );
    const region = this.process
      .struct(address, `MemoryRegion(${plan.name})`)
      .raw(40, 1, 1) // romd_mode
      .flag(41, "ram", plan.ram === true)
      .flag(43, "readonly", plan.readonly === true)
      .flag(44, "nonvolatile", plan.nonvolatile === true)
      .flag(45, "rom_device", plan.romDevice === true)
      .raw(47, 1, plan.dirtyLogMask ?? 0)
      .pointer(64, "owner", plan.owner ?? 0)
      .raw(at.ops, 8, this.text + 0x200)
      .int128(at.size, "size", plan.size)
      .raw(at.destructor, 8, this.text + 0x280)
      .raw(at.align, 8, plan.ram === true ? 0x20_0000 : 0)
      .flag(at.terminates, "terminates", plan.terminates === true)
      .flag(at.terminates + 1, "ram_device", plan.ramDevice === true)
      .flag(at.terminates + 2, "enabled", plan.enabled !== false)
      .pointer(at.alias, "alias", plan.alias ?? 0)
      .length(at.aliasOffset, "alias_offset", plan.aliasOffset ?? 0)
      .pointer(at.name, "name", this.heap.string(plan.name, true));
    // Empty QTAILQs: tql_prev points at their own head.
    region.raw(at.subregions + 8, 8, address + at.subregions);
    region.raw(at.coalesced + 8, 8, address + at.coalesced);
    if (at.mappedViaAlias !== undefined) region.raw(at.mappedViaAlias, 4, plan.alias === undefined ? 0 : 1);
    return address;
  }

  /** Puts regions into a container: highest priority first, and of equals the last given first, as QEMU does. */
  setSubregions(container: number, children: readonly Subregion[]): void {
    const at = this.layout.region;
    for (const { region, addr, priority } of children) {
      this.process
        .struct(region, "MemoryRegion")
        .pointer(at.container, "container", container)
        .length(at.addr, "addr", addr)
        .raw(at.priority, 4, priority);
    }
    const order = [...children].reverse().sort((a, b) => b.priority - a.priority);
    this.linkTail(
      container + at.subregions,
      order.map(({ region }) => region),
      at.subregionsLink,
      "subregion",
    );
  }

  /** Writes a RAMBlock and points its region at it; `linkBlocks` puts it into the list. */
  block(plan: BlockPlan): number {
    const address = this.heap.alloc(RAMBLOCK_SIZE);
    this.writeBlock(address, plan);
    this.process.struct(plan.region, `MemoryRegion(${plan.idstr})`).pointer(56, "ram_block", address);
    return address;
  }

  writeBlock(address: number, plan: BlockPlan): void {
    const at = this.layout.block;
    const block = this.process
      .struct(address, `RAMBlock(${plan.idstr})`)
      .pointer(16, "mr", plan.region)
      .pointer(24, "host", plan.host)
      .length(40, "offset", plan.offset)
      .length(48, "used_length", plan.usedLength)
      .length(56, "max_length", plan.maxLength)
      .raw(64, 8, plan.usedLength < plan.maxLength ? this.text + 0x300 : 0)
      .count(72, "flags", plan.flags)
      .text(76, "idstr", plan.idstr)
      .raw(at.fd, 4, plan.fd)
      .length(at.pageSize, "page_size", plan.pageSize);
    if (at.cprBlocker !== undefined) block.raw(at.cprBlocker, 8, this.heap.alloc(48));
    if (at.guestMemfd !== undefined) block.raw(at.guestMemfd, 4, -1);
  }

  /** QLIST: le_prev points at the pointer that points here. */
  linkBlocks(head: number, blocks: readonly number[]): void {
    let previous = head;
    for (const [i, block] of blocks.entries()) {
      this.process.struct(previous, "RAMBlock").pointer(0, `link[${i}]`, block);
      this.process.struct(block, "RAMBlock").pointer(344, "le_prev", previous);
      previous = block + 336;
    }
    this.process.put(previous, 8, 0);
  }

  /** FlatView and its FlatRange array (64 bytes each), in the given heap. Without ranges: QEMU's empty view. */
  flatView(heap: Heap, ranges: readonly FlatRangePlan[], root: number, label = "FlatView"): number {
    const address = heap.alloc(56);
    // flatview_insert doubles nr_allocated, from 10.
    let allocated = 10;
    while (allocated < ranges.length) allocated *= 2;
    const array = ranges.length === 0 ? 0 : heap.alloc(allocated * 64);
    const dispatch = heap.alloc(48);
    this.process
      .struct(address, label)
      .raw(16, 4, 2)
      .pointer(24, "ranges", array)
      .count(32, "nr", ranges.length)
      .count(36, "nr_allocated", ranges.length === 0 ? 0 : allocated)
      .pointer(40, "dispatch", dispatch)
      .pointer(48, "root", root);
    for (const [i, range] of ranges.entries()) {
      this.process
        .struct(array + i * 64, `${label}.ranges[${i}]`)
        .pointer(0, "mr", range.region)
        .length(8, "offset_in_region", range.offsetInRegion)
        .int128(16, "start", range.start)
        .int128(32, "size", range.size)
        .raw(48, 1, range.dirtyLogMask)
        .raw(49, 1, 1) // romd_mode
        .flag(50, "readonly", range.readonly)
        .flag(51, "nonvolatile", range.nonvolatile)
        // What was in the array before: the padding is never cleared.
        .raw(52, 4, 0x7e00);
    }
    return address;
  }

  addressSpace(address: number, name: string, root: number, view: number): number {
    const space = this.process
      .struct(address, `AddressSpace(${name})`)
      .pointer(16, "name", this.heap.string(name, true))
      .pointer(24, "root", root)
      .pointer(32, "current_map", view)
      .raw(64, 8, address + 56); // listeners, empty
    if (this.layout.maxBounceBufferSize !== undefined) space.raw(this.layout.maxBounceBufferSize, 8, 4096);
    return address;
  }

  newAddressSpace(name: string, root: number, view: number): number {
    return this.addressSpace(this.heap.alloc(this.layout.spaceStride - 8), name, root, view);
  }

  linkSpaces(head: number, spaces: readonly number[]): void {
    this.linkTail(head, spaces, SPACE_LINK, "AddressSpace");
  }

  linkCpus(head: number, cpus: readonly number[]): void {
    this.linkTail(head, cpus, this.layout.cpu.node, "CPUState");
  }

  /** QTAILQ: {tqh_first, tql_prev = the last link}, and per element {tqe_next, tql_prev = the previous link}. */
  private linkTail(head: number, elements: readonly number[], link: number, label: string): void {
    let previous = head;
    for (const [i, element] of elements.entries()) {
      this.process.struct(previous, label).pointer(0, `tqe_next[${i}]`, element);
      this.process.struct(element + link, label).pointer(8, `tql_prev[${i}]`, previous);
      previous = element + link;
    }
    this.process.put(previous, 8, 0);
    this.process.put(head + 8, 8, previous);
  }
}
