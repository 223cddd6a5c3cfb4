import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CorruptError, GuestcoreError, UnsupportedError } from "../src/core/errors.ts";
import { indexAtOrAbove, makeDisjoint, mergeRanges, rangeAt, totalSize } from "../src/core/ranges.ts";
import { elfKind } from "../src/dump/elf-kind.ts";
import { ElfVmcore } from "../src/dump/elf-vmcore.ts";
import { openProcessCore } from "../src/dump/process-core.ts";
import { decodeAuxv, decodeFileNote, decodePrpsinfo } from "../src/elf/core-notes.ts";
import { encodeElfHeaders, encodeNote } from "../src/elf/encode.ts";
import { readElf } from "../src/elf/header.ts";
import { parseNotes } from "../src/elf/notes.ts";
import { FileSource } from "../src/io/file.ts";
import { MemorySource } from "./support/memory-io.ts";
import { buildElf, type ElfSegment, writeElf } from "./synth/elf.ts";
import { auxv, malformedNotes, note, ntFile, prstatus } from "./synth/notes.ts";

const load = (vaddr: number, bytes: Uint8Array, more: Partial<ElfSegment> = {}): ElfSegment => ({
  type: 1,
  flags: 6,
  vaddr,
  bytes,
  ...more,
});
const source = (bytes: Buffer) => new MemorySource(bytes);
const pages = (count: number, fill: number) => Buffer.alloc(count * 4096, fill);

describe("readElf", () => {
  test("64- and 32-bit, both byte orders", () => {
    for (const class64 of [true, false]) {
      for (const bigEndian of [true, false]) {
        const segments = [load(0x1000, pages(1, 7), { paddr: 0x2000 })];
        const elf = readElf(source(buildElf({ class64, bigEndian, machine: 22, segments })));
        expect(elf.header).toMatchObject({
          bits: class64 ? 64 : 32,
          littleEndian: !bigEndian,
          type: 4,
          machine: 22,
        });
        expect(elf.programs).toMatchObject([
          { type: 1, vaddr: 0x1000n, paddr: 0x2000, filesz: 4096, memsz: 4096 },
        ]);
      }
    }
  });

  test("addresses above 2^53 stay exact, offsets and sizes become Infinity", () => {
    const segments = [
      load(0, pages(1, 1), {
        vaddr: 0xffffffff81a01234n,
        offset: 0xffff_ffff_ffff_fff0n,
        filesz: 2n ** 53n,
        memsz: 2n ** 63n,
      } as never),
    ];
    const [program] = readElf(source(buildElf({ segments }))).programs;
    expect(program).toMatchObject({
      vaddr: 0xffffffff81a01234n,
      offset: Number.POSITIVE_INFINITY,
      filesz: Number.POSITIVE_INFINITY,
      memsz: Number.POSITIVE_INFINITY,
    });
  });

  test("PN_XNUM: 70 000 segments", () => {
    const segments = Array.from({ length: 70_000 }, (_, i) =>
      load(0x10_0000 + i * 0x2000, Buffer.alloc(0), { memsz: 0x1000 }),
    );
    const bytes = buildElf({ segments, pnXnum: true });
    expect(bytes.readUInt16LE(56)).toBe(0xffff);
    const core = openProcessCore(source(bytes));
    expect(core.mappings).toHaveLength(70_000);
    expect(core.mappings.at(-1)?.start).toBe(0x10_0000 + 69_999 * 0x2000);
  });

  test("keeps the program headers that are asked for", () => {
    const segments = [load(0x1000, pages(1, 1)), load(0x3000, pages(1, 2), { paddr: 0x2000 })];
    const elf = readElf(source(buildElf({ segments })), ({ paddr }) => paddr > 0);
    expect(elf.programs).toMatchObject([{ vaddr: 0x3000n }]);
    expect(elf.programCount).toBeGreaterThan(1);
  });

  test("what is not ELF, or damaged at its start, is said to be", () => {
    const core = buildElf({ segments: [load(0, pages(1, 1))] });
    expect(() => readElf(source(Buffer.from("KDUMP   ")))).toThrow(UnsupportedError);
    expect(() => readElf(source(Buffer.alloc(0)))).toThrow(UnsupportedError);
    expect(() => readElf(source(core.subarray(0, 40)))).toThrow(CorruptError);
    expect(() => readElf(source(core.subarray(0, 64)))).toThrow(CorruptError);
    expect(() => readElf(source(buildElf({ segments: [], header: { phentsize: 1, phnum: 9 } })))).toThrow(
      CorruptError,
    );
  });

  test("a table cut by the end of the file yields the entries that are there", () => {
    const bytes = buildElf({ segments: [load(0x1000, pages(1, 1)), load(0x3000, pages(1, 2))] });
    const elf = readElf(source(bytes.subarray(0, 64 + 56 + 20)));
    expect(elf.programs).toHaveLength(1);
    expect(elf.programCount).toBe(2);
    expect(elf.warnings.map(({ code }) => code)).toEqual(["CORE001"]);
  });
});

