import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { main } from "../src/cli/main.ts";
import type { DumpedCpu, MachineDump } from "../src/dump/format.ts";
import { openDump } from "../src/dump/open.ts";
import type { Vcpu } from "../src/guest/guest.ts";
import { listGuests } from "../src/jobs/guests.ts";
import { openInput } from "../src/jobs/input.ts";
import { inspect } from "../src/jobs/inspect.ts";
import { infoText } from "../src/report/info.ts";
import { modeOf } from "../src/x86/mode.ts";
import { quiet } from "./support/memory-io.ts";
import { prstatusRegisters, readVmcore } from "./support/read-vmcore.ts";
import { schemas } from "./support/schemas.ts";
import { FakeTerminal } from "./support/terminal.ts";
import { buildSadump, type SadumpSpec, type SmramSpec } from "./synth/sadump.ts";

const PAGE = 4096;
const folder = mkdtempSync(join(tmpdir(), "guestcore-sadump-cpus-"));
afterAll(() => rmSync(folder, { recursive: true }));

const open = (bytes: Buffer): Promise<MachineDump> =>
  openDump({
    name: "dump",
    size: bytes.length,
    read: (offset, target) => (offset >= bytes.length ? 0 : bytes.copy(target, 0, offset)),
  });

const GENERAL = "rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15".split(" ");
const general = (seed: bigint): Record<string, bigint> =>
  Object.fromEntries(GENERAL.map((name, i) => [name, 0xa1b2_c3d4_0000_0000n | (seed << 8n) | BigInt(i)]));

const SYSTEM = {
  ...{ rip: 0xffff_ffff_8101_7a0bn, rflags: 0x246n, efer: 0xd01n },
  ...{ cr0: 0x8005_0033n, cr3: 0x1003n, cr4: 0x6b0n },
};
const SELECTORS = { es: 0, cs: 0x10, ss: 0x18, ds: 0x2b, fs: 0, gs: 0, ldt: 0, tr: 0x40 };

/** A processor of Linux in kernel mode whose GDT lies at `gdt`. */
const linux = (gdt: number, others: Partial<SmramSpec> = {}): SmramSpec => ({
  registers: { ...general(BigInt(gdt)), ...SYSTEM },
  selectors: SELECTORS,
  gdt: [BigInt(gdt), 127],
  idt: [0xffff_fe00_0000_0000n, 0xfff],
  ...others,
});

/** A GDT as Linux lays it out, of the processor of that number on a NUMA node. */
function gdtPage(cpu: number, node = 0): Buffer {
  const page = Buffer.alloc(PAGE);
  const words: [number, bigint][] = [
    [2, 0x00af_9b00_0000_ffffn],
    [3, 0x00cf_9300_0000_ffffn],
    [5, 0x00cf_f300_0000_ffffn],
    [6, 0x00af_fb00_0000_ffffn],
    [8, 0x0000_8b00_3000_4087n],
    [9, 0xffff_fe00n],
    [15, 0x0040_f500_0000_0000n | BigInt(cpu | (node << 12))],
  ];
  for (const [index, word] of words) page.writeBigUInt64LE(word, 8 * index);
  return page;
}

/** The lowest GiB mapped as it is, by one page of that size. */
function identityTables(at: number): [number, Buffer][] {
  const [top, middle] = [Buffer.alloc(PAGE), Buffer.alloc(PAGE)];
  top.writeBigUInt64LE(BigInt((at + 1) * PAGE) | 3n, 0);
  middle.writeBigUInt64LE(0x83n, 0);
  return [
    [at, top],
    [at + 1, middle],
  ];
}

const GDT = 0x10_0000;
/** Memory with the GDTs of these processors from 1 MiB on. */
const memoryWith = (cpus: readonly (readonly [number, number?])[]): SadumpSpec["pages"] =>
  new Map<number, Buffer>([
    ...identityTables(1),
    ...cpus.map(([cpu, node], i): [number, Buffer] => [GDT / PAGE + i, gdtPage(cpu, node)]),
  ]);
const gdtOf = (i: number): number => GDT + i * PAGE;
const raxOf = ({ state }: DumpedCpu): bigint => (state.rax! >> 8n) & 0xffff_ffn;
const order = ({ cpus }: MachineDump): number[] => cpus.map((cpu) => (Number(raxOf(cpu)) - GDT) / PAGE);

