import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { GuestcoreError } from "../src/core/errors.ts";
import type { ByteSource, Extent, PhysicalMemory } from "../src/core/memory.ts";
import type { DumpFiles } from "../src/dump/format.ts";
import { openDump } from "../src/dump/open.ts";
import { openInput } from "../src/jobs/input.ts";
import { cpuTime } from "./support/cpu-time.ts";
import { quiet } from "./support/memory-io.ts";
import { patternBytes, random } from "./synth/pattern.ts";
import {
  buildDiskSet,
  buildMedia,
  buildSadump,
  mediaHeader,
  partition,
  type SadumpSpec,
} from "./synth/sadump.ts";

const PAGE = 4096;

const sourceOf = (bytes: Buffer, name = "dump"): ByteSource => ({
  name,
  size: bytes.length,
  read: (offset, target) => (offset >= bytes.length ? 0 : bytes.copy(target, 0, offset)),
});
const open = (bytes: Buffer, files: DumpFiles = {}) => openDump(sourceOf(bytes), files);
const parts = (...members: Buffer[]) => ({
  parts: members.map((bytes, i) => sourceOf(bytes, `part${i + 1}`)),
});

/** What a dump is refused with. */
async function refusal(bytes: Buffer, files: DumpFiles = {}): Promise<[string, string, string | undefined]> {
  try {
    await open(bytes, files);
  } catch (error) {
    if (!(error instanceof GuestcoreError)) throw error;
    return [error.name, error.message, error.where?.file];
  }
  throw new Error("it was opened");
}

/** RAM in two pieces, of which some was not dumped. The bits of a byte are not symmetrical. */
const contentsOf = (size = PAGE) =>
  new Map<number, Buffer | null>([
    ...[1, 2, 3, 6].map((pfn) => [pfn, patternBytes(size, pfn)] as const),
    [4, null],
    [5, null],
    ...[100, 101, 102, 110].map((pfn) => [pfn, patternBytes(size, pfn)] as const),
    [103, Buffer.alloc(size)],
  ]);
const pages = contentsOf();
const spec: SadumpSpec = { pages };

function pageOf(memory: PhysicalMemory, address: number) {
  const bytes = Buffer.alloc(PAGE, 0xee);
  return { state: memory.readPage(address, bytes), bytes };
}

function expectPages(memory: PhysicalMemory, contents = pages, size = PAGE): void {
  expect(memory.ranges).toEqual([
    { start: size, end: 7 * size },
    { start: 100 * size, end: 104 * size },
    { start: 110 * size, end: 111 * size },
  ]);
  for (const [pfn, wanted] of contents) {
    for (let at = 0; at < size; at += PAGE) {
      const { state, bytes } = pageOf(memory, pfn * size + at);
      expect([pfn, at, state]).toEqual([pfn, at, wanted === null ? "excluded" : "present"]);
      if (wanted !== null) expect(bytes.equals(wanted.subarray(at, at + PAGE)), `page ${pfn}`).toBe(true);
    }
  }
  for (const pfn of [0, 7, 99, 104, 109, 111, 4000]) expect(pageOf(memory, pfn * size).state).toBe("absent");
}

function* extentsOf(memory: PhysicalMemory): Generator<Extent> {
  const end = memory.ranges.at(-1)!.end;
  for (let at = 0; at < end; ) {
    const extent = memory.extentAt(at, end);
    yield extent;
    at = extent.end;
  }
}
const runs = (memory: PhysicalMemory) =>
  [...extentsOf(memory)].map(({ start, end, state, at }) => [
    start / PAGE,
    end / PAGE,
    state,
    ...(at === undefined ? [] : [at.source.name, at.offset]),
  ]);

