import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { main } from "../src/cli/main.ts";
import { GuestcoreError, UnsupportedError } from "../src/core/errors.ts";
import { openAnyDump, openDump } from "../src/dump/open.ts";
import { inspect } from "../src/jobs/inspect.ts";
import { findingsIn } from "./support/check.ts";
import { expectPages, PAGE, pages, sourceOf, stateOf } from "./support/kdump-pages.ts";
import { quiet } from "./support/memory-io.ts";
import { physicalAt, readVmcore } from "./support/read-vmcore.ts";
import { FakeTerminal } from "./support/terminal.ts";
import { buildKdump, type KdumpLayout, type KdumpSpec } from "./synth/kdump.ts";
import { note } from "./synth/notes.ts";
import { patternBytes, random } from "./synth/pattern.ts";

const open = (spec: KdumpSpec) => openAnyDump(sourceOf(buildKdump(spec)));

/** Every layout there is, and a machine that has it. */
const layouts: readonly (readonly [name: string, machine: string, layout: KdumpLayout])[] = [
  ["64-bit little-endian", "aarch64", {}],
  ["64-bit big-endian", "s390x", { bigEndian: true }],
  ["32-bit little-endian, packed", "i686", { bits: 32 }],
  ["32-bit little-endian, padded", "mipsel", { bits: 32, padded: true }],
  ["32-bit big-endian, packed", "ppc", { bits: 32, bigEndian: true }],
  ["32-bit big-endian, padded", "mips", { bits: 32, bigEndian: true, padded: true }],
];

describe.each(layouts)("a header that is %s", (_, machine, layout) => {
  const { bigEndian = false } = layout;
  const vmcoreinfo = Buffer.from("OSRELEASE=6.1.0-synth\n");
  const notes = note("CORE", 1, Buffer.alloc(144, 7), { bigEndian });

  test.each([0, 1, 2, 3, 4, 5, 6])("of version %d", async (version) => {
    const spec: KdumpSpec = { pages, machine, layout, version, codec: "zlib", vmcoreinfo, notes };
    for (const name of [machine, "", "Unknown"]) {
      const dump = await open({ ...spec, machine: name });
      expectPages(dump.memory);
      expect(dump.bigEndian ?? false).toBe(bigEndian);
      expect(dump.notes.map(({ name, type, desc }) => [name, type, desc.length])).toEqual([
        ...(version >= 4 ? [["CORE", 1, 144]] : []),
        ...(version >= 3 ? [["VMCOREINFO", 0, vmcoreinfo.length]] : []),
      ]);
    }
  });

  test("with nothing but page frames, as one part of several", async () => {
    for (const [version, maxMapnr] of [
      [2, 40_003],
      [5, 40_003],
      [6, 40_003],
      [6, 0],
    ] as const) {
      const dump = await open({ pages, machine, layout, version, maxMapnr, split: [3, 40_001] });
      for (const pfn of [3, 5, 40_000]) {
        expect(stateOf(dump.memory, pfn)).toEqual({ state: "present", bytes: pages.get(pfn) });
      }
      expect(stateOf(dump.memory, 2).state).toBe("absent");
    }
  });

  test.each([8192, 16_384, 65_536])("with pages of %d bytes, which are read by 4096", async (blockSize) => {
    const large = (seed: number) => patternBytes(blockSize, seed);
    const contents = new Map<number, Buffer | null>([
      [1, large(1)],
      [2, Buffer.alloc(blockSize)],
      [3, null],
      [4, large(4)],
    ]);
    const { memory } = await open({ pages: contents, machine, layout, blockSize, codec: "zlib" });
    expect(memory.ranges).toEqual([{ start: blockSize, end: 5 * blockSize }]);
    const target = Buffer.alloc(PAGE);
    for (let at = 0; at < blockSize; at += PAGE) {
      expect(memory.readPage(4 * blockSize + at + 5, target)).toBe("present");
      expect(target.equals(large(4).subarray(at, at + PAGE))).toBe(true);
      expect(memory.readPage(3 * blockSize + at, target)).toBe("excluded");
    }
    expect(memory.extentAt(2 * blockSize + PAGE, 3 * blockSize)).toEqual({
      start: 2 * blockSize + PAGE,
      end: 3 * blockSize,
      state: "zero",
    });
    expect(memory.extentAt(3 * blockSize + PAGE, 5 * blockSize)).toMatchObject({ end: 4 * blockSize });
  });
});