describe("SMRAM states", () => {
  test("every register, and what the descriptor tables say of segments", async () => {
    const { cpus, warnings } = await open(
      buildSadump({ pages: memoryWith([[0]]), cpus: [linux(GDT, { halted: true })] }),
    );
    expect(warnings).toEqual([]);
    expect(cpus).toEqual([
      {
        index: 0,
        source: "SMRAM state of APIC ID 0 at offset 0x2014",
        halted: true,
        state: {
          ...general(BigInt(GDT)),
          ...SYSTEM,
          cr2: undefined,
          kernelGsBase: undefined,
          gdt: { base: BigInt(GDT), limit: 127 },
          idt: { base: 0xffff_fe00_0000_0000n, limit: 0xfff },
          segments: {
            es: { selector: 0, base: 0n, limit: 0, flags: 0 },
            cs: { selector: 0x10, base: 0n, limit: 0xffff_ffff, flags: 0xa0_9b00 },
            ss: { selector: 0x18, base: 0n, limit: 0xffff_ffff, flags: 0xc0_9300 },
            ds: { selector: 0x2b, base: 0n, limit: 0xffff_ffff, flags: 0xc0_f300 },
            fs: { selector: 0, base: 0n, limit: 0, flags: 0 },
            gs: { selector: 0, base: 0n, limit: 0, flags: 0 },
            ldt: { selector: 0, base: 0n, limit: 0, flags: 0 },
            tr: { selector: 0x40, base: 0xffff_fe00_0000_3000n, limit: 0x4087, flags: 0x8b00 },
          },
        },
      },
    ]);
    expect(modeOf(cpus[0]!.state)).toBe("long");
  });

  test("an LDT's descriptors, and tables of which nothing is known", async () => {
    const ldt = Buffer.alloc(PAGE);
    ldt.writeBigUInt64LE(0x12c0_f334_5678_000fn, 8);
    const pages = new Map([...memoryWith([[0]]), [0x200, ldt]]);
    const selectors = { ...SELECTORS, fs: 0x0f, gs: 0x7f, ldt: 0x50 };
    const cpu = linux(GDT, { selectors, ldt: [0x20_0000n, 15] });
    const { cpus } = await open(buildSadump({ pages, cpus: [cpu] }));
    expect(cpus[0]!.state.segments).toMatchObject({
      fs: { selector: 0x0f, base: 0x1234_5678n, limit: 0xffff, flags: 0xc0_f300 },
      gs: { selector: 0x7f, base: 0n, limit: 0, flags: 0 },
      ldt: { selector: 0x50, base: 0x20_0000n, limit: 15 },
    });
    const elsewhere = linux(0x3000_0000);
    const lost = await open(buildSadump({ pages: memoryWith([[0]]), cpus: [elsewhere] }));
    expect(lost.cpus[0]!.state.segments.cs).toEqual({ selector: 0x10, base: 0n, limit: 0, flags: 0 });
    expect(lost.warnings.map(({ code }) => code)).toEqual(["DMP012"]);
  });

  test("APIC IDs that no processor has are passed over", async () => {
    const cpus = [linux(gdtOf(0)), undefined, linux(gdtOf(1)), undefined];
    const dump = await open(buildSadump({ pages: memoryWith([[0], [1]]), cpus }));
    expect(dump.cpus.map(({ index, source }) => [index, source])).toEqual([
      [0, "SMRAM state of APIC ID 0 at offset 0x2044"],
      [1, "SMRAM state of APIC ID 2 at offset 0x2844"],
    ]);
  });

  test("are in Linux's order, which the limit of a descriptor tells, on any node", async () => {
    // As firmware lists threads: the second of each core last.
    const numbers = [[0], [4], [1, 1], [5, 1], [2], [6, 3]] as const;
    const cpus = numbers.map((_, i) => linux(gdtOf(i)));
    const dump = await open(buildSadump({ pages: memoryWith(numbers), cpus }));
    expect(order(dump)).toEqual([0, 2, 4, 1, 3, 5]);
    expect(dump.cpus.map(({ index }) => index)).toEqual([0, 1, 2, 3, 4, 5]);
    expect(dump.warnings).toEqual([]);
  });

  test("a processor in a guest gets the number that is left, one without Linux the last", async () => {
    const numbers = [[2], [9], [0], [3]] as const;
    const guest = linux(gdtOf(1), { eptp: 0x12e2_201en });
    const firmware = linux(0xf_f000, { registers: { ...general(0xf_f000n), rflags: 2n, cr0: 0x10n } });
    const cpus = [linux(gdtOf(0)), firmware, guest, linux(gdtOf(2)), linux(gdtOf(3))];
    const dump = await open(buildSadump({ pages: memoryWith(numbers), cpus }));
    expect(order(dump)).toEqual([2, 1, 0, 3, -1]);
    expect(dump.cpus.map(({ inGuest }) => inGuest?.eptp)).toEqual([
      ...[undefined, 0x12e2_201en, undefined, undefined, undefined],
    ]);
    expect(dump.warnings).toMatchObject([
      {
        message: "the descriptor tables of 1 processor do not tell a number in Linux: they are put last",
      },
    ]);
  });

  test("two of one number: the order is that of APIC IDs, and told", async () => {
    const cpus = [linux(gdtOf(0)), linux(gdtOf(1)), linux(gdtOf(2))];
    const dump = await open(buildSadump({ pages: memoryWith([[1], [0], [1]]), cpus }));
    expect(order(dump)).toEqual([0, 1, 2]);
    expect(dump.warnings).toMatchObject([
      {
        code: "DMP012",
        message:
          "processors have the same number by their descriptor tables: all are put in the order of APIC IDs",
      },
    ]);
  });

  test.each([
    ["no processors", 80, 0],
    ["more processors than states", 80, 70_000],
  ])("with %s there are none", async (_, at, value) => {
    const dump = buildSadump({ pages: memoryWith([[0]]), cpus: [linux(GDT)] });
    dump.writeUInt32LE(value, PAGE + at);
    expect((await open(dump)).cpus).toEqual([]);
  });

  test.each([0, 1023, 4096, 0xffff_ffff])("of %d bytes there are none", async (size) => {
    const dump = buildSadump({ pages: memoryWith([[0]]), cpus: [linux(GDT)] });
    dump.writeUInt32LE(size, 2 * PAGE);
    expect((await open(dump)).cpus).toEqual([]);
  });
});