describe("a dump in one partition", () => {
  test.each([0, 1, 2])("of header version %d", async (version) => {
    const dump = await open(buildSadump({ ...spec, version }));
    expectPages(dump.memory);
    expect(dump).toMatchObject({ warnings: [], cpus: [], notes: [] });
  });

  test("that is larger than the dump, as on the disk itself", async () => {
    const { memory, warnings } = await open(
      Buffer.concat([buildSadump(spec), Buffer.alloc(PAGE * 100 + 512, 0xe5)]),
    );
    expectPages(memory);
    expect(warnings).toEqual([]);
  });

  test("gives runs of blocks as they lie in the file", async () => {
    const { memory } = await open(buildSadump(spec));
    // Partition header, dump header, two bitmaps.
    const data = 4 * PAGE;
    expect(runs(memory)).toEqual([
      [0, 1, "absent"],
      [1, 4, "present", "dump", data],
      [4, 6, "excluded"],
      [6, 7, "present", "dump", data + 3 * PAGE],
      [7, 100, "absent"],
      [100, 104, "present", "dump", data + 4 * PAGE],
      [104, 110, "absent"],
      [110, 111, "present", "dump", data + 8 * PAGE],
    ]);
  });

  test.each([8192, 65_536])("with blocks of %d bytes", async (blockSize) => {
    const contents = contentsOf(blockSize);
    for (const version of [0, 1]) {
      const { memory } = await open(buildSadump({ pages: contents, blockSize, version }));
      expectPages(memory, contents, blockSize);
    }
  });

  test("whose headers take 4096 bytes until they say otherwise", async () => {
    const blockSize = 8192;
    const contents = contentsOf(blockSize);
    const dump = buildSadump({ pages: contents, blockSize });
    // The magic numbers end where a block of 4096 bytes does, and a header is there, as crash wants it.
    dump.copy(dump, PAGE, blockSize, blockSize + 128);
    expectPages((await open(dump)).memory, contents, blockSize);
  });

  test("a block of what is no RAM counts, and is not shown", async () => {
    const others = new Map([[50, patternBytes(PAGE, 50)]]);
    const { memory } = await open(buildSadump({ ...spec, others }));
    expectPages(memory);
    expect(pageOf(memory, 50 * PAGE).state).toBe("absent");
  });

  test("with blocks of SMRAM states in front", async () => {
    const cpus = Array.from({ length: 9 }, () => ({ registers: { rflags: 2n, cr0: 0x10n } }));
    const dump = await open(buildSadump({ ...spec, cpus }));
    expectPages(dump.memory);
    expect(dump.cpus.length).toBe(9);
  });

  test("cut: what lies behind the end is absent, and told", async () => {
    const whole = buildSadump(spec);
    const { memory, warnings } = await open(whole.subarray(0, -3 * PAGE - 1));
    expect(warnings).toMatchObject([
      { code: "DMP010", message: "the dump is cut: 12.0 KiB of 36.0 KiB of memory are not in the file" },
    ]);
    expect([100, 101, 102, 103, 110].map((pfn) => pageOf(memory, pfn * PAGE).state)).toEqual([
      ...["present", "absent", "absent", "absent", "absent"],
    ]);
    expect(
      runs(memory)
        .slice(-4)
        .map((run) => run.slice(0, 3)),
    ).toEqual([
      [100, 101, "present"],
      [101, 104, "absent"],
      [104, 110, "absent"],
      [110, 111, "absent"],
    ]);
  });

  test("a file more is refused by its name", async () => {
    expect(await refusal(buildSadump(spec), parts(buildSadump(spec)))).toEqual([
      "UnsupportedError",
      "this is no part of the dump, which is in one partition",
      "part1",
    ]);
  });

  test("any bitmaps: each page is where its rank says", async () => {
    const state = fc.constantFrom("hole", "dumped", "left out");
    await fc.assert(
      fc.asyncProperty(fc.array(state, { minLength: 1, maxLength: 70 }), async (states) => {
        const entries = states.flatMap((kind, pfn) =>
          kind === "hole" ? [] : [[pfn, kind === "dumped" ? patternBytes(PAGE, pfn) : null] as const],
        );
        fc.pre(entries.length > 0);
        const { memory } = await open(buildSadump({ pages: new Map(entries) }));
        for (const [pfn, kind] of states.entries()) {
          const wanted = { hole: "absent", dumped: "present", "left out": "excluded" }[kind];
          const { state: found, bytes } = pageOf(memory, pfn * PAGE);
          expect([pfn, found]).toEqual([pfn, wanted]);
          if (found === "present") expect(bytes.equals(patternBytes(PAGE, pfn))).toBe(true);
        }
        for (const { start, end, state: found, at } of extentsOf(memory)) {
          for (let address = start; address < end; address += PAGE) {
            const page = pageOf(memory, address);
            expect(page.state).toBe(found);
            if (at === undefined) continue;
            const bytes = Buffer.alloc(PAGE);
            at.source.read(at.offset + address - start, bytes);
            expect(bytes.equals(page.bytes)).toBe(true);
          }
        }
      }),
      { numRuns: 60 },
    );
  });
});