describe("which layout it is", () => {
  const frames = (last: number) =>
    new Map([...pages].filter(([pfn]) => pfn < last).concat([[last - 1, null]]));

  test.each([4096, 8192, 16_384, 32_768, 65_536])(
    "is not told by page frames that pass for a block size: %d",
    async (last) => {
      for (const machine of ["i686", "x86_64", ""]) {
        const dump = await open({ pages: frames(last), machine, layout: { bits: 32 }, maxMapnr: last });
        expect(stateOf(dump.memory, 3)).toEqual({ state: "present", bytes: pages.get(3) });
        expect(dump.machine).toBe(3);
      }
    },
  );

  test("is not told by a time that passes for a block size", async () => {
    const dump = buildKdump({ pages, machine: "" });
    // tv_usec of a 64-bit header is where a 32-bit one has its block size.
    dump.writeUInt32LE(4096, 416);
    expectPages((await openAnyDump(sourceOf(dump))).memory);
  });
});

describe("the machine", () => {
  test.each([
    ["x86_64", {}, 62],
    ["", {}, 62],
    ["i586", { bits: 32 }, 3],
    // QEMU writes the name of its target, not of what the guest does.
    ["x86_64", { bits: 32 }, 3],
    ["i686", {}, 3],
    ["", { bits: 32 }, 3],
    ["aarch64", {}, 183],
    ["aarch64_be", { bigEndian: true }, 183],
    ["armv7l", { bits: 32, padded: true }, 40],
    ["armv5teb", { bits: 32, padded: true, bigEndian: true }, 40],
    ["ppc64le", {}, 21],
    ["ppc64", { bigEndian: true }, 21],
    ["ppc64", {}, 21],
    ["ppc", { bits: 32, padded: true, bigEndian: true }, 20],
    ["s390x", { bigEndian: true }, 22],
    ["S390X", { bigEndian: true }, 22],
    ["", { bigEndian: true }, 22],
    ["riscv64", {}, 243],
    ["loongarch64", {}, 258],
    ["mips64", { bigEndian: true }, 8],
    ["mipsel", { bits: 32, padded: true }, 8],
    ["ia64", {}, 50],
    ["sparc64", { bigEndian: true }, 43],
  ] as const)("called %j with a header of %j is %d", async (machine, layout: KdumpLayout, expected) => {
    const source = sourceOf(buildKdump({ pages, machine, layout }));
    expect((await openAnyDump(source)).machine).toBe(expected);
    if (expected !== 62) await expect(openDump(source)).rejects.toThrow(UnsupportedError);
  });

  test.each([
    [{}, 392, 183],
    [{}, 504, 21],
    [{}, 376, 243],
    [{}, 480, 258],
    [{}, 144, 3],
    [{}, 336, 62],
    [{ bigEndian: true }, 504, 21],
    [{ bigEndian: true }, 336, 22],
    [{ bits: 32 }, 144, 3],
    [{ bits: 32 }, 148, 40],
    [{ bits: 32, bigEndian: true }, 268, 20],
  ] as const)(
    "without a name is told by its registers: %j, %d bytes",
    async (layout: KdumpLayout, size, expected) => {
      const notes = note("CORE", 1, Buffer.alloc(size), layout);
      expect((await open({ pages, machine: "", layout, notes })).machine).toBe(expected);
      // Of a guest that was not in long mode QEMU says what its processors can do.
      const isX86 = expected === 3 || expected === 62;
      if (isX86) expect((await open({ pages, machine: "x86_64", layout, notes })).machine).toBe(expected);
    },
  );

  test("that is an ARM has its page frames counted from where its kernel starts", async () => {
    const spec: KdumpSpec = {
      pages,
      machine: "armv7l",
      layout: { bits: 32, padded: true },
      physBase: 0x8000_0000,
    };
    const { memory } = await open(spec);
    expect(memory.ranges[0]).toEqual({ start: 0x8000_1000, end: 0x8000_9000 });
    const target = Buffer.alloc(PAGE);
    expect(memory.readPage(0x8000_3000, target)).toBe("present");
    expect(target.equals(pages.get(3)!)).toBe(true);
    expect(memory.extentAt(0x8000_7000, 0x9000_0000)).toEqual({
      start: 0x8000_7000,
      end: 0x8000_9000,
      state: "excluded",
    });
    expect(memory.readPage(0x3000, target)).toBe("absent");
    // QEMU counts them from 0.
    expectPages((await open({ ...spec, system: "" })).memory);
  });
});

