import { PAGE } from "./pattern.ts";
import { writeCpu, writeRegisters } from "./qemu-cpu.ts";
import { EXE } from "./qemu-exe.ts";
import type { FlatRangePlan } from "./qemu-objects.ts";
import { longMode } from "./qemu-presets.ts";
import { ADDRESSES, type Heap } from "./qemu-process.ts";
import type { World } from "./qemu-spec.ts";

/** Things that look like what a reader wants and are not. */
export type Decoy =
  /** Freed FlatViews with FlatRanges of an older memory map; every range passes local checks. */
  | "stale-views"
  /** Freed RAMBlock copies whose region and list neighbours no longer point back. */
  | "freed-blocks"
  /** A freed AddressSpace "memory" of "system" in the heap, whose view was overwritten by malloc. */
  | "stale-space"
  /** Register files of a vCPU outside of any CPU object, in long mode, with other values. */
  | "register-copies"
  /** A freed CPU object and its {cpu, as} pair; malloc overwrote its class. */
  | "freed-cpu"
  /** Pointers to the texts "memory" and "system" in .data that belong to nothing. */
  | "name-noise"
  /** Guest memory that holds such structures too, as a guest that runs QEMU has. */
  | "guest-qemu"
  /** A second, healthy AddressSpace "memory" of a "system" with another map: nobody can tell which is right. */
  | "second-layout";

/** What the heap of every QEMU that ran for a while is full of. */
export const LITTER: readonly Decoy[] = [
  "stale-views",
  "freed-blocks",
  "stale-space",
  "register-copies",
  "freed-cpu",
  "name-noise",
];

/** Every decoy that must not change what a reader finds. */
export const HARMLESS: readonly Decoy[] = [...LITTER, "guest-qemu"];

const PLANTERS: Readonly<Record<Decoy, (world: World) => void>> = {
  "stale-views": plantStaleViews,
  "freed-blocks": plantFreedBlocks,
  "stale-space": plantStaleSpace,
  "register-copies": plantRegisterCopies,
  "freed-cpu": plantFreedCpu,
  "name-noise": plantNameNoise,
  "guest-qemu": plantGuestQemu,
  "second-layout": plantSecondLayout,
};

export function plantDecoys(world: World, decoys: readonly Decoy[]): void {
  for (const decoy of decoys) PLANTERS[decoy](world);
}

/** What free() writes over the first 16 bytes of a chunk: list pointers, here into the arena's bins. */
function freeChunk({ process }: World, address: number): void {
  process.put(address, 8, ADDRESSES.libc + 0x6d10);
  process.put(address + 8, 8, address + 0x400);
}

function plantStaleViews(world: World): void {
  const { writer, arena, addresses, ranges } = world;
  const system = addresses.get("system")!;
  const moved = (by: bigint): FlatRangePlan[] =>
    ranges.map((range) => ({ ...range, start: range.start + by }));
  const merged = ranges.filter((_, i) => i % 2 === 0).map((range) => ({ ...range, readonly: false }));
  for (const [i, old] of [merged, moved(0x100_0000n), ranges.slice(0, -1)].entries()) {
    freeChunk(world, writer.flatView(arena, old, system, `stale FlatView ${i}`));
  }
}

function plantFreedBlocks({ process, heap, addresses, writer }: World): void {
  const blocks = [...addresses].filter(([name]) => name.startsWith("block:")).map(([, address]) => address);
  for (const [i, block] of blocks.slice(0, 3).entries()) {
    const copy = heap.alloc(432);
    process.putBytes(copy, process.read(block, 432));
    // Its region now has the living block, and the neighbours in the list do not know it.
    const region = writer.region({
      name: "freed",
      size: 0x1000n,
      parent: addresses.get("system")!,
      ram: true,
    });
    process
      .struct(copy, `freed RAMBlock ${i}`)
      .pointer(16, "mr", i === 0 ? Number(process.read(block + 16, 8).readBigUInt64LE()) : region)
      .pointer(24, "host", ADDRESSES.ram + 0x0800_0000 + i * 0x10_0000)
      .pointer(336, "next", i === 0 ? 0 : copy)
      .pointer(344, "le_prev", copy + 336);
    if (i === 2) process.put(copy, 8, ADDRESSES.libc + 0x6d10);
  }
}

