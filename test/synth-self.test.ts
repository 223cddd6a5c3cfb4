import { spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { buildElf, describeElf, type ElfSegment, PF_R, PF_W, PT_LOAD, writeElf } from "./synth/elf.ts";
import {
  auxv,
  malformedNotes,
  NT_AUXV,
  NT_FILE,
  NT_PRPSINFO,
  NT_PRSTATUS,
  note,
  ntFile,
  prpsinfo,
  prstatus,
  qemuCpuState,
  siginfo,
  vmcoreinfoNote,
} from "./synth/notes.ts";
import {
  extremes,
  headerMutants,
  mutants,
  PAGE,
  patternBytes,
  patternPage,
  random,
  seedOf,
  truncations,
} from "./synth/pattern.ts";
import { buildQemuCore } from "./synth/qemu.ts";
import { HARMLESS, LITTER } from "./synth/qemu-decoys.ts";
import { EXE, writeExe } from "./synth/qemu-exe.ts";
import { LAYOUTS, type LayoutName } from "./synth/qemu-layouts.ts";
import {
  dimm,
  firmware,
  longMode,
  mainRam,
  numaNodes,
  resetState,
  seabiosParked,
  undumped,
  userMode,
  vga,
} from "./synth/qemu-presets.ts";
import { SyntheticProcess } from "./synth/qemu-process.ts";
import type { QemuCore, QemuSpec } from "./synth/qemu-spec.ts";

/** The builders themselves, judged by tools that know nothing of them and by single bytes. */

const folder = mkdtempSync(join(tmpdir(), "synth-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let files = 0;
function saved(bytes: Uint8Array): string {
  const path = join(folder, `file${files++}`);
  writeFileSync(path, bytes);
  return path;
}

const has = (tool: string): boolean => spawnSync(tool, ["--version"]).error === undefined;
const tools = { readelf: has("readelf"), gdb: has("gdb") };

/** A test that needs a tool of the system, and says so where it is missing. */
function testWith(tool: keyof typeof tools, name: string, body: () => void): void {
  test(name, (context) => {
    if (!tools[tool]) context.skip(`${tool} is not installed`);
    body();
  });
}

function readelf(path: string, ...options: string[]): { out: string; complaints: string } {
  const run = spawnSync("readelf", [...options, "-W", path], { encoding: "latin1", maxBuffer: 1 << 28 });
  return { out: run.stdout, complaints: run.stderr };
}

function gdb(core: Uint8Array, ...commands: string[]): string {
  const options = ["-nx", "-batch", "-iex", "set debuginfod enabled off", "-core", saved(core)];
  return spawnSync("gdb", [...options, ...commands.flatMap((command) => ["-ex", command])], {
    encoding: "latin1",
  }).stdout;
}

/** Program headers as readelf prints them. */
const programs = (out: string): string[] =>
  [...out.matchAll(/^ {2}(\w+) +0x(\w+) 0x(\w+) 0x(\w+) 0x(\w+) 0x(\w+) (...) 0x(\w+)$/gm)].map((match) =>
    match
      .slice(1)
      .map((field) => field.trim())
      .join(" "),
  );

const bytesOf = (text: string): Buffer => Buffer.from(text, "latin1");

describe("ELF", () => {
  const two: ElfSegment[] = [
    { vaddr: 0x1000, paddr: 0x9000, bytes: bytesOf("first"), memsz: 0x3000 },
    { vaddr: 0xffff_ffff_8100_1234n, bytes: bytesOf("second"), flags: PF_R },
  ];

  testWith("readelf", "a plain core", () => {
    const notes = note("CORE", NT_PRSTATUS, prstatus({ pid: 1 }));
    const { out, complaints } = readelf(saved(buildElf({ segments: two, notes })), "-hl");
    expect(complaints).toBe("");
    expect(out).toMatch(/Class: +ELF64/);
    expect(out).toMatch(/Type: +CORE/);
    expect(out).toMatch(/Machine: +Advanced Micro Devices X86-64/);
    expect(programs(out)).toEqual([
      "NOTE 0000e8 0000000000000000 0000000000000000 000164 000000  4",
      "LOAD 001000 0000000000001000 0000000000009000 000005 003000 RW 1000",
      "LOAD 002000 ffffffff81001234 0000000000000000 000006 000006 R 1000",
    ]);
  });

  test("the bytes of a plain core are where its layout says", () => {
    const { core, layout } = describeElf({ segments: two, notes: Buffer.from("notes") });
    expect(layout).toEqual({
      size: 0x2006,
      phoff: 64,
      phentsize: 56,
      phnum: 3,
      shoff: undefined,
      shnum: 0,
      notes: { offset: 232, size: 5 },
      segments: [
        { offset: 0x1000, size: 5 },
        { offset: 0x2000, size: 6 },
      ],
    });
    expect(core.toString("latin1", 232, 237)).toBe("notes");
    expect(core.toString("latin1", 0x1000, 0x1005)).toBe("first");
    expect(core.toString("latin1", 0x2000)).toBe("second");
    expect(core.length).toBe(layout.size);
  });

  testWith("readelf", "program headers at the end, or in the middle of the file", () => {
    for (const phoff of ["end", 0x1800] as const) {
      const { core, layout } = describeElf({ segments: two, phoff });
      expect(layout.phoff).toBe(phoff === "end" ? 0x2008 : 0x1800);
      const { out, complaints } = readelf(saved(core), "-l");
      expect(complaints).toBe("");
      expect(programs(out)).toHaveLength(2);
      expect(core.toString("latin1", layout.segments[1]!.offset, layout.segments[1]!.offset + 6)).toBe(
        "second",
      );
    }
  });

  testWith("readelf", "PN_XNUM with 70 000 segments", () => {
    const segments = Array.from({ length: 70_000 }, (_, i) => ({ vaddr: i * 4096, memsz: 4096 }));
    const { core, layout } = describeElf({ segments });
    expect(core.readUInt16LE(56)).toBe(0xffff);
    expect(core.readUInt16LE(60)).toBe(1);
    expect(core.readUInt32LE(layout.shoff! + 44)).toBe(70_000);
    const { out, complaints } = readelf(saved(core), "-hl");
    expect(complaints).toBe("");
    expect(out).toMatch(/Number of program headers: +65535 \(70000\)/);
    expect(programs(out)).toHaveLength(70_000);
    expect(programs(out).at(-1)).toMatch(/^LOAD \w+ 000000001116f000 /);
  });

  testWith("readelf", "PN_XNUM forced on a small file", () => {
    const { out, complaints } = readelf(saved(buildElf({ segments: two, pnXnum: true })), "-hl");
    expect(complaints).toBe("");
    expect(out).toMatch(/Number of program headers: +65535 \(2\)/);
    expect(programs(out)).toHaveLength(2);
  });

  testWith("readelf", "gdb's shape: unaligned offsets, notes at the end, a section per segment", () => {
    const notes = note("CORE", NT_PRSTATUS, prstatus({ pid: 1 }));
    const core = buildElf({ segments: two, notes, notesAt: "end", dataAlign: 1, sections: "gdb" });
    const { out, complaints } = readelf(saved(core), "-hSln");
    expect(complaints).toBe("");
    expect(programs(out).map((line) => line.split(" ").slice(0, 2).join(" "))).toEqual([
      "NOTE 0000f3",
      "LOAD 0000e8",
      "LOAD 0000ed",
    ]);
    expect(out).toMatch(/\[ 1\] note0 +NOTE/);
    expect(out).toMatch(/\[ 2\] load +PROGBITS +0000000000001000 0000e8 000005/);
    expect(out).toMatch(/\[ 4\] \.shstrtab +STRTAB/);
    expect(out).toMatch(/NT_PRSTATUS/);
  });

  testWith("readelf", "32-bit and big-endian files", () => {
    const segments = [{ vaddr: 0x8000_1000, paddr: 0x1000, bytes: bytesOf("abc"), memsz: 0x2000 }];
    const small = readelf(saved(buildElf({ class64: false, machine: 3, segments })), "-hl");
    expect(small.complaints).toBe("");
    expect(small.out).toMatch(/Class: +ELF32[\s\S]*Intel 80386/);
    expect(programs(small.out)).toEqual(["LOAD 001000 80001000 00001000 00003 02000 RW 1000"]);
    const notes = note("CORE", 1, Buffer.alloc(4), { bigEndian: true });
    const big = readelf(saved(buildElf({ bigEndian: true, machine: 22, segments, notes })), "-hln");
    expect(big.complaints).toBe("");
    expect(big.out).toMatch(/big endian[\s\S]*IBM S\/390/);
    expect(programs(big.out)[1]).toBe("LOAD 001000 0000000080001000 0000000000001000 000003 002000 RW 1000");
    expect(big.out).toMatch(/CORE +0x00000004/);
  });

  test("raw values win over honest ones", () => {
    const core = buildElf({
      segments: [{ bytes: bytesOf("x"), filesz: -1, memsz: 1, offset: (1n << 53n) + 1n }, ...two],
      ehsize: 8,
      header: { phnum: 0xfffe, shoff: -1, phentsize: 0, osabi: 9, magic: 0x464c_457e },
      programs: { 2: { type: 0x6474_e553, align: 3 } },
    });
    expect(core.readBigUInt64LE(64 + 32)).toBe(0xffff_ffff_ffff_ffffn);
    expect(core.readBigUInt64LE(64 + 40)).toBe(1n);
    expect(core.readBigUInt64LE(64 + 8)).toBe(0x20_0000_0000_0001n);
    expect(core.readUInt32LE(64 + 56)).toBe(PT_LOAD);
    expect(core.readUInt32LE(64 + 112)).toBe(0x6474_e553);
    expect(core.readBigUInt64LE(64 + 112 + 48)).toBe(3n);
    expect(core.readUInt16LE(52)).toBe(8);
    expect(core.readUInt16LE(54)).toBe(0);
    expect(core.readUInt16LE(56)).toBe(0xfffe);
    expect(core.readBigUInt64LE(40)).toBe(0xffff_ffff_ffff_ffffn);
    expect(core[7]).toBe(9);
    expect(core[0]).toBe(0x7e);
  });

  test("a segment may lie about its offset, overlap another, or be cut off", () => {
    const lying = buildElf({ segments: [{ bytes: bytesOf("truth"), at: 0x300, offset: 0x7000 }] });
    expect(lying.readBigUInt64LE(64 + 8)).toBe(0x7000n);
    expect(lying.toString("latin1", 0x300)).toBe("truth");
    const over = buildElf({
      segments: [{ bytes: bytesOf("aaaa") }, { bytes: bytesOf("bb"), offset: 0x1001 }],
    });
    expect(over.toString("latin1", 0x1000)).toBe("abba");
    const cut = buildElf({ segments: [{ bytes: Buffer.alloc(100, 1) }], size: 0x1020 });
    expect(cut.length).toBe(0x1020);
    expect(cut.at(-1)).toBe(1);
    expect(buildElf({ segments: [], size: 10 })).toHaveLength(10);
  });

  testWith("readelf", "offsets beyond 2^32 and 2^40 in a sparse file", () => {
    const path = join(folder, "sparse");
    const places = [2 ** 32 + 4096, 2 ** 40 + 8192];
    const layout = writeElf(path, {
      segments: places.map((offset, i) => ({ vaddr: i << 20, offset, bytes: Buffer.alloc(PAGE, 0x61 + i) })),
      pnXnum: true,
    });
    expect(layout.size).toBeGreaterThan(2 ** 40);
    expect(statSync(path).size).toBe(layout.size);
    expect(statSync(path).blocks * 512).toBeLessThan(1 << 20);
    const file = openSync(path, "r");
    const page = Buffer.alloc(PAGE);
    for (const [i, offset] of places.entries()) {
      readSync(file, page, 0, PAGE, offset);
      expect(page.equals(Buffer.alloc(PAGE, 0x61 + i))).toBe(true);
    }
    closeSync(file);
    const { out, complaints } = readelf(path, "-hl");
    expect(complaints).toBe("");
    expect(programs(out).map((line) => line.split(" ")[1])).toEqual(["100001000", "10000002000"]);
  });

  test("files too large for a buffer are refused", () => {
    expect(() => buildElf({ segments: [{ offset: 2 ** 40, bytes: bytesOf("x") }] })).toThrow(/writeElf/);
  });
});

describe("notes", () => {
  test("name and descriptor are padded to 4, or as asked", () => {
    expect(note("CORE", 7, bytesOf("abc")).toString("hex")).toBe(
      "050000000300000007000000" + "434f524500000000" + "61626300",
    );
    expect(note("GNU", 5, Buffer.alloc(8, 1), { align: 8 })).toHaveLength(24);
    expect(note("AB", 1, bytesOf("x"), { bareName: true, descsz: -1 }).toString("hex")).toBe(
      "02000000ffffffff01000000" + "41420000" + "78000000",
    );
    expect(note("A", 1, Buffer.alloc(0), { bigEndian: true }).toString("hex")).toBe(
      "000000020000000000000001" + "41000000",
    );
  });

  test("NT_PRSTATUS: pid at 32, registers at 112 in the kernel's order", () => {
    const desc = prstatus({
      pid: 77,
      signal: 11,
      regs: { r15: 15, rax: -1, rip: 0xffff_ffff_8100_0000n, gs: 0x2b },
    });
    expect(desc).toHaveLength(336);
    expect(desc.readUInt16LE(12)).toBe(11);
    expect(desc.readUInt32LE(32)).toBe(77);
    expect(desc.readBigUInt64LE(112)).toBe(15n);
    expect(desc.readBigInt64LE(112 + 10 * 8)).toBe(-1n);
    expect(desc.readBigUInt64LE(112 + 16 * 8)).toBe(0xffff_ffff_8100_0000n);
    expect(desc.readBigUInt64LE(112 + 26 * 8)).toBe(0x2bn);
  });

  test("NT_PRPSINFO, NT_SIGINFO, NT_AUXV, NT_FILE", () => {
    const info = prpsinfo({ pid: 5, comm: "qemu-system-x86_64", psargs: "x".repeat(100) });
    expect(info).toHaveLength(136);
    expect(info.readUInt32LE(24)).toBe(5);
    expect(info.toString("latin1", 40, 56)).toBe("qemu-system-x86_");
    expect(info.toString("latin1", 56)).toBe("x".repeat(80));
    expect(siginfo(11, 1, 0x1234)).toHaveLength(128);
    expect(auxv([[3, 0x40n]]).toString("hex")).toBe("0300000000000000" + "4000000000000000");
    const file = { start: 0x1000, end: 0x3000, fileOffset: 0x2000, path: "/a" };
    expect(ntFile([file]).toString("hex")).toBe(
      "0100000000000000" +
        "0010000000000000" +
        "0010000000000000" +
        "0030000000000000" +
        "0200000000000000" +
        "2f6100",
    );
    expect(ntFile([file], 1).readBigUInt64LE(32)).toBe(0x2000n);
  });

  test("QEMU: 440 bytes, 432 without kernel_gs_base", () => {
    const desc = qemuCpuState({
      general: { rax: 1, rip: 2 },
      segments: { cs: { selector: 8, limit: 0xffff, flags: 0xaf9b00, base: 3n }, idt: { base: 4n } },
      cr: [0x11, 0, 5, 6, 7],
      kernelGsBase: 9n,
    });
    expect(desc).toHaveLength(440);
    expect([desc.readUInt32LE(0), desc.readUInt32LE(4)]).toEqual([1, 440]);
    expect([desc.readBigUInt64LE(8), desc.readBigUInt64LE(8 + 16 * 8)]).toEqual([1n, 2n]);
    expect([152, 156, 160].map((at) => desc.readUInt32LE(at))).toEqual([8, 0xffff, 0xaf9b00]);
    expect([168, 152 + 9 * 24 + 16, 392, 416, 432].map((at) => desc.readBigUInt64LE(at))).toEqual([
      3n,
      4n,
      0x11n,
      6n,
      9n,
    ]);
    expect(qemuCpuState({})).toHaveLength(432);
  });

  test("VMCOREINFO begins as the guest kernel has it", () => {
    const bytes = vmcoreinfoNote("OSRELEASE=6.1.0\n");
    expect(bytes.toString("latin1", 0, 33)).toBe("\x0b\0\0\0\x10\0\0\0\0\0\0\0VMCOREINFO\0\0OSRELEASE");
  });

  test("malformed notes are all different, and none is a well-formed note of its kind", () => {
    const all = Object.entries(malformedNotes());
    expect(all.length).toBeGreaterThan(20);
    expect(new Set(all.map(([, bytes]) => bytes.toString("hex"))).size).toBe(all.length);
    expect(malformedNotes()["name size all ones"]!.readUInt32LE(0)).toBe(0xffff_ffff);
  });

  testWith("readelf", "readelf names every note", () => {
    const list: [string, number, Buffer][] = [
      ["CORE", NT_PRSTATUS, prstatus({ pid: 1 })],
      ["CORE", NT_PRPSINFO, prpsinfo({ pid: 1, comm: "a", psargs: "a" })],
      ["CORE", NT_AUXV, auxv([[0, 0]])],
      ["CORE", NT_FILE, ntFile([{ start: 0x1000, end: 0x2000, fileOffset: 0, path: "/bin/a" }])],
      ["QEMU", 0, qemuCpuState({ kernelGsBase: 0 })],
    ];
    const notes = Buffer.concat([
      ...list.map(([owner, type, desc]) => note(owner, type, desc)),
      vmcoreinfoNote("A=1\n"),
    ]);
    const { out } = readelf(saved(buildElf({ notes })), "-n");
    expect([...out.matchAll(/^ {2}(\w+) +0x0*([0-9a-f]+)\t/gm)].map((m) => `${m[1]} ${m[2]}`)).toEqual([
      "CORE 150",
      "CORE 88",
      "CORE 10",
      `CORE ${list[3]![2].length.toString(16)}`,
      "QEMU 1b8",
      "VMCOREINFO 4",
    ]);
  });
});

describe("patterns and damage", () => {
  test("the random numbers are mulberry32's", () => {
    // First outputs for seed 1 of the reference implementation.
    const source = random(1);
    expect([source.u32(), source.u32(), source.u32()]).toEqual([2_693_262_067, 11_749_833, 2_265_367_787]);
    expect(random(7).bytes(8)).toEqual(random(7).bytes(8));
    expect(seedOf("pc.ram")).not.toBe(seedOf("pc.rom"));
  });

  test("pages say what they are and differ", () => {
    const pages = Array.from({ length: 50 }, (_, i) => patternPage(9, i));
    expect(new Set(pages.map((page) => page.toString("hex"))).size).toBe(50);
    expect(pages[7]!.toString("latin1", 0, 9)).toBe("SYNTH 9 7");
    const bytes = patternBytes(8 * PAGE, 9, { pages: { 1: Buffer.from("mine") } });
    expect(bytes.subarray(0, PAGE).equals(pages[0]!)).toBe(true);
    expect(bytes.toString("latin1", PAGE, PAGE + 4)).toBe("mine");
    expect(bytes.subarray(3 * PAGE, 4 * PAGE).every((byte) => byte === 0)).toBe(true);
  });

  test("extremes stay within the field", () => {
    expect(extremes(1)).toEqual([0n, 1n, 255n, 254n, 128n, 127n]);
    expect(extremes(2)).toContain(0xffffn);
    expect(extremes(8)).toEqual(expect.arrayContaining([1n << 53n, 1n << 63n, (1n << 64n) - 1n, 1n << 32n]));
    for (const size of [1, 2, 4, 8])
      expect(extremes(size).every((v) => v >= 0n && v < 1n << BigInt(size * 8))).toBe(true);
  });

  const { core, truth } = buildQemuCore();

  test("every header field is set to every extreme", { timeout: 120_000 }, () => {
    const names = [...headerMutants(core)].map(({ name }) => name);
    for (const field of ["ehdr.phnum", "ehdr.shoff", "phdr[0].filesz", "phdr[24].memsz", "note[0].namesz"]) {
      expect(names).toContain(`${field} = 0x0`);
    }
    expect(names).toContain("phdr[3].offset = 0x20000000000000");
    expect(names).toContain("note[4].descsz = 0xfffffffe");
    expect(names).toContain("ehdr.phentsize = 0x8000");
    expect(new Set(names).size).toBe(names.length);
  });

  test("the file is cut around every boundary", () => {
    const lengths = new Set([...truncations(core, truth.boundaries)].map((mutant) => mutant.core.length));
    for (const at of truth.boundaries.filter((at) => at < core.length)) expect(lengths.has(at)).toBe(true);
    expect([...lengths].every((length) => length < core.length)).toBe(true);
  });

  test("2000 mutants: repeatable, damaged, and the core itself untouched", () => {
    const before = Buffer.from(core);
    const kinds = {
      truncated: 0,
      CPUX86State: 0,
      phdr: 0,
      swapped: 0,
      notes: 0,
      FlatView: 0,
      "bytes flipped": 0,
    };
    let same = 0;
    for (const mutant of mutants(core, 1, 2000, truth)) {
      if (mutant.core.equals(core)) same++;
      for (const kind of Object.keys(kinds))
        if (mutant.name.includes(kind)) kinds[kind as keyof typeof kinds]++;
    }
    expect(core.equals(before)).toBe(true);
    // A field may already have the value it is set to.
    expect(same).toBeLessThan(200);
    for (const count of Object.values(kinds)) expect(count).toBeGreaterThan(20);
    const [first, again] = [0, 1].map(() => [...mutants(core, 5, 20, truth)]);
    for (const [i, mutant] of first!.entries()) {
      expect(again![i]!.name).toBe(mutant.name);
      expect(again![i]!.core.equals(mutant.core)).toBe(true);
    }
    expect([...mutants(core, 6, 20, truth)].map(({ name }) => name)).not.toEqual(
      first!.map(({ name }) => name),
    );
  });
});

/** The same block at two addresses, once in part. */
const TWO_PLACES = [{ gpa: 0xfc00_0000 }, { gpa: 0xfc10_0000, offset: 0x1000, size: 0x1000, readonly: true }];

const NAMES = Object.keys(LAYOUTS) as LayoutName[];

/** Reads a word of the process out of the file, by the program headers alone. */
function reader(core: Buffer) {
  const phoff = Number(core.readBigUInt64LE(32));
  const loads = Array.from({ length: core.readUInt16LE(56) }, (_, i) => phoff + i * 56)
    .filter((at) => core.readUInt32LE(at) === 1)
    .map(
      (at) =>
        [8, 16, 32].map((field) => Number(core.readBigUInt64LE(at + field))) as [number, number, number],
    );
  const offset = (address: number): number => {
    const load = loads.find(([, vaddr, size]) => address >= vaddr && address < vaddr + size);
    if (load === undefined) throw new Error(`0x${address.toString(16)} is not in the core`);
    return load[0] + (address - load[1]);
  };
  return {
    offset,
    u64: (address: number) => Number(core.readBigUInt64LE(offset(address))),
    big: (address: number) => core.readBigUInt64LE(offset(address)),
    u32: (address: number) => core.readUInt32LE(offset(address)),
    u8: (address: number) => core[offset(address)]!,
    text: (address: number) => {
      const at = offset(address);
      return core.toString("latin1", at, core.indexOf(0, at));
    },
    bytes: (address: number, size: number) => core.subarray(offset(address), offset(address) + size),
  };
}

describe("the qemu process", () => {
  testWith(
    "readelf",
    "readelf takes every layout, flavour, machine and accelerator without complaint",
    () => {
      for (const layout of NAMES) {
        for (const flavour of ["kernel", "gcore"] as const) {
          const machine = layout === "5.2" ? "microvm" : "q35";
          const { core } = buildQemuCore({
            layout,
            flavour,
            machine,
            accel: flavour === "kernel" ? "kvm" : "tcg",
          });
          const { out, complaints } = readelf(saved(core), "-hlS");
          expect(complaints).toBe("");
          expect(out).toMatch(/Type: +CORE/);
          expect(out).toMatch(flavour === "kernel" ? /There are no sections/ : /\.shstrtab/);
          expect(programs(out).length).toBeGreaterThan(15);
        }
      }
    },
  );

  testWith("gdb", "gdb sees threads, registers, files, auxv and memory", () => {
    for (const flavour of ["kernel", "gcore"] as const) {
      const { core, truth } = buildQemuCore({ flavour, vcpus: [{}, {}], accel: "kvm" });
      const space = truth.addresses.get("address_space_memory")!;
      const out = gdb(
        core,
        "info threads",
        "p/x $rip",
        "info auxv",
        "info proc mappings",
        `x/s *(char **) ${space + 16}`,
        `x/s ${truth.blocks[0]!.address + 76}`,
        `x/s 0x7f0000001000`,
      );
      for (const thread of [4242, 4243, 4244, 4245]) expect(out).toContain(`LWP ${thread}`);
      expect(out).toContain("$1 = 0x7fe000002123");
      expect(out).toMatch(/AT_PHDR +Program headers for program +0x555500000040/);
      expect(out).toMatch(/AT_EXECFN .*"\/usr\/bin\/qemu-system-x86_64"/);
      expect(out).toMatch(/0x555500000000 +0x555500004000 .*\/usr\/bin\/qemu-system-x86_64/);
      expect(out).toMatch(/0x7fd000100000 .*anon_inode:kvm-vcpu:1/);
      expect(out).toContain('"memory"');
      expect(out).toContain('"pc.ram"');
      expect(out).toMatch(/"SYNTH [0-9a-f]+ 1"/);
      expect(out).toContain(
        flavour === "kernel"
          ? "generated by `/usr/bin/qemu-system-x86_64 -name synth"
          : "generated by `/usr/bin/qemu-system-x86_64'",
      );
    }
  });

  const PAGE_SIZE: Readonly<Record<LayoutName, number>> = {
    "5.2": 368,
    "7.2-debian": 368,
    "7.2-lab": 368,
    "10.0": 392,
    "11.1": 400,
    apx: 392,
  };

  test.each(NAMES)("%s: small, and every structure points where it must", (layout) => {
    const { core, truth } = buildQemuCore({ layout, blocks: [mainRam(), vga(), dimm(), ...firmware()] });
    expect(core.length).toBeLessThan(480 * 1024);
    const memory = reader(core);
    const regionName = layout === "5.2" ? 216 : 232;
    const regionSize = layout === "5.2" ? 96 : 112;
    const typeOf = (object: number) => memory.text(memory.u64(memory.u64(memory.u64(object))));
    const at = (name: string) => truth.addresses.get(name)!;

    const blocks: string[] = [];
    let previous = at("ram_list") + 56;
    for (let block = memory.u64(previous); block !== 0; block = memory.u64(previous)) {
      const region = memory.u64(block + 16);
      expect(memory.u64(region + 56)).toBe(block);
      expect(memory.u64(block + 344)).toBe(previous);
      expect(typeOf(region)).toBe(layout === "5.2" ? "qemu:memory-region" : "memory-region");
      expect(memory.u64(block + PAGE_SIZE[layout])).toBe(4096);
      const known = truth.blocks[blocks.length]!;
      expect([
        memory.u64(block + 24),
        memory.u64(block + 40),
        memory.u64(block + 48),
        memory.u64(block + 56),
      ]).toEqual([known.host, known.offset, known.usedLength, known.maxLength]);
      expect(memory.bytes(known.host, 64).equals(known.bytes.subarray(0, 64))).toBe(true);
      expect(memory.u64(region + regionSize)).toBe(known.usedLength);
      blocks.push(`${memory.text(block + 76)} ${memory.text(memory.u64(region + regionName))}`);
      previous = block + 336;
    }
    expect(blocks).toEqual([
      "pc.ram pc.ram",
      "0000:00:02.0/vga.vram vga.vram",
      "dimm0 dimm0",
      "pc.bios pc.bios",
      "/rom@etc/acpi/tables /rom@etc/acpi/tables",
      "pc.rom pc.rom",
      "/rom@etc/acpi/rsdp /rom@etc/acpi/rsdp",
    ]);

    const space = at("address_space_memory");
    expect(memory.text(memory.u64(space + 16))).toBe("memory");
    expect(memory.text(memory.u64(memory.u64(space + 24) + regionName))).toBe("system");
    const view = memory.u64(space + 32);
    const count = memory.u32(view + 32);
    const ranges = Array.from({ length: count }, (_, i) => memory.u64(view + 24) + i * 64);
    const seen = ranges.map((range) => {
      const name = memory.text(memory.u64(memory.u64(range) + regionName));
      const flags = memory.u8(range + 50) === 1 ? " ro" : "";
      return `${memory.u64(range + 16).toString(16)}+${memory.u64(range + 32).toString(16)} ${name}@${memory.u64(range + 8).toString(16)}${flags}`;
    });
    expect(seen).toEqual([
      "0+c000 pc.ram@0",
      "c000+2000 pc.ram@c000 ro",
      "e000+1000 pc.ram@e000",
      "f000+1000 pc.ram@f000 ro",
      "10000+8000 pc.ram@10000",
      "fd000000+4000 vga.vram@0",
      "fec00000+1000 ioapic@0",
      "fed00000+400 hpet@0",
      "fee00000+100000 apic-msi@0",
      "ffffc000+4000 pc.bios@0 ro",
      "100000000+8000 pc.ram@18000",
      "140000000+4000 dimm0@0",
    ]);
    for (const range of truth.ranges) {
      const block = truth.blocks.find(({ idstr }) => idstr === range.idstr)!;
      const bytes = memory.bytes(block.host + range.blockOffset, range.end - range.start);
      expect(bytes.equals(range.bytes)).toBe(true);
      expect(range.present).toEqual([{ start: range.start, end: range.end }]);
    }

    const names: string[] = [];
    let link = space + 72;
    for (let next = space; next !== 0; next = memory.u64(link)) {
      if (next !== space) expect(memory.u64(next + 80)).toBe(link);
      names.push(memory.text(memory.u64(next + 16)));
      link = next + 72;
    }
    expect(names).toEqual([
      "memory",
      "I/O",
      "cpu-memory-0",
      "cpu-smm-0",
      "i440FX",
      "PIIX3",
      "piix3-ide",
      "PIIX4_PM",
    ]);
    const machine = memory.u64(at("current_machine"));
    expect(typeOf(machine)).toBe(truth.machineType);
  });

  /** From the measurements: env − CPUState, node, cpu_index, cpu_ases, efer, star. */
  const CPU: Readonly<Record<LayoutName, readonly [number, number, number, number, number, number]>> = {
    "5.2": [34_912, 33_312, 33_432, 480, 560, 4800],
    "7.2-debian": [5040, 584, 752, 512, 600, 11_312],
    "7.2-lab": [5008, 584, 728, 512, 600, 11_312],
    "10.0": [11_200, 560, 704, 504, 600, 11_328],
    "11.1": [16_496, 552, 688, 504, 728, 11_424],
    apx: [11_200, 560, 704, 504, 728, 11_456],
  };

  test.each(NAMES)("%s: vCPUs and their registers", (layout) => {
    const given = [longMode(0), userMode(1), seabiosParked(2), resetState(3)];
    const { core, truth } = buildQemuCore({ layout, vcpus: given.map((registers) => ({ registers })) });
    const memory = reader(core);
    const [distance, node, index, spaces, efer, star] = CPU[layout];
    const shift = layout === "apx" || layout === "11.1" ? 128 : 0;
    let cpu = memory.u64(truth.addresses.get("cpus")!);
    let link = truth.addresses.get("cpus")!;
    for (const [i, registers] of given.entries()) {
      expect(memory.u64(cpu + node + 8)).toBe(link);
      expect(memory.text(memory.u64(memory.u64(memory.u64(cpu))))).toBe("qemu64-x86_64-cpu");
      expect(memory.u32(cpu + index)).toBe(i);
      const pair = memory.u64(cpu + spaces);
      expect(memory.u64(pair)).toBe(cpu);
      expect(memory.text(memory.u64(memory.u64(pair + 8) + 16))).toBe(`cpu-memory-${i}`);
      const env = cpu + distance;
      expect(truth.vcpus[i]).toMatchObject({ index: i, cpuAddress: cpu, envAddress: env, registers });
      const { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r15 } = registers;
      const general = [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8];
      expect(general.map((_, n) => memory.big(env + n * 8))).toEqual(general);
      expect(memory.big(env + 120)).toBe(r15);
      expect(memory.big(env + shift + 128)).toBe(registers.rip);
      expect(memory.big(env + shift + 136)).toBe(registers.rflags);
      expect(memory.u32(env + shift + 208)).toBe(registers.segments.cs.selector);
      expect(memory.big(env + shift + 304 + 8)).toBe(registers.segments.gs.base);
      expect(memory.u32(env + shift + 352 + 16)).toBe(registers.segments.tr.limit);
      expect(memory.u32(env + shift + 352 + 20)).toBe(registers.segments.tr.flags);
      expect(memory.big(env + shift + 376 + 8)).toBe(registers.gdt.base);
      expect(memory.u32(env + shift + 400 + 16)).toBe(registers.idt.limit);
      expect([0, 2, 3, 4].map((n) => memory.big(env + shift + 424 + n * 8))).toEqual([
        registers.cr0,
        registers.cr2,
        registers.cr3,
        registers.cr4,
      ]);
      expect(memory.big(env + efer)).toBe(registers.efer);
      expect(memory.big(env + star)).toBe(registers.star);
      expect(memory.big(env + star + 40)).toBe(registers.kernelGsBase);
      link = cpu + node;
      cpu = memory.u64(link);
    }
    expect(cpu).toBe(0);
  });

  test("flags that TCG has not put together yet", () => {
    const registers = { ...longMode(), rflags: 0xed7n };
    const { core, truth } = buildQemuCore({ vcpus: [{ registers, lazyFlags: true }] });
    const memory = reader(core);
    const env = truth.vcpus[0]!.envAddress;
    expect(memory.big(env + 136)).toBe(0x202n);
    expect(memory.big(env + 152)).toBe(0x8d5n);
    expect(memory.u32(env + 168)).toBe(1);
    expect(memory.u32(env + 172)).toBe(0xffff_ffff);
  });

  test("memory that is split, joined, cut, left out, shared", () => {
    const hugepage = {
      idstr: "huge",
      size: 0x4000,
      kind: "ram",
      pageSize: 2 ** 21,
      file: "/dev/hugepages/a",
    } as const;
    const { core, truth } = buildQemuCore({
      blocks: [
        { ...mainRam(), split: [0x5000, 0x1_0000] },
        { idstr: "joined", size: 0x3000, kind: "ram", map: [{ gpa: 0x2_0000_0000 }] },
        { idstr: "joiner", size: 0x2000, kind: "ram", map: [{ gpa: 0x3_0000_0000 }], joinPrevious: true },
        { idstr: "gone", size: 0x2000, kind: "ram", map: [{ gpa: 0x4_0000_0000 }], dump: false },
        {
          ...{ idstr: "parts", size: 0x4000, kind: "ram", map: [{ gpa: 0x5_0000_0000, offset: 0x1000 }] },
          pieces: [
            { size: 0x1000, filesz: 0 },
            { size: 0x1000, absent: true },
            { size: 0x2000, filesz: 0x800 },
          ],
        },
        { ...hugepage, shared: true, map: [{ gpa: 0x6_0000_0000 }] },
        ...undumped(),
      ],
    });
    const names = truth.segments.map(({ name }) => name).filter((name) => name.startsWith("ram:"));
    expect(names.slice(0, 7)).toEqual([
      ...["ram:pc.ram#0", "ram:pc.ram#1", "ram:pc.ram#2", "ram:joined#0", "ram:gone#0"],
      ...["ram:parts#0", "ram:parts#2"],
    ]);
    const range = (idstr: string) => truth.ranges.find((candidate) => candidate.idstr === idstr)!;
    expect(truth.blocks.find(({ idstr }) => idstr === "pc.ram")!.present).toEqual([
      { start: 0, end: 0x5000 },
      { start: 0x5000, end: 0x1_0000 },
      { start: 0x1_0000, end: 0x2_0000 },
    ]);
    expect(range("gone").present).toEqual([]);
    expect(range("gone").bytes.toString("latin1", 0, 5)).toBe("SYNTH");
    expect(range("parts").present).toEqual([{ start: 0x5_0000_1000, end: 0x5_0000_1800 }]);
    const [joined, joiner] = ["joined", "joiner"].map(
      (name) => truth.blocks.find(({ idstr }) => idstr === name)!,
    );
    expect(joiner!.host).toBe(joined!.host + 0x3000);
    expect(reader(core).bytes(joined!.host, 0x5000)).toEqual(Buffer.concat([joined!.bytes, joiner!.bytes]));
    const memory = reader(core);
    const huge = truth.blocks.find(({ idstr }) => idstr === "huge")!;
    expect([
      huge.shared,
      huge.pageSize,
      memory.u32(huge.address + 72),
      memory.u64(huge.address + 368),
    ]).toEqual([...[true, 2 ** 21, 0x12, 2 ** 21]]);
    const flags = (idstr: string) => {
      const { regionAddress } = truth.blocks.find((block) => block.idstr === idstr)!;
      return [41, 43, 44, 45, 153].map((offset) => memory.u8(regionAddress + offset)).join("");
    };
    expect(flags("huge")).toBe("10000");
    expect(flags("nvdimm0")).toBe("10100");
    expect(flags("system.flash1")).toBe("00010");
    expect(flags("0000:01:00.0 BAR 0 mmaps[0]")).toBe("10001");
    expect(core.includes("/dev/hugepages/a\0")).toBe(true);
  });

  test("two NUMA backends around the PCI hole", () => {
    const { truth } = buildQemuCore({ machine: "q35", blocks: [...numaNodes(), ...firmware()] });
    expect(truth.machineType).toBe("pc-q35-7.2-machine");
    expect(
      truth.ranges.map(({ start, idstr, blockOffset }) => `${start.toString(16)} ${idstr} ${blockOffset}`),
    ).toEqual(["0 mem0 0", "7fffc000 mem1 0", "ffffc000 pc.bios 0", "100000000 mem1 16384"]);
    expect(() => buildQemuCore({ blocks: [mainRam(), dimm(0x1000)] })).toThrow(/overlap at 0x1000/);
  });

  /** What a point lookup in the tree of memory regions finds: aliases followed, highest priority first. */
  function lookup(memory: ReturnType<typeof reader>, old: boolean, root: number, address: number) {
    const at = old
      ? { size: 96, addr: 112, terminates: 136, enabled: 138, alias: 144, offset: 152, first: 168, next: 184 }
      : {
          size: 112,
          addr: 128,
          terminates: 152,
          enabled: 154,
          alias: 160,
          offset: 168,
          first: 184,
          next: 200,
        };
    const find = (region: number, offset: number, readonly: boolean): string | undefined => {
      const size =
        memory.u64(region + at.size + 8) === 0 ? memory.u64(region + at.size) : Number.POSITIVE_INFINITY;
      if (memory.u8(region + at.enabled) !== 1 || offset < 0 || offset >= size) return undefined;
      const ro = readonly || memory.u8(region + 43) === 1;
      const alias = memory.u64(region + at.alias);
      if (alias !== 0) return find(alias, offset + memory.u64(region + at.offset), ro);
      for (let child = memory.u64(region + at.first); child !== 0; child = memory.u64(child + at.next)) {
        const found = find(child, offset - memory.u64(child + at.addr), ro);
        if (found !== undefined) return found;
      }
      return memory.u8(region + at.terminates) === 1 ? `${region}+${offset} ${ro}` : undefined;
    };
    return find(root, address, false);
  }

  test.each(["5.2", "7.2-debian"] as const)(
    "%s: the tree of memory regions shows what the FlatView shows",
    (layout) => {
      const machines: QemuSpec[] = [
        { blocks: [mainRam(), vga(), dimm(), ...undumped(), ...firmware()] },
        { machine: "q35", blocks: [...numaNodes(), dimm(), dimm(0x2_0000_0000, "dimm1"), ...firmware()] },
        {
          machine: "microvm",
          blocks: [mainRam({ idstr: "microvm.ram", below: 0x1_0000, above: 0 }), ...firmware()],
        },
        {
          machine: "q35",
          blocks: [mainRam(), { idstr: "p", size: 0x3000, kind: "device", map: TWO_PLACES }],
        },
      ];
      for (const spec of machines) {
        const { core, truth } = buildQemuCore({ ...spec, layout });
        const memory = reader(core);
        const view = truth.addresses.get("flatview")!;
        const ranges = Array.from(
          { length: memory.u32(view + 32) },
          (_, i) => memory.u64(view + 24) + i * 64,
        );
        const flat = (address: number): string | undefined => {
          const range = ranges.find((r) => {
            const start = memory.u64(r + 16);
            return address >= start && address < start + memory.u64(r + 32);
          });
          if (range === undefined) return undefined;
          const offset = memory.u64(range + 8) + address - memory.u64(range + 16);
          return `${memory.u64(range)}+${offset} ${memory.u8(range + 50) === 1}`;
        };
        const edges = ranges.flatMap((range) => {
          const start = memory.u64(range + 16);
          const end = start + memory.u64(range + 32);
          return [start - 1, start, end - 1, end];
        });
        for (const address of edges.filter((edge) => edge >= 0)) {
          const found = lookup(memory, layout === "5.2", truth.addresses.get("system")!, address);
          expect(found, `at 0x${address.toString(16)}`).toBe(flat(address));
        }
        expect(edges.length).toBeGreaterThan(20);
      }
    },
  );

  test('without a tree, "system" is empty', () => {
    for (const spec of [
      { regionTree: false },
      { flatRanges: (ranges) => ranges.slice(1) },
    ] satisfies QemuSpec[]) {
      const { core, truth } = buildQemuCore(spec);
      expect(reader(core).u64(truth.addresses.get("system")! + 184)).toBe(0);
    }
  });

  test("truncation and dropped segments are seen by the truth", () => {
    const whole = buildQemuCore();
    const size = whole.truth.fileOffset(0x7f00_0000_0000)! + 0x1800;
    const { core, truth } = buildQemuCore({ elf: { size } });
    expect(core.equals(whole.core.subarray(0, size))).toBe(true);
    expect(truth.ranges[0]!.present).toEqual([{ start: 0, end: 0x1800 }]);
    expect(truth.ranges.at(-1)!.present).toEqual([]);
    const arrange = (segments: QemuCore["truth"]["segments"]) =>
      segments.filter(({ name }) => name !== "heap").reverse();
    const bare = buildQemuCore({ arrange });
    expect(bare.truth.fileOffset(0x5555_1000_0010)).toBeUndefined();
    expect(bare.truth.ranges[0]!.present).toEqual([{ start: 0, end: 0xc000 }]);
    const memory = reader(bare.core);
    expect(memory.bytes(0x7f00_0000_0000, 5).toString("latin1")).toBe("SYNTH");
  });

  test("the same core as a sparse file with its memory beyond 2^40", () => {
    const { core, truth, file } = buildQemuCore();
    expect(buildElf(file).equals(core)).toBe(true);
    const path = join(folder, "far");
    const far = (segment: ElfSegment & { name: string }) =>
      segment.name === "ram:pc.ram#0" ? { ...segment, offset: 2 ** 40 } : segment;
    const layout = writeElf(path, { ...file, segments: file.segments.map(far) });
    expect(statSync(path).blocks * 512).toBeLessThan(1 << 20);
    const page = Buffer.alloc(PAGE);
    const handle = openSync(path, "r");
    readSync(
      handle,
      page,
      0,
      PAGE,
      layout.segments[truth.segments.findIndex((s) => s.name === "ram:pc.ram#0")]!.offset,
    );
    closeSync(handle);
    expect(page.equals(truth.blocks[0]!.bytes.subarray(0, PAGE))).toBe(true);
    expect(layout.size).toBe(2 ** 40 + truth.blocks[0]!.maxLength);
  });

  test("decoys change neither guest memory nor the real structures, except where they are meant to", () => {
    const clean = buildQemuCore({ decoys: [] });
    const littered = buildQemuCore({ decoys: LITTER });
    for (const name of ["flatview", "flatranges", "ram_list", "cpu:0", "env:0", "block:pc.ram"]) {
      expect(littered.truth.addresses.get(name)).toBe(clean.truth.addresses.get(name));
    }
    for (const [i, range] of littered.truth.ranges.entries()) {
      expect(range.bytes.equals(clean.truth.ranges[i]!.bytes)).toBe(true);
    }
    const count = (core: Buffer, text: string) => core.toString("latin1").split(text).length - 1;
    expect(count(littered.core, "pc.ram\0")).toBeGreaterThan(count(clean.core, "pc.ram\0"));
    const nested = buildQemuCore({ decoys: HARMLESS });
    const env = nested.truth.vcpus[0]!.envAddress;
    const { bytes } = nested.truth.ranges[0]!;
    expect(bytes.subarray(PAGE + 64, PAGE + 192).equals(reader(nested.core).bytes(env, 128))).toBe(true);
    const two = buildQemuCore({ decoys: ["second-layout"] });
    const second = two.truth.addresses.get("second_address_space")!;
    const memory = reader(two.core);
    expect(memory.text(memory.u64(second + 16))).toBe("memory");
    expect(memory.u64(memory.u64(memory.u64(second + 32) + 24) + 16)).toBe(0x2000_0000);
  });

  test("targets and boundaries lie in the file and say what they are", () => {
    const { core, truth } = buildQemuCore();
    expect(truth.targets.length).toBeGreaterThan(500);
    expect(truth.targets.every(({ offset, size }) => offset + size <= core.length)).toBe(true);
    const target = (label: string) => truth.targets.find((candidate) => candidate.label === label)!;
    expect(Number(core.readBigUInt64LE(target("RAMBlock(pc.ram).host").offset))).toBe(0x7f00_0000_0000);
    expect(core.readUInt32LE(target("FlatView.nr").offset)).toBe(10);
    expect(core.readBigUInt64LE(target("CPUX86State[0].cr3").offset)).toBe(longMode().cr3);
    expect(truth.boundaries).toContain(truth.fileOffset(truth.addresses.get("flatview")!));
    expect(truth.boundaries).toContain(truth.elf.notes!.offset);
    expect(
      truth.boundaries.every((at, i) => at <= core.length && (i === 0 || at > truth.boundaries[i - 1]!)),
    ).toBe(true);
  });

  test("hooks reach memory, notes, FlatRanges and the file", () => {
    const spec: QemuSpec = {
      patch: ({ process, addresses }) => process.put(addresses.get("flatview")! + 24, 8, 0x1234),
      notes: (notes) => notes.slice(1),
      elf: { pnXnum: true, header: { shoff: -1 } },
      flatRanges: (ranges) => ranges.slice(0, 2),
    };
    const { core, truth } = buildQemuCore(spec);
    const offset = truth.fileOffset(truth.addresses.get("flatview")!)!;
    expect(core.readBigUInt64LE(offset + 24)).toBe(0x1234n);
    expect(core.readUInt32LE(offset + 32)).toBe(2);
    expect(truth.ranges).toHaveLength(2);
    expect(core.readUInt16LE(56)).toBe(0xffff);
    expect(core.readUInt32LE(truth.elf.notes!.offset + 8)).toBe(NT_PRPSINFO);
  });

  test("a kernel core has page 0 of the executable with its build-id, gdb's has .dynsym", () => {
    for (const flavour of ["kernel", "gcore"] as const) {
      const { core, truth } = buildQemuCore({ flavour });
      const memory = reader(core);
      expect(memory.bytes(truth.exe.base, 4).toString("latin1")).toBe("\x7fELF");
      expect(memory.bytes(truth.exe.base + 0x390 + 16, 20).toString("hex")).toBe(truth.exe.buildId);
      expect(core.includes("address_space_memory\0")).toBe(flavour === "gcore");
    }
    expect(
      buildQemuCore({ flavour: "gcore", layout: "7.2-lab" }).core.includes("address_space_memory\0"),
    ).toBe(false);
  });

  testWith(
    "readelf",
    "the executable is one for readelf: headers, build-id, symbols by its hash table",
    () => {
      // At load address 0 the image in memory is the file.
      const process = new SyntheticProcess();
      const region = process.region("exe", 0);
      region.reserve(EXE.end);
      const symbols = ["ram_list", "address_space_memory", "cpus", "current_machine"].map((name, i) => ({
        name,
        value: EXE.bss + i * 64,
        size: 8,
      }));
      writeExe(process, 0, Buffer.alloc(20, 0xab), symbols);
      process.put(40, 8, 0); // section headers are never in memory
      process.put(58, 2, 0);
      process.put(60, 2, 0);
      process.put(62, 2, 0);
      const path = saved(region.bytes(EXE.end));
      const { out, complaints } = readelf(path, "-h", "-l", "-d", "-n");
      expect(complaints).toBe("");
      expect(out).toMatch(/DYN \(Position-Independent Executable file\)/);
      expect(out).toMatch(/Build ID: (ab){20}/);
      expect(out).toMatch(/\(NEEDED\) +Shared library: \[libc\.so\.6\]/);
      const table = readelf(path, "-D", "-s").out;
      for (const { name, value } of symbols) {
        expect(table).toMatch(
          new RegExp(`${value.toString(16).padStart(16, "0")} +8 OBJECT +GLOBAL DEFAULT +26 ${name}$`, "m"),
        );
      }
      expect(table).toMatch(/FUNC +GLOBAL DEFAULT +UND malloc$/m);
      expect(readelf(path, "-I").out).toMatch(
        /Histogram for `\.gnu\.hash' bucket list length \(total of 3 buckets\)/,
      );
    },
  );

  test("the initial stack has the whole command line", () => {
    const argv = ["/usr/bin/kvm", "-name", "x", "", "-device", "a,b=c"];
    const { core, truth } = buildQemuCore({ argv, exe: "/usr/bin/kvm" });
    const memory = reader(core);
    const stack = memory.bytes(0x7fff_ffff_c000, 0x3000);
    const marker = Buffer.alloc(8);
    marker.writeBigUInt64LE(0x5555_0000_0040n);
    const phdr = stack.indexOf(marker);
    expect(stack.readUInt32LE(phdr - 8)).toBe(3);
    // Back over AT_CLKTCK, AT_PAGESZ, AT_HWCAP, NULL, two of envp and NULL to argv.
    let at = phdr - 8 - 48 - 8 - 16 - 8 - argv.length * 8;
    expect(stack.readUInt32LE(at - 8)).toBe(argv.length);
    for (const argument of argv) {
      expect(memory.text(Number(stack.readBigUInt64LE(at)))).toBe(argument);
      at += 8;
    }
    expect(truth.argv).toEqual(argv);
  });

  test("KVM: no cpu-smm spaces, vcpu_dirty as given, kvm_run mappings without bytes", () => {
    const { core, truth } = buildQemuCore({ accel: "kvm", vcpus: [{ dirty: true }, {}] });
    const memory = reader(core);
    expect([0, 1].map((i) => memory.u8(truth.vcpus[i]!.cpuAddress + 776))).toEqual([1, 0]);
    expect([0, 1].map((i) => memory.u32(truth.vcpus[i]!.cpuAddress + 520))).toEqual([1, 1]);
    expect(core.includes("anon_inode:kvm-vcpu:1\0")).toBe(true);
    expect(core.includes("cpu-smm-0\0")).toBe(false);
    expect(truth.segments.find(({ name }) => name === "kvm-vcpu:1")).toMatchObject({
      filesz: 0,
      memsz: 0x3000,
    });
  });

  test("p_flags of the PT_LOADs are those of the mappings", () => {
    const { truth } = buildQemuCore();
    const flags = Object.fromEntries(truth.segments.map(({ name, flags: value }) => [name, value]));
    expect(flags).toMatchObject({
      "exe.r": PF_R,
      "exe.rx": 5,
      heap: PF_R | PF_W,
      "guard:pc.ram": 0,
      vsyscall: 1,
    });
  });
});
