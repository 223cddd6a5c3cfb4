import { describe, expect, test } from "vitest";
import type { PhysicalMemory } from "../src/core/memory.ts";
import { openDump } from "../src/dump/open.ts";
import { MemorySource } from "./support/memory-io.ts";
import { type Block, buildMigration, type Item, type MigrationSpec } from "./synth/migration.ts";
import {
  clock,
  cpuDevice,
  hostBridge,
  SHADOWED,
  type SynthCpu,
  type SynthSegment,
} from "./synth/migration-devices.ts";
import { patternPage } from "./synth/pattern.ts";

const PAGE = 4096;
const MiB = 2 ** 20;
const GiB = 2 ** 30;

const page = (seed: number) => patternPage(11, seed);
/** Marks a page of a block; a block's first page is always one. */
const mark = (block: string, offset: number, bytes: Buffer): Item => ({ block, page: offset / PAGE, bytes });

const open = (spec: MigrationSpec) => openDump(new MemorySource(buildMigration(spec).bytes));
const codes = ({ warnings }: { readonly warnings: readonly { readonly code: string }[] }) =>
  warnings.map(({ code }) => code);
const ranges = ({ memory }: { readonly memory: PhysicalMemory }) =>
  memory.ranges.map(({ start, end }) => [start, end]);

function expectAt(memory: PhysicalMemory, address: number, wanted: Buffer | undefined): void {
  const target = Buffer.alloc(PAGE);
  const state = memory.readPage(address, target);
  const at = `0x${address.toString(16)}`;
  expect([at, state]).toEqual([at, wanted === undefined ? "absent" : "present"]);
  if (wanted !== undefined) expect(target.equals(wanted), at).toBe(true);
}

/** A machine with this memory: the last page below the split, and the first above, are marked. */
const machine = (name: string | undefined, size: number, low: number, spec: Partial<MigrationSpec> = {}) => {
  const ram = name?.startsWith("microvm") === true ? "microvm.ram" : "pc.ram";
  const items = [mark(ram, 0, page(0)), mark(ram, low - PAGE, page(1))];
  if (low < size) items.push(mark(ram, low, page(2)));
  return open({ machine: name, blocks: [{ name: ram, size }], parts: [items], ...spec });
};

describe("memory below and above 4 GiB", () => {
  test.each<[string, number, number]>([
    ["pc-i440fx-7.2", 3.5 * GiB - MiB, 3.5 * GiB - MiB],
    ["pc-i440fx-7.2", 3.5 * GiB, 3 * GiB],
    ["pc-i440fx-rhel7.6.0", 8 * GiB, 3 * GiB],
    ["pc-i440fx-1.7", 4 * GiB, 3.5 * GiB],
    ["pc-1.3", 4 * GiB, 3.5 * GiB],
    ["rhel6.6.0", 4 * GiB, 3.5 * GiB],
    ["pc-q35-7.2", 2.75 * GiB - MiB, 2.75 * GiB - MiB],
    ["pc-q35-7.2", 2.75 * GiB, 2 * GiB],
    ["pc-q35-1.7", 4 * GiB, 2.75 * GiB],
    ["microvm", 3 * GiB, 3 * GiB],
    ["microvm", 5 * GiB, 3 * GiB],
    ["isapc", 1 * GiB, 1 * GiB],
  ])("of %s with %d bytes by its rules", async (name, size, low) => {
    const dump = await machine(name, size, low);
    const above = size - low;
    expect(ranges(dump)).toEqual([[0, low], ...(above > 0 ? [[4 * GiB, 4 * GiB + above]] : [])]);
    expectAt(dump.memory, 0, page(0));
    expectAt(dump.memory, low - PAGE, page(1));
    if (above > 0) expectAt(dump.memory, 4 * GiB, page(2));
    // That users may have chosen another split is told where there is enough to split.
    expect(codes(dump)).toEqual(size > GiB ? ["DMP034"] : []);
  });

  test.each<[string, number, number]>([
    ["pc-q35-7.2", 5 * GiB, 1 * GiB],
    ["pc-i440fx-7.2", 24 * MiB, 8 * MiB],
    ["pc-i440fx-7.2", 24 * MiB, 24 * MiB],
    ["pc-q35-7.2", 16 * MiB + PAGE, 16 * MiB + PAGE],
    ["pc-i440fx-7.2", 1500 * GiB, 3 * GiB],
  ])("of %s with %d bytes as the clock tells the firmware", async (name, size, low) => {
    const dump = await machine(name, size, low, { devices: [clock(low, size - low)] });
    expect(ranges(dump)[0]).toEqual([0, low]);
    expectAt(dump.memory, low - PAGE, page(1));
    if (low < size && size < 1000 * GiB) expectAt(dump.memory, 4 * GiB, page(2));
    expect(codes(dump)).toEqual(size > 1000 * GiB ? ["DMP034"] : []);
  });

  test("by the rules where a damaged clock would cut a page", async () => {
    const cmos = Buffer.alloc(128);
    cmos[0x17] = 3;
    cmos[0x5b] = 16;
    const device = clock(0, 0);
    const damaged = { ...device, fields: [{ name: "cmos_data", bytes: cmos }, ...device.fields.slice(1)] };
    const size = 520 * PAGE;
    const dump = await machine("pc-q35-7.2", size, size, { devices: [damaged] });
    expect(ranges(dump)).toEqual([[0, size]]);
  });

  test("by the rules where the clock tells something else", async () => {
    const dump = await machine("pc-q35-7.2", 4 * GiB, 2 * GiB, { devices: [clock(GiB, GiB)] });
    expect([ranges(dump)[0], codes(dump)]).toEqual([[0, 2 * GiB], ["DMP034"]]);
  });
});