function plantStaleSpace(world: World): void {
  const { writer, arena, addresses, ranges, process } = world;
  const system = addresses.get("system")!;
  const view = writer.flatView(arena, ranges.slice(0, 1), system, "freed FlatView");
  const space = writer.newAddressSpace("memory", system, view);
  process.put(view + 24, 8, 0x11);
  process.put(view + 32, 8, 0xffff_0000_0000n);
  freeChunk(world, view);
  freeChunk(world, space);
}

function plantRegisterCopies({ writer, heap, arena, cpuPlans, process }: World): void {
  const plan = cpuPlans[0];
  if (plan === undefined) return;
  const other = longMode(0x77);
  const plant = (where: Heap, label: string) => {
    const env = where.alloc(writer.layout.env.star + 256);
    writeRegisters(writer, env, { ...plan, registers: { ...other, rax: 0xdead_dead_dead_deadn } }, label);
    return env;
  };
  plant(heap, "stale CPUX86State");
  const half = plant(arena, "half a CPUX86State");
  // The second lost its control registers to another user of the chunk.
  process.putBytes(half + (writer.layout.env.registerCount - 16) * 8 + 424, Buffer.alloc(64, 0x41));
}

function plantFreedCpu(world: World): void {
  const { writer, heap, addresses, cpuPlans, process } = world;
  const plan = cpuPlans[0];
  if (plan === undefined) return;
  const { cpu } = writeCpu(writer, { ...plan, index: 99, registers: { ...longMode(99), rax: 0xdead_beefn } });
  freeChunk(world, cpu);
  const pair = heap.alloc(writer.layout.cpuSpaceStride);
  process
    .struct(pair, "freed CPUAddressSpace")
    .pointer(0, "cpu", cpu)
    .pointer(8, "as", addresses.get("cpu-memory-0") ?? 0);
}

function plantNameNoise({ process, heap, addresses }: World): void {
  const data = ADDRESSES.exe + EXE.data + 0x400;
  const memory = heap.string("memory", true);
  const system = heap.string("system", true);
  // A name with a region that is not "system", and the two texts where pointers to objects should be.
  const other = [...addresses].find(([name]) => name.startsWith("region:"))?.[1] ?? 0;
  const view = addresses.get("flatview")!;
  for (const [i, words] of [
    [memory, other, view],
    [memory, system, view],
    [system, memory, view],
    [memory, addresses.get("system")!, 0],
  ].entries()) {
    for (const [j, word] of words.entries()) process.put(data + i * 96 + 16 + j * 8, 8, word);
  }
}

function plantGuestQemu({ process, addresses, contents, layout }: World): void {
  const largest = [...contents.values()].sort((a, b) => b.length - a.length)[0];
  if (largest === undefined) return;
  const copy = (page: number, address: number | undefined, size: number) => {
    if (address !== undefined && (page + 1) * PAGE <= largest.length) {
      largest.set(process.read(address, Math.min(size, PAGE - 64)), page * PAGE + 64);
    }
  };
  // The same pointers: they lead out of guest memory to the real structures, as they would in a forked process.
  copy(1, addresses.get("env:0"), layout.env.efer + 64);
  copy(2, addresses.get("address_space_memory"), layout.spaceStride);
  copy(4, addresses.get("flatranges"), 1024);
  copy(5, addresses.get("cpu_ases:0"), layout.cpuSpaceStride);
}

function plantSecondLayout({ writer, arena, addresses, ranges }: World): void {
  const parent = addresses.get("system")!;
  const system = writer.region({ name: "system", size: 1n << 64n, parent });
  const first = ranges[0];
  if (first === undefined) return;
  const moved = [{ ...first, start: 0x2000_0000n }, ...ranges.slice(1).filter((r) => r.start > 0x4000_0000n)];
  const view = writer.flatView(arena, moved, system, "second FlatView");
  const space = ADDRESSES.exe + EXE.bss + 0x2000;
  addresses.set("second_address_space", writer.addressSpace(space, "memory", system, view));
}