describe("program headers we write", () => {
  test("read back equal, also 70 000 of them", () => {
    for (const count of [0, 1, 65_534, 65_535, 70_000]) {
      const programs = Array.from({ length: count }, (_, i) => ({
        type: 1,
        flags: 7,
        offset: i * 4096,
        vaddr: 0xffff888000000000n + BigInt(i),
        paddr: i * 4096,
        filesz: 4096,
        memsz: 4096,
        align: 0,
      }));
      const bytes = encodeElfHeaders(4, { machine: 62 }, programs);
      expect(readElf(source(bytes)).programs).toEqual(programs);
    }
  });

  test.each([
    [64, true],
    [32, false],
    [32, true],
  ] as const)("read back equal in a %d-bit file, big-endian %s", (bits, bigEndian) => {
    for (const count of [0, 3, 65_535]) {
      const programs = Array.from({ length: count }, (_, i) => ({
        type: 1,
        flags: 7,
        offset: i,
        vaddr: BigInt(i + 1),
        paddr: i + 2,
        filesz: i + 3,
        memsz: i + 4,
        align: 4,
      }));
      const bytes = encodeElfHeaders(4, { machine: 40, bits, bigEndian }, programs);
      const elf = readElf(source(bytes));
      expect(elf.header).toMatchObject({ bits, littleEndian: !bigEndian, type: 4, machine: 40 });
      expect(elf.programs).toEqual(programs);
    }
  });
});

describe("notes", () => {
  test("encode and parse are inverse", () => {
    const arbitrary = fc.array(
      fc.record({
        name: fc.stringMatching(/^[A-Z]{1,20}$/),
        type: fc.integer({ min: 1, max: 0xffff_ffff }),
        desc: fc.uint8Array({ maxLength: 100 }),
      }),
    );
    fc.assert(
      fc.property(arbitrary, (notes) => {
        for (const bigEndian of [false, true]) {
          const encoded = notes.map(({ name, type, desc }) => encodeNote(name, type, desc, bigEndian));
          const parsed = [...parseNotes(Buffer.concat(encoded), 0, !bigEndian)].map(
            ({ name, type, desc }) => ({ name, type, desc: Uint8Array.from(desc) }),
          );
          expect(parsed).toEqual(notes);
        }
      }),
    );
  });

  test.each(Object.entries(malformedNotes()))("malformed: %s", (_name, bytes) => {
    const good = note("CORE", 1, Buffer.alloc(8));
    const damaged: number[] = [];
    const notes = [...parseNotes(Buffer.concat([good, bytes]), 1000, true, (offset) => damaged.push(offset))];
    expect(notes[0]).toMatchObject({ name: "CORE", type: 1, offset: 1000 });
    for (const { desc } of notes) expect(desc.length).toBeLessThanOrEqual(good.length + bytes.length);
  });
});