test("a header of a version yet unknown is read by what is known, and told of", async () => {
  const { memory, warnings } = await open({ pages, version: 7 });
  expectPages(memory);
  expect(warnings.map(({ code }) => code)).toEqual(["DMP006"]);
});

describe("convert", () => {
  const folder = mkdtempSync(join(tmpdir(), "guestcore-machines-"));
  afterAll(() => rmSync(folder, { recursive: true }));

  test.each([
    ["s390x", { bigEndian: true }, 22, [2, 2]],
    ["ppc64le", {}, 21, [2, 1]],
    ["i686", { bits: 32 }, 3, [2, 1]],
    ["armv7l", { bits: 32, padded: true }, 40, [1, 1]],
    ["ppc", { bits: 32, padded: true, bigEndian: true }, 20, [1, 2]],
  ] as const)(
    "of a dump of %s is ELF of that machine, its notes unchanged",
    async (machine, layout: KdumpLayout, type, ident) => {
      const { bigEndian = false } = layout;
      const info = Buffer.from("OSRELEASE=6.1.0-synth\nPAGESIZE=4096\n");
      const notes = Buffer.concat([
        note("CORE", 1, patternBytes(336, 1), { bigEndian }),
        note("LINUX", 0x301, patternBytes(8, 2), { bigEndian }),
        note("VMCOREINFO", 0, info, { bigEndian }),
      ]);
      const [input, output] = [join(folder, machine), join(folder, `${machine}.elf`)];
      writeFileSync(input, buildKdump({ pages, machine, layout, notes, codec: "lzo" }));
      const terminal = new FakeTerminal();
      expect(await main(["convert", input, output], terminal), terminal.err).toBe(0);
      const vmcore = readVmcore(readFileSync(output));
      expect([vmcore.machine, [...vmcore.file.subarray(4, 6)]]).toEqual([type, ident]);
      expect(vmcore.notes.map(({ name, type, desc }) => [name, type, desc])).toEqual([
        ["CORE", 1, patternBytes(336, 1)],
        ["LINUX", 0x301, patternBytes(8, 2)],
        ["VMCOREINFO", 0, info],
      ]);
      for (const [pfn, bytes] of pages) {
        const found = physicalAt(vmcore, pfn * PAGE, PAGE);
        if (bytes === null) expect(found, `page ${pfn}`).toBeUndefined();
        else expect(found?.equals(bytes), `page ${pfn}`).toBe(true);
      }
      // What was written opens again, as a dump of that machine.
      const again = await openAnyDump(sourceOf(vmcore.file));
      expect([again.machine, again.bigEndian ?? false]).toEqual([type, bigEndian]);
      expect(again.notes.map(({ name }) => name)).toEqual(["CORE", "LINUX", "VMCOREINFO"]);
      const { vmcore: facts, warnings } = await inspect(input, quiet);
      expect(facts).toMatchObject({ hasNote: true, linux: undefined, cpus: [] });
      expect(warnings).toEqual([]);
    },
  );

  test("of an ARM too large for a 32-bit file is a 64-bit one", async () => {
    const [input, output] = [join(folder, "large"), join(folder, "large.elf")];
    const contents = new Map([[2 ** 20, patternBytes(PAGE, 1)]]);
    const layout = { bits: 32, padded: true } as const;
    writeFileSync(input, buildKdump({ pages: contents, machine: "armv7l", layout }));
    const terminal = new FakeTerminal();
    expect(await main(["convert", input, output], terminal), terminal.err).toBe(0);
    const vmcore = readVmcore(readFileSync(output));
    expect([vmcore.machine, vmcore.file[4]]).toEqual([40, 2]);
    expect(physicalAt(vmcore, 2 ** 32, PAGE)?.equals(contents.get(2 ** 20)!)).toBe(true);
  });
});