describe("the disks of a set", () => {
  const disks = buildDiskSet(spec, [2, 4]);
  const [first, second, third] = disks as [Buffer, Buffer, Buffer];

  test("are put in order, whatever order they are named in", async () => {
    for (const others of [
      [second, third],
      [third, second],
    ]) {
      const { memory, warnings } = await open(first, parts(...others));
      expectPages(memory);
      expect(warnings).toEqual([]);
    }
  });

  test("an extent ends with its disk", async () => {
    const { memory } = await open(first, parts(second, third));
    expect(runs(memory).filter(([, , state]) => state === "present")).toEqual([
      [1, 3, "present", "dump", 5 * PAGE],
      [3, 4, "present", "part1", PAGE],
      [6, 7, "present", "part1", 2 * PAGE],
      [100, 102, "present", "part1", 3 * PAGE],
      [102, 104, "present", "part2", PAGE],
      [110, 111, "present", "part2", 3 * PAGE],
    ]);
  });

  test("with a larger header of the set, and larger blocks", async () => {
    const blockSize = 8192;
    const contents = contentsOf(blockSize);
    const [one, ...others] = buildDiskSet({ pages: contents, blockSize, setBlocks: 3 }, [5]) as [
      Buffer,
      Buffer,
    ];
    expectPages((await open(one, parts(...others))).memory, contents, blockSize);
  });

  test("a set of sixteen, and of one", async () => {
    const [one, ...others] = buildDiskSet(
      spec,
      Array.from({ length: 15 }, (_, i) => i % 2),
    ) as [Buffer];
    expectPages((await open(one, parts(...others.toReversed()))).memory);
    expectPages((await open(buildDiskSet(spec, [])[0]!)).memory);
  });

  test("a device larger than what is used of it", async () => {
    const larger = (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc(3 * PAGE, 0x77)]);
    expectPages((await open(larger(first), parts(larger(second), larger(third)))).memory);
  });

  test("a cut disk lacks its own pages only", async () => {
    const { memory, warnings } = await open(first, parts(second.subarray(0, 2 * PAGE), third));
    expect(warnings).toMatchObject([{ code: "DMP010" }]);
    expect([2, 3, 6, 101, 102, 110].map((pfn) => pageOf(memory, pfn * PAGE).state)).toEqual([
      ...["present", "present", "absent", "absent", "present", "present"],
    ]);
  });

  test("what a later disk has too much does not make up for it", async () => {
    const other = Buffer.from(third);
    other.writeBigUInt64LE(BigInt(third.length + 8 * PAGE), 160);
    const longer = Buffer.concat([other, Buffer.alloc(8 * PAGE)]);
    const { warnings } = await open(first, parts(second.subarray(0, 2 * PAGE), longer));
    expect(warnings).toMatchObject([
      { code: "DMP010", message: expect.stringMatching(/: 12\.0 KiB of 36\.0 KiB/) },
    ]);
  });

  test("a disk is missing", async () => {
    expect(await refusal(first, parts(third))).toEqual([
      "UnavailableError",
      "disk 2 of 3 (volume c3c3c3c3-c3c3-c3c3-c3c3-c3c3c3c3c302) is missing",
      undefined,
    ]);
    expect((await refusal(first))[1]).toContain("disk 2 of 3");
    expect((await refusal(first, parts(second)))[1]).toContain("disk 3 of 3");
  });

  test("another disk is given as the first", async () => {
    const wanted = [
      "UnsupportedError",
      "this is disk 3 of a disk set: the headers of the dump are on number 1",
      undefined,
    ];
    expect(await refusal(third)).toEqual(wanted);
    expect(await refusal(third, parts(first, second))).toEqual(wanted);
  });

  test.each([
    ["a disk twice", [second, third, second], "this is disk 2 of the set, and so is part1", "part3"],
    ["the first again", [second, first], "this is disk 1 of the set, and so is dump", "part2"],
    ["what is no disk", [Buffer.alloc(9000)], "this is no disk of a sadump disk set", "part1"],
    ["an empty file", [second, Buffer.alloc(0)], "this is no disk of a sadump disk set", "part2"],
    [
      "another machine's",
      [buildDiskSet({ ...spec, system: 0x11 }, [2, 4])[1]!],
      /^this is of another machine: its UUID is 11111111-/,
      "part1",
    ],
    [
      "another set's",
      [second, buildDiskSet({ ...spec, set: 0x22 }, [2, 4])[2]!],
      /^this is of another disk set: 22222222-/,
      "part2",
    ],
    [
      "one that the set has not",
      [partition(spec, 4, PAGE)],
      "this is disk 4 of a set, and the dump's has 3 disks",
      "part1",
    ],
    [
      "a partition that is in no set",
      [partition(spec, 0, PAGE)],
      "this is disk 0 of a set, and the dump's has 3 disks",
      "part1",
    ],
    [
      "one of other blocks",
      [partition({ ...spec, blockSize: 8192 }, 2, 8192)],
      "blocks of this disk have 8192 bytes, those of the dump 4096",
      "part1",
    ],
  ])("%s is refused by its name", async (_, others, message, file) => {
    const [name, text, where] = await refusal(first, parts(...others));
    expect([name, where]).toEqual(["UnsupportedError", file]);
    expect(text).toMatch(message);
  });

  test("a volume that the set does not know is refused", async () => {
    const other = Buffer.from(second);
    other[135] = 9;
    expect(await refusal(first, parts(other, third))).toEqual([
      "UnsupportedError",
      "this is not disk 2 of the set: its volume is c3c3c3c3-c3c3-c3c3-c3c3-c3c3c3c3c309, not c3c3c3c3-c3c3-c3c3-c3c3-c3c3c3c3c302",
      "part1",
    ]);
  });

  test.each([
    ["none", 0n],
    ["less than the headers", 3n],
    ["half a block", BigInt(PAGE + 100)],
    ["more than a number holds", 2n ** 60n],
  ])("a disk of which %s is used is damaged", async (_, used) => {
    const other = Buffer.from(second);
    other.writeBigUInt64LE(used, 160);
    const [name, text, file] = await refusal(first, parts(other, third));
    expect([name, file]).toEqual(["CorruptError", "part1"]);
    expect(text).toContain("bytes of the disk are used");
  });

  test("wrong magic numbers are damage of that file", async () => {
    const other = Buffer.from(third);
    other[2000]! ^= 1;
    expect(await refusal(first, parts(second, other))).toEqual([
      "CorruptError",
      "the magic numbers of the partition header do not follow from each other",
      "part2",
    ]);
  });

  test("another time is told", async () => {
    const late = buildDiskSet({ ...spec, time: [4, 0] }, [2, 4])[2]!;
    const { memory, warnings } = await open(first, parts(second, late));
    expectPages(memory);
    expect(warnings).toEqual([
      {
        code: "DMP011",
        message: "the time stamp of part2 is 2023-04-05T04:00:09, that of the dump 2023-04-05T03:07:09",
        hint: "their UUIDs agree; is one of an older dump?",
      },
    ]);
  });

  test.each([
    [0, 1],
    [2, 1],
    [17, 1],
    [2, 0],
    [2, 1_000_000],
  ])("a header that tells of %d disks in %d blocks is damaged, or one disk is all", async (count, blocks) => {
    const other = Buffer.from(first);
    other.writeUInt32LE(blocks, PAGE);
    other.writeUInt32LE(count, PAGE + 4);
    const [name, text] = await refusal(other, parts(second, third));
    expect([name, text]).toEqual(
      count === 2 && blocks === 1
        ? ["UnsupportedError", "this is disk 3 of a set, and the dump's has 2 disks"]
        : ["CorruptError", expect.stringContaining("the disk set header tells of")],
    );
  });
});

