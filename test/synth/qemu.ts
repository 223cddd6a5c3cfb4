import { describeElf, type ElfSpec } from "./elf.ts";
import { random, seedOf } from "./pattern.ts";
import {
  byListOrder,
  flatRangesOf,
  linkRam,
  PLAIN,
  placeBlocks,
  ramMappings,
  writeE820,
} from "./qemu-blocks.ts";
import { type CpuPlan, setCpuSpaces, writeCpu } from "./qemu-cpu.ts";
import { LITTER, plantDecoys } from "./qemu-decoys.ts";
import { EXE, EXE_PHNUM, writeExe } from "./qemu-exe.ts";
import { LAYOUTS, type QemuLayout } from "./qemu-layouts.ts";
import { MACHINES } from "./qemu-machines.ts";
import { ObjectWriter } from "./qemu-objects.ts";
import { firmware, longMode, mainRam } from "./qemu-presets.ts";
import { ADDRESSES, Heap, type Region, SyntheticProcess, writeStack } from "./qemu-process.ts";
import { noteBlob, segmentsOf } from "./qemu-segments.ts";
import type { QemuCore, QemuSpec, World } from "./qemu-spec.ts";
import { growTree } from "./qemu-tree.ts";
import { boundariesOf, fileFinder, targetsOf, truthBlock, truthRanges } from "./qemu-truth.ts";

/**
 * The core of an imaginary qemu process: small, with readable addresses, and with a truth to compare against. Shares
 * no code with `src/`; layouts come from measurements (`qemu-layouts.ts`).
 */

const PID = 4242;
const TWO_64 = 1n << 64n;

/** Static variables, relative to the load address. */
const STATICS = {
  cpus: EXE.data + 0x10,
  addressSpaces: EXE.data + 0x40,
  currentMachine: EXE.bss + 0x98,
  e820Table: EXE.bss + 0x38,
  addressSpaceMemory: EXE.bss + 0x1480,
  ramList: EXE.bss + 0x1640,
} as const;