test("500 mutants of each layout end in what is there, or an error of ours", async () => {
  const outcomes = { read: 0, refused: 0 };
  for (const [, machine, layout] of layouts) {
    const dump = buildKdump({ pages, machine, layout, notes: note("CORE", 1, Buffer.alloc(336)) });
    for (let seed = 0; seed < 500; seed++) {
      const chance = random(seed);
      const mutant = Buffer.from(dump);
      for (let n = chance.below(4); n >= 0; n--) {
        // In the numbers of a header, or anywhere before the data.
        const [from, size] = chance.pick([
          [404, 60],
          [PAGE, 104],
          [0, 5 * PAGE],
        ] as const);
        const at = from + chance.below(size);
        mutant[at] = chance.pick([0, 1, 0x10, 0x7f, 0x80, 0xff, chance.below(256)]);
      }
      try {
        const { memory } = await openAnyDump(sourceOf(mutant));
        for (const { start, end } of memory.ranges.slice(0, 8)) {
          for (let at = start; at < Math.min(end, start + 16 * PAGE); at += PAGE) stateOf(memory, at / PAGE);
          memory.extentAt(start, end);
        }
        outcomes.read++;
      } catch (error) {
        if (!(error instanceof GuestcoreError)) throw error;
        outcomes.refused++;
      }
    }
  }
  expect(outcomes.read).toBeGreaterThan(1000);
  expect(outcomes.refused).toBeGreaterThan(200);
});

describe("verify", () => {
  const notes = (layout: KdumpLayout) => note("CORE", 1, Buffer.alloc(144, 7), layout);

  test.each([...layouts, ["of a machine unknown", "vax", {}] as const])(
    "reads the dump of a machine that is %s",
    async (_, machine, layout) => {
      for (const version of [2, 4, 6]) {
        const spec: KdumpSpec = { pages, machine, layout, version, codec: "zlib", notes: notes(layout) };
        const whole = await findingsIn(buildKdump({ ...spec, maxMapnr: 40_003 }));
        expect([whole.codes, whole.checked?.coverage.missing]).toEqual([[], 0]);
        expect((await findingsIn(buildKdump({ ...spec, incomplete: true }))).groups).toMatchObject([
          { code: "VRF018", first: [{ where: { offset: layout.bits === 32 ? 412 : 424 } }] },
        ]);
      }
    },
  );

  test("tells addresses as the machine has them", async () => {
    const layout = { bits: 32, padded: true } as const;
    const bytes = buildKdump({ pages, machine: "armv7l", layout, physBase: 0x8000_0000 });
    const blocks = 1 + bytes.readUInt32LE(420) + bytes.readUInt32LE(424);
    const second = blocks * PAGE + 24;
    const pfn = [...pages].filter(([, page]) => page !== null)[1]![0];
    bytes.writeUInt32LE(0, second + 8);
    expect((await findingsIn(bytes)).groups).toMatchObject([
      { code: "VRF025", count: 1, first: [{ where: { offset: second, address: 0x8000_0000 + pfn * PAGE } }] },
    ]);
  });
});
