import { describe, expect, test } from "vitest";
import { openDump } from "../src/dump/open.ts";
import { note } from "./synth/notes.ts";
import { patternBytes } from "./synth/pattern.ts";
import { buildSadump, type SmramSpec } from "./synth/sadump.ts";

/**
 * A machine whose crashed kernel started its kdump kernel: text of both, IDTs that lead to it, and in the crash kernel's
 * memory the ELF header for /proc/vmcore and a copy of low memory, as kexec-tools lays them out.
 */
const PAGE = 4096;
const TABLES = 0x20_0000;
const IDTS = [0x30_0000, 0x4000_0000 - 0x10_0000];
const TEXTS = [0x31_0000, 0x3000_0000];
const CRASH_NOTES = [0x32_0000, 0x32_1800];
const VMCOREINFO = 0x33_0000;
const BACKUP = 0x3400_0000;
const HEADER = 0x3500_0000;
const LOW = { start: 0x1000, size: 0x9_e800 };

const put64 = (bytes: Buffer, at: number, value: number) => bytes.writeBigUInt64LE(BigInt(value), at);

type Program = readonly [type: number, offset: number, paddr: number, size: number];

function core(programs: readonly Program[], { type = 4, machine = 62 } = {}): Buffer {
  const bytes = Buffer.alloc(PAGE);
  bytes.write("\x7fELF\x02\x01\x01", "latin1");
  bytes.writeUInt16LE(type, 16);
  bytes.writeUInt16LE(machine, 18);
  put64(bytes, 32, 64);
  bytes.writeUInt16LE(64, 52);
  bytes.writeUInt16LE(56, 54);
  bytes.writeUInt16LE(programs.length, 56);
  for (const [i, [kind, offset, paddr, size]] of programs.entries()) {
    const at = 64 + 56 * i;
    bytes.writeUInt32LE(kind, at);
    put64(bytes, at + 8, offset);
    put64(bytes, at + 24, paddr);
    put64(bytes, at + 32, size);
    put64(bytes, at + 40, size);
  }
  return bytes;
}

const PROGRAMS: readonly Program[] = [
  ...CRASH_NOTES.map((address): Program => [4, address, address, 512]),
  [4, VMCOREINFO, VMCOREINFO, 4096],
  [1, BACKUP + 0x1000, LOW.start, LOW.size],
  [1, 0x10_0000, 0x10_0000, 0x2f00_0000],
];

/** The gate of vector 0. */
function idt(handler: number): Buffer {
  const bytes = Buffer.alloc(PAGE);
  bytes.writeUInt16LE(handler & 0xffff, 0);
  bytes.writeUInt16LE(0x10, 2);
  bytes.writeUInt16LE(0x8e00, 4);
  bytes.writeUInt16LE(Math.floor(handler / 0x1_0000) & 0xffff, 6);
  return bytes;
}

const prstatus = (pid: number): Buffer => note("CORE", 1, Buffer.alloc(336, pid));
const textOf = (crashed: boolean) =>
  `OSRELEASE=4.18.0-305.el8\nPAGESIZE=4096\n${crashed ? "CRASHTIME=1700000000\n" : ""}`;

interface Machine {
  readonly kernels?: readonly number[];
  readonly header?: Buffer;
  readonly backup?: (page: number) => Buffer;
  readonly crashed?: boolean;
}

const saved = (page: number): Buffer => patternBytes(PAGE, 1000 + page);
const current = (page: number): Buffer => patternBytes(PAGE, 5000 + page);

function machine({
  kernels = [0, 1],
  header = core(PROGRAMS),
  backup = saved,
  crashed = true,
}: Machine = {}) {
  const pages = new Map<number, Buffer | null>();
  const put = (address: number, bytes: Buffer) => {
    const padded = Buffer.alloc(Math.ceil(bytes.length / PAGE) * PAGE);
    bytes.copy(padded);
    for (let at = 0; at < padded.length; at += PAGE)
      pages.set((address + at) / PAGE, padded.subarray(at, at + PAGE));
  };
  const [top, middle] = [Buffer.alloc(PAGE), Buffer.alloc(PAGE)];
  put64(top, 0, (TABLES + PAGE) | 3);
  put64(middle, 0, 0x83);
  put(TABLES, Buffer.concat([top, middle]));
  for (const [i, text] of TEXTS.entries()) {
    put(text, patternBytes(PAGE, i));
    put(IDTS[i]!, idt(text));
  }
  const notes = Buffer.alloc(2 * PAGE);
  for (const [i, address] of CRASH_NOTES.entries()) prstatus(i + 1).copy(notes, address - CRASH_NOTES[0]!);
  put(CRASH_NOTES[0]!, notes);
  put(VMCOREINFO, note("VMCOREINFO", 0, Buffer.from(textOf(crashed))));
  for (let page = 0; page < 0xa0; page++) {
    put(page * PAGE, current(page));
    put(BACKUP + page * PAGE, backup(page));
  }
  put(HEADER, header);
  const cpus = kernels.map(
    (kernel): SmramSpec => ({
      registers: {
        rflags: 2n,
        cr0: 0x8005_0033n,
        cr3: BigInt(TABLES),
        cr4: 0x6b0n,
        efer: 0xd01n,
        rip: BigInt(TEXTS[kernel]!),
      },
      idt: [BigInt(IDTS[kernel]!), 0xfff],
    }),
  );
  const bytes = buildSadump({ pages, cpus });
  return openDump({
    name: "dump",
    size: bytes.length,
    read: (offset, target) => (offset >= bytes.length ? 0 : bytes.copy(target, 0, offset)),
  });
}

