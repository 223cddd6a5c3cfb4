import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { main } from "../src/cli/main.ts";
import { CorruptError, GuestcoreError, UnavailableError, UnsupportedError } from "../src/core/errors.ts";
import type { PhysicalMemory } from "../src/core/memory.ts";
import { readDescription } from "../src/dump/migration-description.ts";
import { readFields } from "../src/dump/migration-fields.ts";
import { openDump } from "../src/dump/open.ts";
import { MemorySource } from "./support/memory-io.ts";
import { physicalAt, prstatusRegisters, readVmcore } from "./support/read-vmcore.ts";
import { FakeTerminal } from "./support/terminal.ts";
import {
  buildMigration,
  buildSave,
  command,
  description,
  footer,
  type Item,
  type MigrationSpec,
  sectionHead,
  xbzrle,
} from "./synth/migration.ts";
import { clock, cpuCommon, cpuDevice, type SynthCpu, type SynthSegment } from "./synth/migration-devices.ts";
import { patternPage, random } from "./synth/pattern.ts";

const PAGE = 4096;
const ZEROS = Buffer.alloc(PAGE);
const folder = mkdtempSync(join(tmpdir(), "guestcore-migration-"));
afterAll(() => rmSync(folder, { recursive: true }));

const open = (bytes: Buffer) => openDump(new MemorySource(bytes, "stream"));
const build = (spec: MigrationSpec) => buildMigration(spec).bytes;
const codes = ({ warnings }: { readonly warnings: readonly { readonly code: string }[] }) =>
  warnings.map(({ code }) => code);

/** 2 MiB and some of memory, so that its pages are in two groups. */
const COUNT = 520;
const RAM = { name: "pc.ram", size: COUNT * PAGE };
const BIOS = { name: "pc.bios", size: 16 * PAGE };
const page = (n: number) => patternPage(7, n);
const data = (n: number, bytes = page(n)): Item => ({ block: "pc.ram", page: n, bytes });
const zero = (n: number): Item => ({ block: "pc.ram", page: n, fill: 0 });
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);
const devices = [clock(RAM.size, 0)];

/** What memory has in a page: its bytes, or its state. */
function at(memory: PhysicalMemory, n: number): Buffer | string {
  const target = Buffer.alloc(PAGE, 0xee);
  const state = memory.readPage(n * PAGE, target);
  if (state === "zero") expect(target.equals(ZEROS)).toBe(true);
  return state === "present" ? target : state;
}

const expectPage = (memory: PhysicalMemory, n: number, wanted: Buffer | string) => {
  const found = at(memory, n);
  if (typeof wanted === "string" || typeof found === "string") expect([n, found]).toEqual([n, wanted]);
  else expect(found.equals(wanted), `page ${n}`).toBe(true);
};

/** Extents must say what readPage finds, and lie side by side. */
function expectExtents(memory: PhysicalMemory, count: number): void {
  for (let n = 0; n < count; ) {
    const { start, end, state } = memory.extentAt(n * PAGE, count * PAGE);
    expect(start).toBe(n * PAGE);
    expect(end).toBeGreaterThan(start);
    for (; n * PAGE < end; n++) {
      const found = at(memory, n);
      expect([n, typeof found === "string" ? found : "present"]).toEqual([n, state]);
    }
  }
}