describe("a media backup", () => {
  test("on one medium, of a partition and of a disk of a set", async () => {
    for (const disk of [0, 1, 3]) {
      const { memory, warnings } = await open(buildMedia(spec, [], { disk })[0]!);
      expectPages(memory);
      expect(warnings).toEqual([]);
    }
  });

  test.each([false, true])("on several, each with a partition header: %s", async (headers) => {
    const [first, second, third] = buildMedia(spec, [2, 4], { headers }) as [Buffer, Buffer, Buffer];
    const { memory, warnings } = await open(first, parts(third, second));
    expectPages(memory);
    expect(warnings).toMatchObject([{ code: "DMP014" }]);
  });

  test("without the others lacks their pages", async () => {
    const { memory, warnings } = await open(buildMedia(spec, [2, 4])[0]!);
    expect(warnings).toMatchObject([{ code: "DMP010" }]);
    expect([1, 2, 3, 6, 100].map((pfn) => pageOf(memory, pfn * PAGE).state)).toEqual([
      ...["present", "present", "absent", "absent", "absent"],
    ]);
  });

  test("a medium that is missing, twice, of another backup or cut", async () => {
    const [first, second, third] = buildMedia(spec, [2, 4]) as [Buffer, Buffer, Buffer];
    expect((await refusal(first, parts(third))).slice(0, 2)).toEqual([
      "UnavailableError",
      "medium 2 of the backup is missing",
    ]);
    expect(await refusal(first, parts(second, second))).toEqual([
      "UnsupportedError",
      "this is medium 2 of the backup, and so is part1",
      "part2",
    ]);
    expect((await refusal(first, parts(first)))[1]).toBe("this is medium 1 of the backup, and so is dump");
    expect(await refusal(first, parts(mediaHeader({ ...spec, set: 0x22 }, 2)))).toEqual([
      "UnsupportedError",
      expect.stringContaining("this is of another disk set"),
      "part1",
    ]);
    expect(await refusal(first, parts(mediaHeader(spec, 0)))).toEqual([
      "UnsupportedError",
      "this is medium 0 of the backup",
      "part1",
    ]);
    expect(await refusal(first, parts(second.subarray(0, -100), third))).toEqual([
      "CorruptError",
      "the medium ends inside a block",
      "part1",
    ]);
    expect(await refusal(first, parts(Buffer.alloc(17)))).toEqual([
      "CorruptError",
      "the file ends inside its media header",
      "part1",
    ]);
  });

  test("headers that are not of one dump, or not of the first medium", async () => {
    const [only] = buildMedia(spec) as [Buffer];
    const rest = only.subarray(PAGE);
    const other = Buffer.concat([mediaHeader({ ...spec, set: 0x22 }, 1), rest]);
    expect((await refusal(other)).slice(0, 2)).toEqual([
      "CorruptError",
      expect.stringContaining("the media header is of dump 22222222-"),
    ]);
    expect((await refusal(Buffer.concat([mediaHeader(spec, 2), rest]))).slice(0, 2)).toEqual([
      "UnsupportedError",
      "this is medium 2 of a backup: the headers of the dump are on number 1",
    ]);
    const late = Buffer.concat([mediaHeader({ ...spec, time: [4, 0] }, 1), rest]);
    expect((await open(late)).warnings).toMatchObject([{ code: "DMP011" }]);
  });
});