/** Builds the core and says what is in it. @throws Error on a specification that QEMU could not have, such as overlaps */
export function buildQemuCore(spec: QemuSpec = {}): QemuCore {
  const layout = typeof spec.layout === "object" ? spec.layout : LAYOUTS[spec.layout ?? "7.2-debian"];
  const machine = MACHINES[spec.machine ?? "pc"];
  const accel = spec.accel ?? "tcg";
  const exePath = spec.exe ?? "/usr/bin/qemu-system-x86_64";
  const machineType = layout.machineTypes[spec.machine ?? "pc"];
  const blockSpecs = spec.blocks ?? [mainRam(), ...firmware()];
  const vcpuSpecs = spec.vcpus ?? [{}];
  const argv = spec.argv ?? defaultArgv(exePath, spec.machine ?? "pc", accel, vcpuSpecs.length);

  const process = new SyntheticProcess();
  const exe = process.region("exe", ADDRESSES.exe);
  const heapRegion = process.region("heap", ADDRESSES.heap);
  const arenaRegion = process.region("arena", ADDRESSES.arena);
  const stack = process.region("stack", ADDRESSES.stack);
  exe.reserve(EXE.end);
  stack.reserve(0x3000);
  const heap = new Heap(process, heapRegion);
  const arena = new Heap(process, arenaRegion);
  const writer = new ObjectWriter(process, layout, heap, ADDRESSES.exe + EXE.text);
  const addresses = new Map<string, number>([["exe", ADDRESSES.exe]]);
  const statics = Object.fromEntries(
    Object.entries(STATICS).map(([name, offset]) => [name, ADDRESSES.exe + offset]),
  ) as Record<keyof typeof STATICS, number>;

  // The composition tree: / → machine → unattached, and / → objects.
  const root = writer.newObject("container", 0x28, 0);
  const machineObject = writer.newObject(machineType, layout.machineSize, root);
  const unattached = writer.newObject("container", 0x28, machineObject);
  const objects = writer.newObject("container", 0x28, root);
  process.struct(statics.currentMachine, "current_machine").pointer(0, "value", machineObject);

  const system = writer.region({ name: "system", size: TWO_64, parent: unattached });
  const io = writer.region({ name: "io", size: 65_536n, parent: unattached, terminates: true });
  const smm = writer.region({ name: "memory", size: TWO_64, parent: unattached });
  const all = writer.region({ name: "memory", size: TWO_64, parent: unattached, alias: system });
  writer.setSubregions(smm, [{ region: all, addr: 0, priority: 0 }]);
  addresses.set("system", system);

  const blocks = placeBlocks(writer, blockSpecs, { unattached, objects, machineObject });
  linkRam(writer, statics.ramList, blocks);
  for (const { spec: block, address, region } of blocks) {
    addresses.set(`block:${block.idstr}`, address);
    addresses.set(`region:${block.idstr}`, region);
  }
  const devices = machine.mmio.map(({ name, gpa, size, priority }) => {
    const region = writer.region({ name, size: BigInt(size), parent: unattached, terminates: true });
    return { region, gpa, size, priority };
  });
  // Without a tree "system" is empty: only the FlatView tells the layout.
  if (spec.regionTree ?? spec.flatRanges === undefined) growTree(writer, system, unattached, blocks, devices);

  const own = flatRangesOf(blocks, devices, accel);
  const ranges = [...(spec.flatRanges?.(own) ?? own)];
  const view = writer.flatView(arena, ranges, system);
  const ioPorts = { region: io, offsetInRegion: 0, start: 0n, size: 65_536n, ...PLAIN };
  const ioView = writer.flatView(arena, [ioPorts], io, "FlatView(io)");
  const emptyView = writer.flatView(heap, [], 0, "FlatView(empty)");
  addresses.set("flatview", view);
  addresses.set("flatranges", Number(process.read(view + 24, 8).readBigUInt64LE()));
  addresses.set("empty_view", emptyView);

  const memorySpace = writer.addressSpace(statics.addressSpaceMemory, "memory", system, view);
  const ioSpace = writer.addressSpace(statics.addressSpaceMemory + layout.spaceStride, "I/O", io, ioView);
  addresses.set("address_space_memory", memorySpace);
  addresses.set("address_space_io", ioSpace);
  const spaces = [memorySpace, ioSpace];

  const cpuPlans = vcpuSpecs.map(
    (vcpu, index): CpuPlan => ({
      index,
      typeName: vcpu.type ?? (accel === "kvm" ? "host-x86_64-cpu" : "qemu64-x86_64-cpu"),
      parent: unattached,
      registers: vcpu.registers ?? longMode(index),
      halted: vcpu.halted ?? false,
      dirty: vcpu.dirty ?? false,
      lazyFlags: vcpu.lazyFlags ?? false,
      tcg: accel === "tcg",
      systemRegion: system,
    }),
  );
  const cpus = cpuPlans.map((plan) => {
    const { index } = plan;
    const { cpu, env } = writeCpu(writer, plan);
    const own = [writer.newAddressSpace(`cpu-memory-${index}`, system, view)];
    // Under KVM, SMM has one address space for the whole machine, which is not in cpu_ases.
    if (accel === "tcg") {
      own.push(
        writer.newAddressSpace(`cpu-smm-${index}`, smm, writer.flatView(arena, ranges, smm, "FlatView(smm)")),
      );
    }
    spaces.push(...own);
    addresses.set(`cpu:${index}`, cpu);
    addresses.set(`env:${index}`, env);
    addresses.set(`cpu-memory-${index}`, own[0]!);
    addresses.set(`cpu_ases:${index}`, setCpuSpaces(writer, cpu, index, own));
    return { cpu, env };
  });
  writer.linkCpus(
    statics.cpus,
    cpus.map(({ cpu }) => cpu),
  );
  if (accel === "kvm") {
    const smram = writer.region({ name: "mem-container-smram", size: TWO_64, parent: unattached });
    spaces.push(writer.newAddressSpace("KVM-SMRAM", smram, emptyView));
  }
  for (const { name, busMaster } of machine.spaces) {
    const bus = writer.region({ name: "bus master container", size: TWO_64, parent: unattached });
    spaces.push(writer.newAddressSpace(name, bus, busMaster ? view : emptyView));
  }
  writer.linkSpaces(statics.addressSpaces, spaces);
  writeE820(process, heap, statics.e820Table, blocks);
  addresses.set("ram_list", statics.ramList);
  addresses.set("cpus", statics.cpus);
  addresses.set("current_machine", statics.currentMachine);

  const buildId = random(seedOf(layout.name)).bytes(20);
  writeExe(process, ADDRESSES.exe, buildId, exportsOf(layout));
  const initial = writeStack(process, ADDRESSES.stack + 0x3000, argv, {
    path: exePath,
    phdr: ADDRESSES.exe + 64,
    phnum: EXE_PHNUM,
    entry: ADDRESSES.exe + EXE.entry,
  });
  const contents = new Map(blocks.map(({ spec: block, bytes }) => [block.idstr, bytes]));
  const world: World = { process, layout, writer, heap, arena, addresses, ranges, cpuPlans, contents };
  plantDecoys(world, spec.decoys ?? LITTER);
  spec.patch?.(world);
  heap.seal();
  arena.seal();

  const flavour = spec.flavour ?? "kernel";
  const mapped = { exe, heap: heapRegion, arena: arenaRegion, stack } satisfies Record<string, Region>;
  const vcpuCount = accel === "kvm" ? vcpuSpecs.length : 0;
  const standard = segmentsOf(flavour, mapped, ramMappings(blocks), {
    kvmVcpus: vcpuCount,
    translates: accel === "tcg",
  });
  const segments = [...(spec.arrange?.(standard) ?? standard)];
  const notes = noteBlob(flavour, {
    pid: PID,
    exe: exePath,
    argv,
    auxv: initial.auxv,
    threads: 2 + vcpuSpecs.length,
    kvmVcpus: vcpuCount,
    files: blocks.flatMap(({ spec: { file, size }, host }) =>
      file === undefined ? [] : [{ start: host, end: host + size, fileOffset: 0, path: file }],
    ),
  });
  const gdb = flavour === "gcore";
  const file = {
    notes: Buffer.concat(spec.notes?.(notes) ?? notes),
    ...(gdb ? GDB_ELF : {}),
    ...spec.elf,
    segments,
  };
  const { core, layout: elf } = describeElf(file);
  const finder = fileFinder(segments, elf, core.length);
  return {
    core,
    file,
    truth: {
      layout,
      machineType,
      accel,
      exe: {
        path: exePath,
        base: ADDRESSES.exe,
        end: ADDRESSES.exe + EXE.end,
        buildId: buildId.toString("hex"),
      },
      argv,
      pid: PID,
      blocks: byListOrder(blocks).map((block) => truthBlock(block, finder)),
      ranges: truthRanges(blocks, ranges, finder),
      vcpus: cpuPlans.map(({ index, typeName, registers, halted, dirty }) => ({
        index,
        type: typeName,
        cpuAddress: cpus[index]!.cpu,
        envAddress: cpus[index]!.env,
        registers,
        halted,
        dirty,
      })),
      addresses,
      segments,
      elf,
      targets: targetsOf(process, finder),
      boundaries: boundariesOf(core, elf, segments, addresses, finder),
      fileOffset: finder.offset,
    },
  };
}

const GDB_ELF: Partial<ElfSpec> = {
  notesAt: "end",
  noteHeader: { flags: 4, align: 1 },
  dataAlign: 1,
  sections: "gdb",
};

const defaultArgv = (exe: string, machine: string, accel: string, vcpus: number): string[] => [
  ...[exe, "-name", "synth", "-nodefaults", "-display", "none", "-machine", `${machine},accel=${accel}`],
  ...["-m", "128K", "-smp", String(vcpus), "-kernel", "a long argument that NT_PRPSINFO has no room for"],
];

function exportsOf(layout: QemuLayout) {
  const all: Readonly<Record<string, readonly [value: number, size: number]>> = {
    ram_list: [STATICS.ramList, 0x68],
    address_space_memory: [STATICS.addressSpaceMemory, layout.spaceStride - 8],
    address_space_io: [STATICS.addressSpaceMemory + layout.spaceStride, layout.spaceStride - 8],
    cpus: [STATICS.cpus, 16],
    cpus_queue: [STATICS.cpus, 16],
    current_machine: [STATICS.currentMachine, 8],
    e820_table: [STATICS.e820Table, 8],
  };
  return layout.exports.map((name) => ({ name, value: all[name]![0], size: all[name]![1] }));
}