const flat = (selector: number): SynthSegment => ({
  selector,
  base: 0n,
  limit: 0xffff_ffff,
  flags: 0xaf9b00,
});
/** A vCPU whose page tables are at `root`, and its code and descriptor tables at `virtual`. */
const kernelCpu = (root: number, virtual: bigint): SynthCpu => ({
  regs: Array.from({ length: 16 }, () => 0n),
  rip: virtual + 0x123n,
  rflags: 2n,
  segs: [1, 2, 3, 4, 5, 6].map(flat),
  ldt: flat(7),
  tr: flat(8),
  gdt: { ...flat(0), base: virtual + 0x1000n },
  idt: { ...flat(0), base: virtual + 0x2000n },
  cr: [0x8000_0011n, 0n, BigInt(root), 0x20n],
  efer: 0x500n,
  kernelGsBase: 0n,
});

const VIRTUAL = 0xffff_ffff_8000_0000n;
/** Four tables, one after the other from `at`, which map 2 MiB at VIRTUAL. */
function tables(block: string, offset: number, at: number): Item[] {
  const entry = (index: number, value: number) => {
    const bytes = Buffer.alloc(PAGE);
    bytes.writeBigUInt64LE(BigInt(value), 8 * index);
    return bytes;
  };
  return [
    mark(block, offset, entry(511, at + PAGE + 3)),
    mark(block, offset + PAGE, entry(510, at + 2 * PAGE + 3)),
    mark(block, offset + 2 * PAGE, entry(0, at + 0x83 - (at % (2 * MiB)))),
  ];
}

describe("memory by the page tables of the vCPUs", () => {
  test("in two blocks that the stream lists in another order than they lie", async () => {
    const blocks = [
      { name: "zeta", size: 64 * MiB },
      { name: "alpha", size: 32 * MiB },
    ];
    for (const [first, second] of [
      ["alpha", "zeta"],
      ["zeta", "alpha"],
    ] as const) {
      const low = blocks.find(({ name }) => name === first)!.size;
      const dump = await open({
        blocks,
        parts: [
          [...tables(second, 2 * MiB, low + 2 * MiB), mark(first, 0, page(0)), mark(second, 0, page(1))],
        ],
        devices: [clock(96 * MiB, 0), cpuDevice(0, kernelCpu(low + 2 * MiB, VIRTUAL))],
      });
      expectAt(dump.memory, 0, page(0));
      expectAt(dump.memory, low, page(1));
      expect([first, codes(dump)]).toEqual([first, []]);
    }
  });

  test("split where nobody says it", async () => {
    const dump = await open({
      blocks: [{ name: "pc.ram", size: 4 * GiB }],
      parts: [[...tables("pc.ram", GiB + 2 * MiB, 4 * GiB + 2 * MiB), mark("pc.ram", GiB, page(1))]],
      devices: [cpuDevice(0, kernelCpu(4 * GiB + 2 * MiB, VIRTUAL))],
    });
    expect(ranges(dump)[0]).toEqual([0, GiB]);
    expectAt(dump.memory, 4 * GiB, page(1));
    expect(codes(dump)).toEqual([]);
  });

  test("beyond the addresses of HyperTransport", async () => {
    const above = 2 ** 40 + 2 * MiB;
    const dump = await open({
      blocks: [{ name: "pc.ram", size: 1020 * GiB }],
      parts: [[...tables("pc.ram", 2 * GiB + 2 * MiB, above)]],
      devices: [clock(2 * GiB, 1018 * GiB), cpuDevice(0, kernelCpu(above, VIRTUAL))],
    });
    expect([ranges(dump)[1]![0], codes(dump)]).toEqual([2 ** 40, []]);
  });
});