/** Which pages of low memory are those that were saved. */
async function lowPages({ memory }: Awaited<ReturnType<typeof machine>>): Promise<[number, number][]> {
  const kinds: [number, number][] = [];
  const page = Buffer.alloc(PAGE);
  const isSaved = (at: number): boolean => {
    expect(memory.readPage(at * PAGE, page)).toBe("present");
    if (page.equals(saved(at))) return true;
    expect(page.equals(current(at)), `page ${at}`).toBe(true);
    return false;
  };
  for (let at = 0; at < 0xa0; at++) {
    if (!isSaved(at)) continue;
    const last = kinds.at(-1);
    if (last?.[1] === at) last[1] = at + 1;
    else kinds.push([at, at + 1]);
  }
  return kinds;
}

const codes = ({ warnings }: Awaited<ReturnType<typeof machine>>) => warnings.map(({ code }) => code);

describe("a sadump of a machine that ran its kdump kernel", () => {
  test("has low memory from where it was saved, and the crashed kernel's notes", async () => {
    const dump = await machine();
    expect(await lowPages(dump)).toEqual([[1, 0xa0]]);
    expect(dump.warnings).toEqual([
      {
        code: "DMP013",
        message:
          "kdump had begun: 636.0 KiB of low memory are read from 0x34001000, registers and VMCOREINFO are those that the crashed kernel kept",
      },
    ]);
    expect(dump.cpus).toEqual([]);
    expect(dump.notes.map(({ name, desc }) => [name, desc[0]])).toEqual([
      ["CORE", 1],
      ["CORE", 2],
      ["VMCOREINFO", "O".charCodeAt(0)],
    ]);
    expect(dump.notes[2]!.desc.toString()).toBe(textOf(true));
  });

  test("extents of low memory lie where it was saved, and end at its end", async () => {
    const { memory } = await machine();
    const [before, moved] = [memory.extentAt(0, 0x1_0000), memory.extentAt(0x1000, 0x10_0000)];
    expect([before.start, before.end, before.state]).toEqual([0, 0x1000, "present"]);
    expect([moved.start, moved.end, moved.state]).toEqual([0x1000, 0xa_0000, "present"]);
    const bytes = Buffer.alloc(PAGE);
    moved.at!.source.read(moved.at!.offset + 7 * PAGE, bytes);
    expect(bytes.equals(saved(8))).toBe(true);
    expect(memory.extentAt(0x20_0000, 0x20_2000)).toMatchObject({ start: 0x20_0000, state: "present" });
  });

  test("one kernel alone: nothing was saved yet", async () => {
    for (const kernels of [[0, 0], [1], []]) {
      const dump = await machine({ kernels });
      expect(await lowPages(dump)).toEqual([]);
      expect([dump.notes, dump.cpus.length]).toEqual([[], kernels.length]);
      expect(codes(dump)).not.toContain("DMP013");
    }
  });

  test("a copy of nothing but zeros is none; the notes are there all the same", async () => {
    const dump = await machine({ backup: () => Buffer.alloc(PAGE) });
    expect(await lowPages(dump)).toEqual([]);
    expect(dump.warnings).toMatchObject([
      { message: "kdump had begun: registers and VMCOREINFO are those that the crashed kernel kept" },
    ]);
    expect(dump.notes.length).toBe(3);
  });

  test("of a kernel that saves no low memory", async () => {
    const own: Program = [1, LOW.start, LOW.start, LOW.size];
    const dump = await machine({
      header: core(PROGRAMS.map((program) => (program[2] === LOW.start ? own : program))),
    });
    expect(await lowPages(dump)).toEqual([]);
    expect([dump.notes.length, codes(dump)]).toEqual([3, ["DMP013"]]);
  });

  test.each([
    ["of another kind of file", core(PROGRAMS, { type: 2 })],
    ["of another machine", core(PROGRAMS, { machine: 183 })],
    ["whose memory it lies in", core([...PROGRAMS, [1, 0x3000_0000, 0x3000_0000, 0x1000_0000]])],
    ["without VMCOREINFO", core(PROGRAMS.filter(([, offset]) => offset !== VMCOREINFO))],
    [
      "with notes outside of memory",
      core(PROGRAMS.map((p) => (p[1] === VMCOREINFO ? [4, 2 ** 50, 2 ** 50, 4096] : p))),
    ],
    ["that ends in its table", core(PROGRAMS).fill(0xff, 54, 58)],
  ])("an ELF header %s is not the one", async (_, header) => {
    const dump = await machine({ header });
    expect(await lowPages(dump)).toEqual([]);
    expect(dump.notes).toEqual([]);
    expect(dump.cpus.length).toBe(2);
    expect(dump.warnings).toMatchObject([
      {
        code: "DMP013",
        message: "processors run two kernels, so kdump had begun, but its ELF header was not found",
      },
    ]);
  });

  test("a kernel that did not crash left no such header", async () => {
    expect((await machine({ crashed: false })).notes).toEqual([]);
  });

  test.each([
    ["behind 640 KiB", 0x1000, 0xa_0000],
    ["to half a page", 0x1000, 0x9_0000, BACKUP + 0x800],
    ["from half a page", 0x1800, 0x1_0000],
  ])("low memory that goes %s is not moved", async (_, start, size, to = BACKUP + start) => {
    const programs = PROGRAMS.map((p): Program => (p[2] === LOW.start ? [1, to, start, size] : p));
    const dump = await machine({ header: core(programs) });
    expect(await lowPages(dump)).toEqual([]);
    expect(dump.notes.length).toBe(3);
  });
});