describe("files beside the first", () => {
  const folder = mkdtempSync(join(tmpdir(), "guestcore-sadump-"));
  afterAll(() => rmSync(folder, { recursive: true }));

  async function openFile(name: string) {
    const input = await openInput(join(folder, name), quiet);
    const dump = await openDump(input.source, input.files);
    return { dump, close: () => input.close() };
  }

  test.each(["set-a%.img", "disk.00%", "%", "node4-dump%.bin"])(
    "are found by its name, as in %s",
    async (pattern) => {
      const names = [1, 2, 3].map((number) => pattern.replace("%", String(number)));
      for (const [i, bytes] of buildDiskSet(spec, [2, 4]).entries())
        writeFileSync(join(folder, names[i]!), bytes);
      const { dump, close } = await openFile(names[0]!);
      expectPages(dump.memory);
      close();
      for (const name of names) rmSync(join(folder, name));
    },
  );

  test("counted from 0 or 9, as wide as they were", async () => {
    const disks = buildDiskSet(spec, [2, 4]);
    for (const names of [
      ["d0", "d1", "d2"],
      ["d09.x", "d10.x", "d11.x"],
    ]) {
      for (const [i, bytes] of disks.entries()) writeFileSync(join(folder, names[i]!), bytes);
      const { dump, close } = await openFile(names[0]!);
      expectPages(dump.memory);
      close();
    }
  });

  test("what is not the disk is passed over; media are found until there is enough", async () => {
    const [first, second, third] = buildDiskSet(spec, [2, 4]) as [Buffer, Buffer, Buffer];
    writeFileSync(join(folder, "e1"), first);
    writeFileSync(join(folder, "e2"), third);
    writeFileSync(join(folder, "e3"), third);
    await expect(openFile("e1")).rejects.toThrow(/^disk 2 of 3/);
    writeFileSync(join(folder, "e2"), second);
    truncateSync(join(folder, "e3"), 100);
    await expect(openFile("e1")).rejects.toThrow(/^disk 3 of 3/);
    for (const [i, bytes] of buildMedia(spec, [2, 4]).entries())
      writeFileSync(join(folder, `m${i + 1}`), bytes);
    writeFileSync(join(folder, "m4"), mediaHeader(spec, 4));
    const { dump, close } = await openFile("m1");
    expectPages(dump.memory);
    expect(dump.warnings.map(({ code }) => code)).toEqual(["DMP014"]);
    close();
  });

  test("a name without a number has none beside it", async () => {
    writeFileSync(join(folder, "disk"), buildDiskSet(spec, [2])[0]!);
    await expect(openFile("disk")).rejects.toThrow(/^disk 2 of 2/);
  });
});