describe("memory of users' making", () => {
  const nodes = (names: readonly string[]): Block[] => names.map((name) => ({ name, size: 32 * MiB }));

  test("goes by the numbers in its names, and that is told", async () => {
    const names = ["ram-node10", "ram-node2", "ram-node0"];
    const parts = [names.map((name, i) => mark(name, 0, page(i)))];
    const dump = await open({ blocks: nodes(names), parts, devices: [clock(96 * MiB, 0)] });
    for (const [i, address] of [2, 1, 0].entries()) expectAt(dump.memory, address * 32 * MiB, page(i));
    expect(codes(dump)).toEqual(["DMP034"]);
    expect(dump.warnings[0]!.message).toMatch(/in the order ram-node0, ram-node2, ram-node10/);
  });

  test("goes on above 4 GiB, block after block", async () => {
    const names = ["n0", "n1", "n2"];
    const parts = [[...names.map((name, i) => mark(name, 0, page(i))), mark("n1", GiB, page(3))]];
    const blocks = names.map((name) => ({ name, size: 1.5 * GiB }));
    const { memory } = await open({ blocks, parts, devices: [clock(2 * GiB, 2.5 * GiB)] });
    expectAt(memory, 1.5 * GiB, page(1));
    expectAt(memory, 4.5 * GiB, page(3));
    expectAt(memory, 5 * GiB, page(2));
  });

  test("under its path, one block", async () => {
    const dump = await open({
      blocks: nodes(["/objects/mem0"]),
      parts: [[mark("/objects/mem0", 0, page(0))]],
      devices: [clock(32 * MiB, 0)],
    });
    expectAt(dump.memory, 0, page(0));
    expect(codes(dump)).toEqual([]);
  });

  test("that was plugged in is left out, and that is told", async () => {
    const blocks = [
      ...nodes(["mem0"]),
      { name: "dimm1", size: 16 * MiB },
      { name: "0000:00:03.0/vmem0", size: 8 * MiB },
    ];
    const parts = [blocks.map(({ name }, i) => mark(name, 0, page(i)))];
    const dump = await open({ blocks, parts, devices: [clock(32 * MiB, 0)] });
    expect([ranges(dump), codes(dump)]).toEqual([[[0, 32 * MiB]], ["DMP035"]]);
    expect(dump.warnings[0]!.message).toMatch(/dimm1 \(16\.0 MiB\), 0000:00:03\.0\/vmem0 \(8\.0 MiB\)$/);
  });

  test("that is shared and was left out", async () => {
    const extra = Buffer.alloc(8);
    const dump = await open({
      capabilities: ["x-ignore-shared"],
      blocks: [
        ...nodes(["mem0"]).map((block) => ({ ...block, extra })),
        { name: "pc.bios", size: PAGE, extra },
      ],
      parts: [[mark("pc.bios", 0, page(0))]],
      devices: [clock(32 * MiB, 0)],
    });
    expect([ranges(dump)[0], codes(dump)]).toEqual([[0, 32 * MiB], ["DMP038"]]);
    expectAt(dump.memory, 0, undefined);
  });
});