/** The shipped dump of a KVM host with a guest of four vCPUs, as firmware would have dumped it. */
describe("a host whose processors were in a guest", () => {
  const sample = (name: string): string => join(import.meta.dirname, "../samples", name);
  const truth = readFileSync(sample("kvm-host.truth.txt"), "latin1");
  const EPTP = 0x12e2_201en;
  const contents = new Map<number, Buffer>();
  /** What the vCPUs have without processors that ran them. */
  let held: readonly Vcpu[];
  beforeAll(async () => {
    const input = await openInput(sample("kvm-host.vmcore.zst"), quiet);
    const elf = Buffer.alloc(input.source.size);
    input.source.read(0, elf);
    input.close();
    for (const { paddr, bytes } of readVmcore(elf).loads) {
      for (let at = 0; at + PAGE <= bytes.length; at += PAGE) {
        contents.set((Number(paddr) + at) / PAGE, bytes.subarray(at, at + PAGE));
      }
    }
    for (const [i, pfn] of [0x8000, 0x8001].entries()) contents.set(pfn, gdtPage(i));
    held = await vcpusOf(write("none", [own(0), own(1)]));
  });

  const table = (vcpu: number, name: string): [bigint, number] => {
    const [, base, limit] = new RegExp(`^vcpu${vcpu}\\.${name} base=(\\S+) limit=(\\S+)`, "m").exec(truth)!;
    return [BigInt(base!), Number(limit)];
  };

  /** A processor that ran the vCPU and has gone on since its VMCS was written to memory. */
  const inGuest = (vcpu: number, others: Record<string, bigint> = {}, eptp = EPTP): SmramSpec => ({
    registers: {
      ...general(BigInt(vcpu)),
      ...{
        rip: 0x40_1234n,
        rflags: 0x10_0246n,
        cr0: 0x8005_0033n,
        cr3: 0x7_7000n,
        cr4: 0x26a0n,
        efer: 0xd01n,
      },
      ...others,
    },
    selectors: { ...SELECTORS, cs: 0x33, ss: 0x2b },
    gdt: table(vcpu, "gdt"),
    idt: table(vcpu, "idt"),
    eptp,
    halted: vcpu === 2,
  });

  function write(name: string, cpus: readonly SmramSpec[]): string {
    const path = join(folder, name);
    writeFileSync(path, buildSadump({ pages: contents, cpus }));
    return path;
  }
  /** Its own processors are of Linux, with GDTs where no tables are needed. */
  const own = (i: number): SmramSpec =>
    linux(0x800_0000 + i * PAGE, { registers: { ...general(0n), rflags: 2n, cr0: 0x10n } });

  const vcpusOf = async (path: string): Promise<readonly Vcpu[]> =>
    (await listGuests(path, {}, quiet)).guests[0]!.vcpus;
  async function run(...args: string[]): Promise<FakeTerminal> {
    const terminal = new FakeTerminal();
    expect([await main(args, terminal), terminal.err]).toEqual([0, terminal.err]);
    return terminal;
  }

  test("their registers are those of the vCPUs, told by EPTP and descriptor tables", async () => {
    const path = write("two", [inGuest(1), own(0), inGuest(0, { rip: 0x40_5678n })]);
    const [zero, one, ...others] = await vcpusOf(path);
    expect(others).toEqual(held.slice(2));
    expect(zero!.state).toMatchObject({
      ...general(0n),
      rip: 0x40_5678n,
      rflags: 0x10_0246n,
      cr3: 0x7_7000n,
    });
    expect(one!.state).toMatchObject({ ...general(1n), rip: 0x40_1234n });
    for (const [i, vcpu] of [zero!, one!].entries()) {
      // CR4.VMXE is the hypervisor's.
      expect(vcpu.state).toMatchObject({ cr0: 0x8005_0033n, cr4: 0x6a0n, efer: 0xd01n, cr2: undefined });
      expect(vcpu).toMatchObject({
        trust: "partly-stale",
        halted: false,
        caveats: [expect.stringMatching(/^the processor's selectors/)],
      });
      expect(vcpu.source).toMatch(/^the host's processor [12], which was in the guest; VMCS at 0x/);
      const before = held[i]!.state.segments;
      expect(vcpu.state.segments).toMatchObject({
        cs: { ...before.cs, selector: 0x33, flags: before.cs.flags | (3 << 13) },
        ss: { ...before.ss, selector: 0x2b, flags: before.ss.flags | (3 << 13) },
        ds: { ...before.ds, selector: 0x2b },
        fs: { ...before.fs, selector: 0 },
        tr: before.tr,
      });
      expect(vcpu.sources!.fs).toBe("VMCS GUEST_FS, may be stale; selector of SMRAM");
      expect(vcpu.sources!.rax).toBeUndefined();
    }
  });

  test("an EPT pointer that is of no vCPU, or left from before, is not enough", async () => {
    const elsewhere = inGuest(0, {}, 0x7777_701en);
    const left = { ...own(0), eptp: EPTP };
    const both = { ...inGuest(0), gdt: [0x1234_5000n, 127] as const };
    expect(await vcpusOf(write("others", [elsewhere, left, both]))).toEqual(held);
    expect(await vcpusOf(write("off", [{ ...inGuest(0), eptpSetting: 0 }]))).toEqual(held);
  });

  test("two processors that ran the same vCPU are of none", async () => {
    expect(await vcpusOf(write("same", [inGuest(1), inGuest(1)]))).toEqual(held);
  });

  test("its vmcore has their registers; converted, the host's own has, and that is told", async () => {
    const path = write("host", [own(0), inGuest(1)]);
    const core = join(folder, "guest.vmcore");
    const { out } = await run("extract", path, "--guest", "1", "-o", core);
    expect(out).toContain("vcpu1  user       rip 0000000000401234  cr3 0000000000077000  partly stale");
    const registersOf = (file: string) =>
      readVmcore(readFileSync(file))
        .notes.filter(({ name }) => name === "CORE")
        .map(({ desc }) => prstatusRegisters(desc));
    expect(registersOf(core)[1]).toMatchObject({ ...general(1n), rip: 0x40_1234n, cs: 0x33n });
    const converted = join(folder, "host.vmcore");
    const { err } = await run("convert", path, converted);
    expect(err).toContain("warning DMP012: CPU 1 ran a guest when the dump was made");
    expect(registersOf(converted)[1]).toMatchObject({ ...general(1n), rip: 0x40_1234n });
  });

  test("info shows them", async () => {
    const path = write("shown", [own(0), inGuest(2)]);
    const result = await inspect(path, quiet);
    const text = infoText(result, false);
    expect(text).toMatch(/^ {4}cpu0 {2}real {8}rip 0{16} {2}cr3 0{16}$/m);
    expect(text).toContain(
      "    cpu1  in a guest  rip 0000000000401234  cr3 0000000000077000  halted  EPTP 0x12e2201e\n",
    );
    expect(text).toMatch(/guestcore guests \S+shown$/m);
    const { out } = await run("info", "--json", path);
    const json = JSON.parse(out) as { result: { vmcore: { processors: { inGuest?: unknown }[] } } };
    expect(schemas().getSchema("info.json")!(json)).toBe(true);
    expect(json.result.vmcore.processors.map(({ inGuest }) => inGuest)).toEqual([
      undefined,
      { eptp: "0x0000000012e2201e" },
    ]);
  });
});