describe("damage", () => {
  test("a file that ends in its headers", async () => {
    const whole = buildSadump(spec);
    for (const length of [8, 100, 4095, 4096, 4097, 4096 + 95, 4096 + 96, 3 * PAGE - 1, 4 * PAGE - 1]) {
      expect([length, (await refusal(whole.subarray(0, length)))[0]]).toEqual([length, "CorruptError"]);
    }
    const { warnings } = await open(whole.subarray(0, 4 * PAGE));
    expect(warnings).toMatchObject([
      { code: "DMP010", message: expect.stringContaining("36.0 KiB of 36.0 KiB") },
    ]);
  });

  test.each([
    ["no page frames", 88, 0n, 8],
    ["more than there can be", 88, 2n ** 37n, 8],
    ["more than the bitmap has", 88, 40_000n, 8],
    ["a bitmap of no blocks", 52, 0n, 4],
    ["a bitmap behind the file", 56, 90n, 4],
    ["a sub header behind the file", 48, 0xffff_ffffn, 4],
    ["blocks of another size", 40, 8192n, 4],
    ["blocks of no size", 40, 0n, 4],
    ["blocks of an odd size", 40, 5000n, 4],
    ["no signature", 0, 0n, 4],
  ] as const)("a header with %s", async (_, at, value, size) => {
    const dump = buildSadump(spec);
    if (size === 8) dump.writeBigUInt64LE(value, PAGE + at);
    else dump.writeUInt32LE(Number(value), PAGE + at);
    expect((await refusal(dump))[0]).toBe("CorruptError");
  });

  test("seeded mutants of every variant end in pages, or in an error of ours", async () => {
    const seed = Number(process.env.GUESTCORE_SEED ?? 7);
    const { below } = random(seed);
    const cpus = [{ registers: { rflags: 2n, cr0: 0x8005_0033n, cr3: 0x1000n, cr4: 0x20n, efer: 0xd01n } }];
    const variants = [
      [buildSadump({ ...spec, cpus })],
      buildDiskSet({ ...spec, cpus }, [2, 4]),
      buildMedia({ ...spec, cpus }, [2, 4], { headers: true }),
    ];
    const started = cpuTime();
    const outcomes = { opened: 0, refused: 0 };
    for (let mutant = 0; mutant < Number(process.env.GUESTCORE_MUTANTS ?? 900); mutant++) {
      const members = variants[mutant % 3]!.map((bytes) => Buffer.from(bytes));
      for (let i = 0; i < 1 + below(4); i++) {
        const bytes = members[below(members.length)]!;
        // Mostly where the fields of headers are.
        const block = PAGE * below(Math.min(6, bytes.length / PAGE));
        bytes[(block + below(below(3) === 0 ? PAGE : 200)) % bytes.length] = below(256);
      }
      const [first, ...others] = members as [Buffer];
      const cut = below(5) === 0 ? first.subarray(0, below(first.length)) : first;
      try {
        const { memory } = await open(cut, parts(...others));
        let steps = 0;
        for (const { start } of extentsOf(memory)) {
          pageOf(memory, start);
          if (++steps > 5000) break;
        }
        outcomes.opened++;
      } catch (error) {
        if (!(error instanceof GuestcoreError)) throw error;
        outcomes.refused++;
      }
    }
    expect(outcomes.opened).toBeGreaterThan(50);
    expect(outcomes.refused).toBeGreaterThan(50);
    expect(cpuTime() - started).toBeLessThan(60_000);
  }, 90_000);
});