describe("below 1 MiB", () => {
  const RAM = { name: "pc.ram", size: 16 * MiB };
  const BIOS = { name: "pc.bios", size: 256 * 1024 };
  const ROM = { name: "pc.rom", size: 128 * 1024 };
  /** Every page from 0x90000 to 1 MiB says where it is from. */
  const parts = [
    [
      ...Array.from({ length: 112 }, (_, i) => mark("pc.ram", 0x9_0000 + i * PAGE, page(i))),
      ...Array.from({ length: 64 }, (_, i) => mark("pc.bios", i * PAGE, page(1000 + i))),
      ...Array.from({ length: 32 }, (_, i) => mark("pc.rom", i * PAGE, page(2000 + i))),
    ],
  ];
  const ram = (address: number) => page((address - 0x9_0000) / PAGE);
  const bios = (address: number) => page(1000 + 32 + (address - 0xe_0000) / PAGE);
  const rom = (address: number) => page(2000 + (address - 0xc_0000) / PAGE);
  const read = async (spec: Partial<MigrationSpec>) =>
    await open({ blocks: [RAM, BIOS, ROM], parts, devices: [clock(RAM.size, 0)], ...spec });
  const pages = (from: number, to: number) =>
    Array.from({ length: (to - from) / PAGE }, (_, i) => from + i * PAGE);

  test.each([
    ["mch", "pc-q35-7.2"],
    ["I440FX", "pc-i440fx-7.2"],
  ] as const)("memory shadows the firmware where the %s says so", async (bridge, name) => {
    const pam = Buffer.from([0x10, 0x01, 0x30, 0x22, 0x00, 0x11, 0x02]);
    const dump = await read({ machine: name, devices: [clock(RAM.size, 0), hostBridge(bridge, pam)] });
    // By the registers: 0xc0000, 0xcc000, 0xe0000, 0xe4000 and the top are memory; the rest is not.
    const shadowed = [0xc_0000, 0xc_c000, 0xe_0000, 0xe_4000].flatMap((at) => pages(at, at + 0x4000));
    for (const at of pages(0xc_0000, 0xe_0000))
      expectAt(dump.memory, at, shadowed.includes(at) ? ram(at) : rom(at));
    for (const at of pages(0xe_0000, 0xf_0000))
      expectAt(dump.memory, at, shadowed.includes(at) ? ram(at) : bios(at));
    for (const at of pages(0xf_0000, MiB)) expectAt(dump.memory, at, ram(at));
    for (const at of pages(0x9_0000, 0xc_0000)) expectAt(dump.memory, at, ram(at));
    expectAt(dump.memory, 4 * GiB - PAGE, page(1063));
  });

  test("as it is after reset", async () => {
    const devices = [clock(RAM.size, 0), hostBridge("mch", Buffer.alloc(7))];
    const { memory } = await read({ devices });
    for (const at of pages(0xc_0000, 0xe_0000)) expectAt(memory, at, rom(at));
    for (const at of pages(0xe_0000, MiB)) expectAt(memory, at, bios(at));
    const bare = await read({ blocks: [RAM], parts: [parts[0]!.slice(0, 112)], devices });
    expect(ranges(bare)).toEqual([
      [0, 0xc_0000],
      [MiB, 16 * MiB],
    ]);
  });

  test("all of it memory where nothing says otherwise", async () => {
    const { memory } = await read({ devices: [clock(RAM.size, 0), hostBridge("mch", SHADOWED)] });
    for (const at of pages(0x9_0000, MiB)) expectAt(memory, at, ram(at));
    for (const at of pages(0x9_0000, MiB)) expectAt((await read({})).memory, at, ram(at));
  });

  test.each(["0000:00:02.0/vga.vram", "vga.vram", "0000:00:02.0/qxl.vgavram"])(
    "a VGA adapter (%s) has its hole",
    async (name) => {
      const dump = await read({ blocks: [RAM, BIOS, ROM, { name, size: 16 * MiB }] });
      expect(ranges(dump).slice(0, 2)).toEqual([
        [0, 0xa_0000],
        [0xc_0000, 16 * MiB],
      ]);
      expect(codes(dump)).toEqual([]);
    },
  );

  test("of an isapc: firmware and option ROMs that nothing hides", async () => {
    const { memory } = await read({ machine: "isapc" });
    for (const at of pages(0x9_0000, 0xc_0000)) expectAt(memory, at, ram(at));
    for (const at of pages(0xc_0000, 0xe_0000)) expectAt(memory, at, rom(at));
    for (const at of pages(0xe_0000, MiB)) expectAt(memory, at, bios(at));
  });

  test("of a microvm: firmware that nothing hides", async () => {
    const { memory } = await read({
      machine: "microvm",
      blocks: [
        { ...RAM, name: "microvm.ram" },
        { ...BIOS, size: 64 * 1024 },
      ],
      parts: [
        [
          mark("microvm.ram", 0xe_0000, page(1)),
          mark("pc.bios", 0, page(2)),
          mark("microvm.ram", 0xf_0000, page(3)),
        ],
      ],
    });
    expectAt(memory, 0xe_0000, page(1));
    expectAt(memory, 0xf_0000, page(2));
    expectAt(memory, 4 * GiB - 64 * 1024, page(2));
  });
});