describe("pages of a stream", () => {
  test("are what came, in order or not; of a page that came twice the last", async () => {
    const again = patternPage(8, 3);
    const { memory, warnings } = await open(
      build({
        blocks: [RAM, BIOS],
        parts: [
          [
            ...range(0, 300).map((n) => (n % 5 === 4 ? zero(n) : data(n))),
            { block: "pc.bios", page: 15, bytes: page(0) },
          ],
          [...range(300, 510).map((n) => data(n)), zero(511), data(515)],
          [data(3, again), zero(7), data(9, page(1)), { block: "pc.ram", page: 10, fill: 0x5a }],
        ],
        devices,
      }),
    );
    expect(warnings).toEqual([]);
    expect(memory.ranges).toEqual([
      { start: 0, end: RAM.size },
      { start: 2 ** 32 - BIOS.size, end: 2 ** 32 },
    ]);
    const changed: Record<number, Buffer | string> = {
      3: again,
      7: "zero",
      9: page(1),
      10: Buffer.alloc(PAGE, 0x5a),
      510: "absent",
      511: "zero",
      515: page(515),
      519: "absent",
    };
    for (const n of range(0, COUNT)) {
      const usual = n < 300 && n % 5 === 4 ? "zero" : n < 510 ? page(n) : "absent";
      expectPage(memory, n, changed[n] ?? usual);
    }
    expectPage(memory, 2 ** 20 - 1, page(0));
    expectExtents(memory, COUNT);
    expect(memory.extentAt(RAM.size, 2 ** 31)).toMatchObject({ state: "absent", end: 2 ** 31 });
    expect(memory.readPage(2 ** 33, Buffer.alloc(PAGE))).toBe("absent");
  });

  test("of a group are where they came, though they follow on what came for another", async () => {
    const numbers = [512, 513, 510, 511, 515, 516];
    const parts = [numbers.slice(0, 2).map((n) => data(n)), numbers.slice(2).map((n) => data(n))];
    const { memory } = await open(build({ blocks: [RAM], parts, devices }));
    for (const n of range(505, COUNT)) expectPage(memory, n, numbers.includes(n) ? page(n) : "absent");
  });

  test("are as a memory that was written in that order", async () => {
    const item = fc.record({
      block: fc.constantFrom("pc.ram", "pc.ram", "pc.ram", "vram"),
      page: fc.oneof(fc.nat(COUNT - 1), fc.nat(12)),
      run: fc.integer({ min: 1, max: 9 }),
      kind: fc.constantFrom("bytes", "bytes", "zero", "zlib", "fill"),
    });
    const steps = fc.array(fc.array(item, { maxLength: 12 }), { minLength: 1, maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(steps, async (parts) => {
        const truth = new Map<number, Buffer | string>();
        let serial = 0;
        const items = parts.map((part) =>
          part.flatMap(({ block, page: first, run, kind }) =>
            range(first, Math.min(first + run, COUNT)).map((n): Item => {
              const bytes = patternPage(9, serial++);
              const contents = kind === "zero" ? "zero" : kind === "fill" ? Buffer.alloc(PAGE, 3) : bytes;
              if (block === "pc.ram") truth.set(n, contents);
              if (kind === "zlib") return { block, page: n, zlib: bytes };
              if (kind === "bytes") return { block, page: n, bytes };
              return { block, page: n, fill: kind === "fill" ? 3 : 0 };
            }),
          ),
        );
        if (truth.size === 0) return;
        const vram = { name: "vram", size: RAM.size };
        const { memory } = await open(build({ blocks: [RAM, vram], parts: items, devices }));
        for (const n of range(0, COUNT)) expectPage(memory, n, truth.get(n) ?? "absent");
        expectExtents(memory, COUNT);
      }),
      { numRuns: 60 },
    );
  });

  test("that are differences follow from what was before, however often", async () => {
    const [first, second] = [page(0), Buffer.from(page(0))];
    second.fill(0x11, 300, 900);
    second[4095] = 1;
    const third = Buffer.from(second);
    third.fill(0x22, 850, 851);
    const small = Buffer.alloc(PAGE);
    small[17] = 4;
    const nines = Buffer.alloc(PAGE, 9);
    nines.fill(7, 4000);
    const delta = (n: number, before: Buffer, after: Buffer): Item => ({
      block: "pc.ram",
      page: n,
      delta: xbzrle(before, after),
    });
    const { memory, warnings } = await open(
      build({
        blocks: [RAM],
        parts: [
          [data(0, first), zero(1), data(2), data(3), zero(5), { block: "pc.ram", page: 6, fill: 9 }],
          [delta(0, first, second), delta(1, ZEROS, small), delta(4, ZEROS, small)],
          [delta(0, second, third), delta(2, page(2), page(2)), delta(6, Buffer.alloc(PAGE, 9), nines)],
          [data(1, page(8))],
        ],
        devices,
      }),
    );
    expect(codes({ warnings })).toEqual(["DMP037"]);
    const wanted = [third, page(8), page(2), page(3), "absent", "zero", nines];
    for (const [n, contents] of wanted.entries()) expectPage(memory, n, contents);
    expectExtents(memory, COUNT);
  });

  test.each([
    ["ends in a length", [0x80]],
    ["has a length of three bytes", [0x80, 0x80, 0x01, 0x01, 0x01]],
    ["changes nothing", [0x01, 0x00]],
    ["is cut", [0x01, 0x05, 0x01]],
    ["goes beyond the page", [0xff, 0x1f, 0x02, 0x01, 0x01]],
  ])("a difference that %s makes its page absent, no other", async (_, delta) => {
    const items: Item[] = [data(0), data(1), { block: "pc.ram", page: 0, delta: Buffer.from(delta) }];
    const { memory } = await open(build({ blocks: [RAM], parts: [items], devices }));
    expectPage(memory, 0, "absent");
    expectPage(memory, 1, page(1));
  });

  test("a compressed page that is damaged is absent", async () => {
    const bytes = build({
      blocks: [RAM],
      parts: [[data(0), { block: "pc.ram", page: 1, zlib: page(1) }]],
      devices,
    });
    const packed = bytes.indexOf(Buffer.from([0x78, 0x01]));
    bytes[packed + 100]! ^= 0xff;
    const { memory } = await open(bytes);
    expectPage(memory, 0, page(0));
    expectPage(memory, 1, "absent");
  });
});

describe("sections", () => {
  const parts = [[data(0), data(1)], [data(2)]];
  const wanted = async (spec: Partial<MigrationSpec>) => {
    const dump = await open(build({ blocks: [RAM], parts, devices, ...spec }));
    for (const n of range(0, 3)) expectPage(dump.memory, n, page(n));
    return dump;
  };

  test.each<[string, Partial<MigrationSpec>]>([
    ["no configuration", { machine: undefined }],
    ["no footers", { footers: false }],
    [
      "commands",
      { before: [command(1), command(2, Buffer.from([0, 0, 0, 1])), command(3, Buffer.alloc(16))] },
    ],
    ["capabilities", { capabilities: ["multifd"] }],
    [
      "page bits and a UUID",
      {
        configuration: [
          ["configuration/target-page-bits", Buffer.from([0, 0, 0, 12])],
          ["configuration/uuid", Buffer.alloc(16, 7)],
        ],
      },
    ],
    [
      "large pages and postcopy",
      {
        before: [command(3, Buffer.alloc(16))],
        blocks: [
          { ...RAM, extra: Buffer.from([0, 0, 0, 0, 0, 0x20, 0, 0]) },
          BIOS,
          { name: "vga.vram", size: PAGE, extra: Buffer.from([0, 0, 0, 0, 0x40, 0, 0, 0]) },
        ],
      },
    ],
    [
      "addresses of blocks",
      {
        capabilities: ["x-ignore-shared"],
        blocks: [
          { ...RAM, extra: Buffer.alloc(8) },
          { ...BIOS, extra: Buffer.alloc(8, 0) },
        ],
      },
    ],
    ["no end of memory, as a background snapshot has none", { ended: false }],
  ])("with %s are followed", async (_, spec) => {
    const { warnings } = await wanted(spec);
    expect(codes({ warnings })).toEqual([]);
  });

  test("of unknown length end with their footer", async () => {
    const noise = Buffer.concat([Buffer.alloc(5000, 0x7e), footer(9), Buffer.from([0x55]), footer(8)]);
    const iterable = (id: number) =>
      Buffer.concat([sectionHead(1, id, "dirty-bitmap", 0, 1), noise, footer(id)]);
    const { warnings, cpus } = await wanted({
      before: [iterable(9)],
      parts: [parts[0]!, { raw: Buffer.concat([Buffer.from([2, 0, 0, 0, 9]), noise, footer(9)]) }, parts[1]!],
      devices: [{ raw: iterable(77) }, clock(RAM.size, 0), cpuDevice(0, CPU)],
    });
    expect([codes({ warnings }), cpus.length]).toEqual([[], 1]);
  });

  test("of unknown length are read once, however many", async () => {
    const small = Buffer.concat([sectionHead(1, 9, "x", 0, 1), footer(9)]);
    const far = Buffer.concat([sectionHead(1, 8, "y", 0, 1), Buffer.alloc(3_000_000, footer(8)), footer(8)]);
    const before = [...range(0, 3000).map(() => small), far, small];
    const bytes = build({ blocks: [RAM], parts, devices, before });
    const source = new MemorySource(bytes);
    let read = 0;
    const dump = await openDump({
      name: "counted",
      size: bytes.length,
      read: (offset, target) => {
        const got = source.read(offset, target);
        read += got;
        return got;
      },
    });
    expectPage(dump.memory, 1, page(1));
    expect(read).toBeLessThan(4 * bytes.length);
  });

  test("are counted, also those of one number", async () => {
    const small = Buffer.concat([sectionHead(4, 9, "x", 0, 1), footer(9)]);
    const many = { raw: Buffer.concat(Array<Buffer>(70_000).fill(small)) };
    expect(codes(await open(build({ blocks: [RAM], parts, devices: [many, ...devices] })))).toEqual([
      "DMP030",
    ]);
  });

  test("described with wrong lengths end with their footer as well", async () => {
    const cpu = cpuDevice(0, CPU);
    const bytes = build({ blocks: [RAM], parts, devices: [...devices, cpuCommon(0, true), cpu] });
    const wrong = Buffer.from(
      bytes
        .toString("latin1")
        .replace(/"name":"env.eip","type":"uint64","size":8/, (match) => match.replace("8", "9")),
      "latin1",
    );
    expect(wrong.equals(bytes)).toBe(false);
    const { cpus, warnings } = await open(wrong);
    expect([cpus, codes({ warnings })]).toEqual([[], []]);
  });

  test("with the footer of another section give what came before, and say so", async () => {
    const bytes = build({ blocks: [RAM], parts, devices });
    const first = bytes.indexOf(footer(2), bytes.indexOf(page(1)) + PAGE);
    const dump = await open(changed(bytes, first + 4, 9));
    expectPage(dump.memory, 1, page(1));
    expectPage(dump.memory, 2, "absent");
    expect(codes(dump)).toEqual(["DMP030"]);
  });

  test("without a description memory is read, registers are not", async () => {
    const dump = await wanted({ described: false, devices: [...devices, cpuDevice(0, CPU)] });
    expect([dump.cpus, codes(dump)]).toEqual([[], ["DMP031"]]);
  });

  test.each([
    ["nothing", []],
    ["a state that was sent early", [{ raw: sectionHead(4, 50, "early", 0, 1) }]],
  ])("that end with %s behind a part of memory are cut", async (_, early) => {
    const spec = {
      blocks: [RAM],
      parts: [...early.map(({ raw }) => ({ raw: Buffer.concat([raw, footer(50)]) })), ...parts],
      ended: false,
    };
    expect(codes(await open(build({ ...spec, devices: [], described: false })))).toContain("DMP030");
  });

  test("after which the guest moved elsewhere", async () => {
    const dump = await open(
      build({ blocks: [RAM], parts: [parts[0]!, { raw: command(4) }, parts[1]!], devices }),
    );
    expectPage(dump.memory, 1, page(1));
    expectPage(dump.memory, 2, "absent");
    expect(codes(dump)).toEqual(["DMP036"]);
  });

  test("some of whose pages went through other channels", async () => {
    const { memory, warnings } = await open(
      build({ blocks: [RAM], parts: [[{ flags: 0x200 }, ...range(0, 10).map(zero)]], devices }),
    );
    expectPage(memory, 9, "zero");
    expectPage(memory, 10, "absent");
    expect(codes({ warnings })).toEqual(["DMP041"]);
    const whole = [[{ flags: 0x200 }, ...range(0, COUNT).map(zero)]];
    expect(codes(await open(build({ blocks: [RAM], parts: whole, devices })))).toEqual([]);
  });

  test.each<[string, Partial<MigrationSpec>, new (message: string) => GuestcoreError, RegExp]>([
    ["of version 2", { version: 2 }, UnsupportedError, /version 2/],
    ["of an old memory section", { ramVersion: 3 }, UnsupportedError, /memory section of version 3/],
    [
      "of another machine",
      {
        machine: "virt-7.2",
        blocks: [{ name: "mach-virt.ram", size: PAGE }],
        parts: [[{ block: "mach-virt.ram", page: 0, bytes: page(0) }]],
      },
      UnsupportedError,
      /type virt-7\.2.*mach-virt\.ram/,
    ],
    [
      "whose pages went through other channels",
      { parts: [[{ flags: 0x200 }]] },
      UnsupportedError,
      /another way \(multifd/,
    ],
    [
      "whose memory is all shared",
      { capabilities: ["x-ignore-shared"], blocks: [{ ...RAM, extra: Buffer.alloc(8) }], parts: [[]] },
      UnsupportedError,
      /x-ignore-shared/,
    ],
    ["with no memory in it", { blocks: [], parts: [[]] }, UnavailableError, /none of the machine's memory/],
    [
      "with a page of no block",
      { parts: [[{ block: "nobody", page: 0, bytes: page(0) }]] },
      CorruptError,
      /not announced/,
    ],
    ["of more than 4 TiB", { blocks: [{ name: "pc.ram", size: 2 ** 43 }] }, UnsupportedError, /4 TiB/],
    [
      "whose blocks have odd sizes",
      {
        blocks: [
          { name: "pc.ram", size: 5000 },
          { name: "pc.bios", size: 3192 },
        ],
      },
      CorruptError,
      /does not add up/,
    ],
  ])("%s are refused", async (_, spec, kind, message) => {
    const error = await open(build({ blocks: [RAM], parts, devices, ...spec })).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(kind);
    expect((error as Error).message).toMatch(message);
  });

  test.each<[string, Item]>([
    ["an item that QEMU does not have", { flags: 0x400 }],
    ["an RDMA hook", { flags: 0x80 }],
    ["a page beyond the block", data(COUNT)],
  ])("with %s give what came before, and say so", async (_, item) => {
    const dump = await open(build({ blocks: [RAM], parts: [[data(0)], [data(1), item, data(2)]], devices }));
    expectPage(dump.memory, 1, page(1));
    expectPage(dump.memory, 2, "absent");
    expect(codes(dump)).toEqual(["DMP030"]);
  });
});

const seg = (seed: number): SynthSegment => ({
  selector: 8 * seed,
  base: BigInt(seed) << 40n,
  limit: 0xffff_0000 + seed,
  flags: 0x00a0_9b00 + seed,
});
const CPU: SynthCpu = {
  regs: range(0, 16).map((n) => 0xfedc_ba98_0000_0000n + BigInt(n)),
  rip: 0xffff_ffff_8123_4567n,
  rflags: 0x246n,
  segs: [1, 2, 3, 4, 5, 6].map(seg),
  ldt: seg(7),
  tr: seg(8),
  gdt: seg(9),
  idt: seg(10),
  cr: [0x8005_0033n, 0x1234n, 0x5000n, 0x6b0n],
  efer: 0xd01n,
  kernelGsBase: 0xffff_8881_0000_0000n,
};

describe("registers", () => {
  const dumpOf = (...saved: MigrationSpec["devices"] & object) =>
    open(build({ blocks: [RAM], parts: [[data(0)]], devices: [...devices, ...saved] }));

  test("of every vCPU, in order, each in its place", async () => {
    const second = { ...CPU, rip: 1n };
    const { cpus } = await dumpOf(
      cpuCommon(1, true),
      cpuDevice(1, second),
      cpuCommon(0, false),
      cpuDevice(0, CPU),
    );
    expect(cpus.map(({ index, halted }) => [index, halted])).toEqual([
      [0, false],
      [1, true],
    ]);
    const [first, other] = cpus.map(({ state }) => state);
    const names = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split(" ");
    const general = Object.fromEntries(names.map((name, i) => [name, CPU.regs[i]]));
    const [es, cs, ss, ds, fs, gs] = CPU.segs;
    const table = ({ base, limit }: SynthSegment) => ({ base, limit });
    expect(first).toEqual({
      ...general,
      rip: CPU.rip,
      rflags: CPU.rflags,
      segments: { es, cs, ss, ds, fs, gs, ldt: CPU.ldt, tr: CPU.tr },
      gdt: table(CPU.gdt),
      idt: table(CPU.idt),
      cr0: CPU.cr[0],
      cr2: CPU.cr[1],
      cr3: CPU.cr[2],
      cr4: CPU.cr[3],
      efer: CPU.efer,
      kernelGsBase: CPU.kernelGsBase,
    });
    expect(other!.rip).toBe(1n);
    expect(cpus[0]!.source).toMatch(/^cpu section at offset 0x[0-9a-f]+$/);
  });

  test("of an emulator of 32-bit processors", async () => {
    const { cpus } = await dumpOf(cpuDevice(0, CPU, 32));
    expect(cpus[0]).toMatchObject({
      halted: undefined,
      state: { rax: 0n, rdi: 7n, r8: undefined, r15: undefined, rip: 0x8123_4567n, efer: undefined },
    });
  });

  test("one of which has another form are told to", async () => {
    const cpu = cpuDevice(0, CPU);
    const odd = { ...cpu, instance: 3, fields: cpu.fields.filter(({ name }) => name !== "env.cr[3]") };
    const dump = await dumpOf(cpu, odd);
    expect([dump.cpus.map(({ index }) => index), codes(dump)]).toEqual([[0], ["DMP032"]]);
  });

  test("of a vCPU inside its own guest are told to be that", async () => {
    expect(codes(await dumpOf(cpuDevice(0, { ...CPU, hflags: 1 << 21 })))).toEqual(["DMP033"]);
  });

  test("are notes of what convert writes", async () => {
    const input = join(folder, "stream");
    const output = join(folder, "out");
    const saved = [...devices, cpuCommon(0, true), cpuDevice(0, CPU)];
    writeFileSync(
      input,
      build({ blocks: [RAM, BIOS], parts: [range(0, COUNT).map((n) => data(n))], devices: saved }),
    );
    const terminal = new FakeTerminal();
    expect(await main(["convert", input, output], terminal)).toBe(0);
    const core = readVmcore(readFileSync(output));
    for (const n of range(0, COUNT))
      expect(physicalAt(core, n * PAGE, PAGE)?.equals(page(n)), `${n}`).toBe(true);
    const prstatus = core.notes.find(({ name }) => name === "CORE")!;
    expect(prstatusRegisters(prstatus.desc)).toMatchObject({
      rip: CPU.rip,
      r15: CPU.regs[15],
      gs_base: CPU.segs[5]!.base,
    });
    const qemu = core.notes.find(({ name }) => name === "QEMU")!;
    expect(qemu.desc.readBigUInt64LE(432)).toBe(CPU.kernelGsBase);
    const info = new FakeTerminal();
    expect(await main(["info", input], info)).toBe(0);
    expect(info.out).toMatch(/migration stream.*machine pc-q35-7\.2[\s\S]*memory +2\.1 MiB/);
  });
});

describe("mapped-ram", () => {
  const contents = new Map([0, 1, 2, 9, 64, 65, 519].map((n) => [n, page(n)]));
  const spec = (changes: Partial<MigrationSpec> = {}): MigrationSpec => ({
    capabilities: ["mapped-ram"],
    blocks: [
      { ...RAM, mapped: contents },
      { ...BIOS, mapped: new Map([[3, page(3)]]) },
    ],
    parts: [[]],
    devices: [...devices, cpuDevice(0, CPU)],
    ...changes,
  });

  test.each([PAGE, 2 ** 20])(
    "has pages at their places, aligned to %d, the others being zeros",
    async (alignment) => {
      const { memory, cpus, warnings } = await open(build(spec({ alignment })));
      for (const n of range(0, COUNT)) expectPage(memory, n, contents.get(n) ?? "zero");
      expectPage(memory, 2 ** 20 - 13, page(3));
      expectExtents(memory, COUNT);
      expect(memory.extentAt(0, RAM.size)).toMatchObject({ end: 3 * PAGE, at: {} });
      expect([cpus.length, warnings]).toEqual([1, []]);
    },
  );

  test("that lies elsewhere in the file than where it was written", async () => {
    const { memory } = await open(buildSave({ state: build(spec()) }));
    for (const n of range(0, COUNT)) expectPage(memory, n, contents.get(n) ?? "zero");
  });

  test("of a file that is not whole: what its bitmap lacks is not zeros", async () => {
    const { bytes, boundaries } = buildMigration(spec({ described: false, parts: [[], []], devices: [] }));
    const { memory, warnings } = await open(bytes.subarray(0, boundaries.at(-3)! - 2));
    expectPage(memory, 1, page(1));
    expectPage(memory, 3, "absent");
    expect(codes({ warnings })).toEqual(["DMP030", "DMP031"]);
  });

  test("cut inside its pages: the rest is absent", async () => {
    const bytes = build(spec({ described: false }));
    const { memory } = await open(bytes.subarray(0, bytes.indexOf(page(64)) + 100));
    expectPage(memory, 9, page(9));
    expectPage(memory, 64, "absent");
  });

  test("with a block left out", async () => {
    const left = await open(
      build(
        spec({
          blocks: [
            { ...RAM, mapped: contents },
            { ...BIOS, mapped: null },
          ],
        }),
      ),
    );
    expectPage(left.memory, 9, page(9));
    expectPage(left.memory, 2 ** 20 - 1, "absent");
  });

  test("of another version, or overlapping itself, is refused", async () => {
    const bytes = build(spec());
    const header = bytes.indexOf("pc.ram") + 6 + 8;
    await expect(open(changed(bytes, header + 3, 2))).rejects.toThrow(/mapped-ram of version 2/);
    await expect(open(changed(bytes, header + 26, 0))).rejects.toThrow(/overlap their bitmap/);
  });
});

function changed(bytes: Buffer, at: number, value: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[at] = value;
  return copy;
}

describe("the description", () => {
  const bytes = build({
    blocks: [RAM],
    parts: [[data(0)]],
    devices: [...devices, cpuDevice(0, CPU)],
    described: false,
  });
  const cpusWith = async (json: string | Buffer, behind = Buffer.alloc(0)) =>
    (await open(Buffer.concat([bytes, description(Buffer.from(json)), behind]))).cpus.length;
  const whole = build({ blocks: [RAM], parts: [[data(0)]], devices: [...devices, cpuDevice(0, CPU)] });
  const json = whole.subarray(bytes.length + 5);

  test("is found with zeros behind it, and whatever its length", async () => {
    expect(await cpusWith(json, Buffer.alloc(3000))).toBe(1);
    for (const length of [0x1_0000, 0x1_0100, 0xff_ff]) {
      const padded = Buffer.alloc(length, " ");
      json.copy(padded);
      expect([length, await cpusWith(padded)]).toEqual([length, 1]);
    }
  });

  test("with strings that look like structure", async () => {
    const tricky = JSON.stringify({ devices: [{ name: 'a"}]{[\\', instance_id: 1, fields: [] }] }).slice(
      0,
      -2,
    );
    const list = json.toString("latin1").replace(/^.*?"devices":\[/, "");
    expect(await cpusWith(`${tricky},${list}`)).toBe(1);
  });

  test.each([
    ["nothing", "{}"],
    ["no JSON", "{this is none}"],
    ["no end", '{"devices":[{"name":"cpu","instance_id":0,"fields":['],
    ["depth without end", `{"devices":[${'{"a":['.repeat(50_000)}`],
    [
      "other kinds of values",
      '{"devices":[1,null,{"name":1},{"name":"cpu","instance_id":0,"fields":[{"name":"x","size":-1}]},{"name":"cpu","instance_id":0,"vmsd_name":"cpu","fields":[null]}]}',
    ],
    [
      "impossible sizes",
      '{"devices":[{"name":"cpu","instance_id":0,"vmsd_name":"cpu","fields":[{"name":"x","size":9007199254740991,"array_len":9007199254740991}]}]}',
    ],
  ])("that has %s costs the registers only", async (_, text) => {
    expect(await cpusWith(text)).toBe(0);
  });

  test("of names without end, or of fields, is kept of them no more than is of use", () => {
    const members = range(0, 5000).map((n) => ({ name: `f${n}`, size: 1 }));
    const device = {
      fields: [{ name: "a".repeat(100_000), size: 5000, struct: { fields: members } }, ...members],
    };
    const kept = readFields(device, true)!;
    expect(kept.length).toBe(10_000);
    expect([kept.fields!.size, kept.fields!.get("f0")?.offset]).toEqual([4096, 5000]);
    expect(readFields(device, false)).toEqual({ length: 10_000, fields: undefined });
  });

  test("lets signals in between devices", async () => {
    const signal = new Error("signal");
    const checkpoint = () => Promise.reject(signal);
    const source = new MemorySource(whole);
    await expect(readDescription(source, new Set(), checkpoint)).rejects.toBe(signal);
  });
});

describe("damage", () => {
  const spec: MigrationSpec = {
    blocks: [{ ...RAM, size: 24 * PAGE }, BIOS],
    parts: [
      [
        ...range(0, 8).map((n) => (n % 3 === 1 ? zero(n) : data(n))),
        { block: "pc.bios", page: 1, bytes: page(9) },
      ],
      [{ block: "pc.ram", page: 3, zlib: page(30) }, data(2, page(31))],
      [{ block: "pc.ram", page: 2, delta: xbzrle(page(31), page(32)) }],
    ],
    devices: [clock(24 * PAGE, 0), cpuCommon(0, true), cpuDevice(0, CPU)],
  };
  const truth = new Map<number, readonly Buffer[]>([
    [2, [page(2), page(31), page(32)]],
    [3, [page(3), page(30)]],
  ]);

  test("a stream cut anywhere gives pages as they were, or none", async () => {
    const { bytes, boundaries } = buildMigration(spec);
    const cuts = boundaries
      .flatMap((at) => [at - 1, at, at + 1])
      .filter((at) => at >= 4 && at < bytes.length);
    let read = 0;
    for (const cut of cuts) {
      const dump = await open(bytes.subarray(0, cut)).catch((error: unknown) => error as Error);
      if (dump instanceof Error) {
        expect(dump, `${cut}`).toBeInstanceOf(GuestcoreError);
        continue;
      }
      read++;
      expect(codes(dump)).toContain("DMP031");
      for (const n of range(0, 24)) {
        const found = at(dump.memory, n);
        if (typeof found === "string")
          expect([found, n % 3 === 1 || found === "absent"]).toEqual([found, true]);
        else
          expect(
            (truth.get(n) ?? [page(n)]).some((wanted) => wanted.equals(found)),
            `${cut} ${n}`,
          ).toBe(true);
      }
    }
    expect(read).toBeGreaterThan(30);
  });

  test("1500 mutants end in pages, or an error of ours", async () => {
    const mapped: MigrationSpec = {
      ...spec,
      capabilities: ["mapped-ram"],
      blocks: [{ name: "pc.ram", size: 24 * PAGE, mapped: new Map([[1, page(1)]]) }],
      parts: [[]],
    };
    const outcomes = { read: 0, refused: 0 };
    for (const [original, count] of [
      [buildMigration(spec), 1000],
      [buildMigration(mapped), 500],
    ] as const) {
      for (let seed = 0; seed < count; seed++) {
        try {
          const { memory } = await open(mutant(original.bytes, original.boundaries, seed));
          for (const { start, end } of memory.ranges.slice(0, 8)) {
            for (let n = start / PAGE; n < Math.min(end, start + 32 * PAGE) / PAGE; n++) at(memory, n);
            memory.extentAt(start, end);
          }
          outcomes.read++;
        } catch (error) {
          if (!(error instanceof GuestcoreError)) throw error;
          outcomes.refused++;
        }
      }
    }
    expect(outcomes.read).toBeGreaterThan(300);
    expect(outcomes.refused).toBeGreaterThan(50);
  });
});

/** Cut, or with bytes changed near where something begins. */
function mutant(original: Buffer, boundaries: readonly number[], seed: number): Buffer {
  const chance = random(seed);
  if (chance.below(10) === 0) return Buffer.from(original.subarray(0, chance.below(original.length)));
  const bytes = Buffer.from(original);
  for (let n = chance.below(4); n >= 0; n--) {
    const near = chance.pick(boundaries) + chance.below(24);
    const place = Math.min(chance.below(4) === 0 ? chance.below(bytes.length) : near, bytes.length - 8);
    if (chance.below(2) === 0) bytes[place] = chance.below(256);
    else
      bytes.writeBigUInt64BE(
        BigInt.asUintN(64, chance.pick([0n, 1n, -1n, 1n << 42n, 0x10n, 0x2004n, 8n])),
        place,
      );
  }
  return bytes;
}

test("no error of the reader is taken for damage of the stream", async () => {
  const bytes = build({ blocks: [RAM], parts: [[data(0)]], devices });
  const source = new MemorySource(bytes);
  const failing = {
    name: "failing",
    size: source.size,
    read: (offset: number, target: Uint8Array) => {
      if (offset > 4096) throw new RangeError("not ours");
      return source.read(offset, target);
    },
  };
  await expect(openDump(failing)).rejects.toThrow(RangeError);
  expect(new CorruptError("x").exitCode).toBe(4);
});