describe("process cores", () => {
  test("what p_filesz leaves out is absent, not zero", () => {
    const core = openProcessCore(
      source(
        buildElf({
          segments: [
            load(0x10000, pages(1, 5), { memsz: 3 * 4096 }),
            load(0x20000, Buffer.alloc(0), { memsz: 4096 }),
          ],
        }),
      ),
    );
    expect(core.extentAt(0x10000, 0x30000)).toMatchObject({ state: "present", end: 0x11000 });
    expect(core.extentAt(0x11000, 0x30000)).toMatchObject({ state: "absent", end: 0x13000 });
    expect(core.extentAt(0x13000, 0x30000)).toMatchObject({ state: "unmapped", end: 0x20000 });
    expect(core.extentAt(0x20000, 0x30000)).toMatchObject({ state: "absent", end: 0x21000 });
    expect(core.read(0x10ff0, Buffer.alloc(32))).toBe(16);
  });

  test("overlapping and unordered segments: the lower wins, and it is said", () => {
    const core = openProcessCore(
      source(
        buildElf({
          segments: [
            load(0x12000, pages(2, 3)),
            load(0x10000, pages(3, 1)),
            load(0x10000, pages(1, 9)),
            load(0x11000, pages(1, 8)),
          ],
        }),
      ),
    );
    expect(core.warnings.map(({ code }) => code)).toContain("CORE002");
    const bytes = Buffer.alloc(4 * 4096);
    expect(core.read(0x10000, bytes)).toBe(4 * 4096);
    expect([0, 1, 2, 3].map((page) => bytes[page * 4096])).toEqual([1, 1, 1, 3]);
  });

  test("data beyond 2^32 and 2^40", () => {
    const folder = mkdtempSync(join(tmpdir(), "guestcore-elf-"));
    try {
      const path = join(folder, "huge");
      writeElf(path, {
        segments: [
          load(0x1000, pages(1, 0x11), { offset: 2 ** 32 + 0x1000 }),
          load(0x7fff_0000_0000, pages(1, 0x22), { offset: 2 ** 40 + 0x5000 }),
        ],
      });
      const file = FileSource.open(path);
      const core = openProcessCore(file);
      const page = Buffer.alloc(4096);
      expect(core.read(0x1000, page)).toBe(4096);
      expect(page.every((byte) => byte === 0x11)).toBe(true);
      expect(core.read(0x7fff_0000_0000, page)).toBe(4096);
      expect(page.every((byte) => byte === 0x22)).toBe(true);
      expect(core.truncated).toBe(false);
      file.close();
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test("NT_FILE, threads and truncation", () => {
    const files = [{ start: 0x1000, end: 0x3000, fileOffset: 0x5000, path: "/usr/bin/qemu" }];
    const notes = [prstatus({ pid: 7 }), prstatus({ pid: 8 }), note("CORE", 0x46494c45, ntFile(files))];
    const whole = buildElf({ segments: [load(0x1000, pages(2, 1))], notes: Buffer.concat(notes) });
    const core = openProcessCore(source(whole));
    expect(core.truncated).toBe(false);
    const cut = openProcessCore(source(whole.subarray(0, whole.length - 4097)));
    expect(cut.truncated).toBe(true);
    expect(cut.warnings.map(({ code }) => code)).toContain("CORE001");
  });

  test("a core cut in its last page, vsyscall, which is no mapping here", () => {
    const vsyscall = load(0, pages(1, 2), { vaddr: 0xffff_ffff_ff60_0000n } as never);
    const whole = buildElf({ segments: [load(0x1000, pages(2, 1)), vsyscall] });
    expect(openProcessCore(source(whole))).toMatchObject({ truncated: false, warnings: [] });
    for (const lost of [1, 4096]) {
      const cut = openProcessCore(source(whole.subarray(0, whole.length - lost)));
      expect(cut).toMatchObject({ truncated: true, warnings: [{ code: "CORE001" }] });
    }
  });
});

describe("what a core tells of the process", () => {
  const psargsOf = (bytes: Buffer) => {
    const desc = Buffer.alloc(136);
    bytes.copy(desc, 56, 0, 80);
    Buffer.from("qemu-größe").copy(desc, 40);
    return decodePrpsinfo(desc);
  };

  test("its command line is UTF-8, also where the kernel cut it inside a character; else bytes", () => {
    expect(psargsOf(Buffer.from("qemu -name größe "))).toMatchObject({
      fname: "qemu-größe",
      psargs: "qemu -name größe",
    });
    for (const character of ["ß", "語", "😀"]) {
      for (let cut = 1; cut < Buffer.byteLength(character); cut++) {
        const start = "a".repeat(79 - cut);
        const bytes = Buffer.from(start + character).subarray(0, 79);
        expect(psargsOf(bytes)?.psargs).toBe(start);
      }
    }
    expect(psargsOf(Buffer.from("qemu -name gr\xf6\xdfe", "latin1"))?.psargs).toBe("qemu -name größe");
    expect(psargsOf(Buffer.from("caf\xe9", "latin1"))?.psargs).toBe("café");
  });

  test("NT_FILE's names are UTF-8, or bytes, one by one", () => {
    const desc = ntFile([
      { start: 0x1000, end: 0x2000, fileOffset: 0, path: "/größe" },
      { start: 0x2000, end: 0x3000, fileOffset: 0, path: "/gr??e" },
    ]);
    desc.write("\xf6\xdf", desc.indexOf("??"), "latin1");
    expect(decodeFileNote(desc).map(({ path }) => path)).toEqual(["/größe", "/größe"]);
  });

  test("the auxiliary vector has no more entries than Linux knows types", () => {
    const entries = Array.from({ length: 1000 }, (_, i) => [i + 1, i] as const);
    expect(decodeAuxv(auxv(entries)).size).toBe(64);
  });
});

describe("elfKind", () => {
  const kindOf = (names: readonly (readonly [string, number])[], paddr = 0) => {
    const notes = Buffer.concat(names.map(([name, type]) => note(name, type, Buffer.alloc(136))));
    const elf = readElf(source(buildElf({ notes, segments: [load(0x1000, pages(1, 1), { paddr })] })));
    return elfKind(elf, [...parseNotes(notes, 0)]);
  };

  test("a copy of /proc/kcore is a vmcore, although it has PRPSINFO", () => {
    const kcore = [
      ["CORE", 1],
      ["CORE", 3],
      ["CORE", 4],
      ["VMCOREINFO", 0],
    ] as const;
    expect(kindOf(kcore, 0x1000)).toBe("vmcore");
    expect(kindOf(kcore.slice(0, 3), 0x1000)).toBe("process-core");
    expect(kindOf([["CORE", 1]], 0x1000)).toBe("vmcore");
    expect(kindOf([["CORE", 1]])).toBe("process-core");
  });
});

describe("ELF vmcores", () => {
  test("aliases collapse, excluded and absent pages are told apart", () => {
    const bytes = buildElf({
      segments: [
        load(0, pages(2, 1), { paddr: 0, vaddr: 0xffff888000000000n as never }),
        load(0, pages(1, 2), { paddr: 0x4000, memsz: 2 * 4096 }),
        load(0, pages(1, 1), { paddr: 0x1000, vaddr: 0xffffffff81000000n as never }),
        load(0, pages(2, 3), { paddr: 0x10000 }),
        load(0, pages(1, 4), { paddr: 0xffff_ffff_ffff_ffffn as never }),
      ],
    });
    const truncated = bytes.subarray(0, bytes.length - 2 * 4096);
    const memory = new ElfVmcore(source(truncated), readElf(source(truncated)));
    expect(memory.ranges).toEqual([
      { start: 0, end: 0x2000 },
      { start: 0x4000, end: 0x6000 },
      { start: 0x10000, end: 0x12000 },
    ]);
    const page = Buffer.alloc(4096);
    expect(memory.readPage(0x1000, page)).toBe("present");
    expect(memory.readPage(0x5000, page)).toBe("excluded");
    expect(memory.readPage(0x11000, page)).toBe("absent");
    expect(memory.extentAt(0x2000, 0x10000)).toMatchObject({ state: "absent", end: 0x4000 });
  });
});

describe("ranges", () => {
  const arbitrary = fc.array(
    fc.tuple(fc.nat(200), fc.nat(30)).map(([start, size]) => ({ start, end: start + size })),
    { maxLength: 20 },
  );
  const covered = (ranges: readonly { start: number; end: number }[]) => {
    const set = new Set<number>();
    for (const { start, end } of ranges) for (let i = start; i < end; i++) set.add(i);
    return set;
  };

  test("merging and making disjoint cover the same, and find what a slow search finds", () => {
    fc.assert(
      fc.property(arbitrary, fc.nat(240), (ranges, probe) => {
        const merged = mergeRanges(ranges);
        const disjoint = makeDisjoint(
          ranges.filter(({ start, end }) => end > start),
          (range, start) => ({ ...range, start }),
        );
        expect(covered(merged)).toEqual(covered(ranges));
        expect(covered(disjoint.ranges)).toEqual(covered(ranges));
        expect(totalSize(disjoint.ranges) + disjoint.dropped).toBe(totalSize(ranges));
        expect(rangeAt(merged, probe)).toEqual(
          merged.find(({ start, end }) => start <= probe && probe < end),
        );
        const above = merged.findIndex(({ end }) => end > probe);
        expect(indexAtOrAbove(merged, probe)).toBe(above < 0 ? merged.length : above);
      }),
    );
  });
});

test("errors of the decoders are ours", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      try {
        openProcessCore(source(Buffer.concat([Buffer.from("\x7fELF\x02\x01\x01", "latin1"), bytes])));
      } catch (error) {
        expect(error).toBeInstanceOf(GuestcoreError);
      }
    }),
  );
});
