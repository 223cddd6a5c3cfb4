import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { main } from "../src/cli/main.ts";
import { crc32c as ours } from "../src/codec/crc32c.ts";
import { CorruptError, UnsupportedError } from "../src/core/errors.ts";
import type { PhysicalMemory } from "../src/core/memory.ts";
import { openDump } from "../src/dump/open.ts";
import { planVmcore } from "../src/vmcore/plan.ts";
import { copyGuest } from "../src/vmcore/write.ts";
import { MemorySource, quiet } from "./support/memory-io.ts";
import { mutantOf, outcomesOf } from "./support/mutants.ts";
import { physicalAt, readVmcore } from "./support/read-vmcore.ts";
import { FakeTerminal } from "./support/terminal.ts";
import { avmlBlock, buildLime, chunk, crc32c, type LimeRange, limeHeader } from "./synth/lime.ts";
import { patternBytes, type Random, random } from "./synth/pattern.ts";

const PAGE = 4096;
const folder = mkdtempSync(join(tmpdir(), "guestcore-lime-"));
afterAll(() => rmSync(folder, { recursive: true }));

const open = (bytes: Uint8Array) => openDump(new MemorySource(bytes, "image"));
const codes = (warnings: readonly { readonly code: string }[]) => warnings.map(({ code }) => code);

const digest = (bytes: Uint8Array): string => createHash("sha1").update(bytes).digest("hex");

/** What a page holds, by its digest, or that it is not there. */
function pageOf(memory: PhysicalMemory, address: number): string {
  const target = Buffer.alloc(PAGE, 0xee);
  const state = memory.readPage(address, target);
  return state === "present" || state === "zero" ? digest(target) : state;
}

/** The page at an offset of bytes. */
const pageIn = (bytes: Uint8Array, offset: number): string => digest(bytes.subarray(offset, offset + PAGE));

/** What the first range of a list that has it whole, or several together, say of a page. */
function wanted(ranges: readonly LimeRange[], page: number): string {
  const bytes = Buffer.alloc(PAGE);
  const isWhole = ({ start, bytes: { length } }: LimeRange) => start <= page && start + length >= page + PAGE;
  const whole = ranges.find(isWhole);
  let known = 0;
  for (let i = 0; i < PAGE; i++) {
    const source = (whole === undefined ? ranges : [whole]).find(
      ({ start, bytes: { length } }) => start <= page + i && page + i < start + length,
    );
    if (source === undefined) continue;
    bytes[i] = source.bytes[page + i - source.start]!;
    known++;
  }
  return known === PAGE ? digest(bytes) : "absent";
}

const part = (start: number, length: number, seed = start): LimeRange => ({
  start,
  bytes: patternBytes(length, seed % 0xffff, { zero: () => false }),
});

describe("a LiME image", () => {
  test("ranges in any order; their ends are inclusive", async () => {
    const ranges = [part(0x100000, 3 * PAGE), part(0x1000, 2 * PAGE), part(2 ** 40, PAGE)];
    const { memory, warnings, machine, cpus, notes } = await open(buildLime(ranges));
    expect([warnings, machine, cpus, notes]).toEqual([[], 62, [], []]);
    expect(memory.ranges).toEqual([
      { start: 0x1000, end: 0x3000 },
      { start: 0x100000, end: 0x103000 },
      { start: 2 ** 40, end: 2 ** 40 + PAGE },
    ]);
    for (const page of [0, 0x1000, 0x2000, 0x3000, 0x100000, 0x102000, 0x103000, 2 ** 40]) {
      expect(pageOf(memory, page), page.toString(16)).toEqual(wanted(ranges, page));
    }
    // Raw bytes, which are copied in large pieces.
    expect(memory.extentAt(0x100000, 2 ** 41)).toMatchObject({
      end: 0x103000,
      state: "present",
      at: { offset: 32 },
    });
  });

  test("a page that a range cuts is there when neighbours complete it", async () => {
    const ranges = [part(0x1000, 0x1400, 1), part(0x2400, 0xc00, 2), part(0x4100, 0x2000, 3)];
    const { memory, warnings } = await open(buildLime(ranges));
    expect(warnings).toEqual([]);
    expect(memory.ranges).toEqual([
      { start: 0x1000, end: 0x3000 },
      { start: 0x5000, end: 0x6000 },
    ]);
    for (let page = 0; page < 0x8000; page += PAGE)
      expect(pageOf(memory, page)).toEqual(wanted(ranges, page));
  });

  test("where ranges overlap the first counts, and that is told", async () => {
    const ranges = [part(0x2000, 2 * PAGE, 1), part(0x1000, 4 * PAGE, 2)];
    const { memory, warnings } = await open(buildLime(ranges));
    expect(codes(warnings)).toEqual(["DMP021"]);
    expect(warnings[0]!.message).toContain("8192 bytes");
    for (let page = 0x1000; page < 0x5000; page += PAGE)
      expect(pageOf(memory, page)).toEqual(wanted(ranges, page));
  });

  test("any ranges: each page as its bytes in the image say", async () => {
    const range = fc.record({ start: fc.nat(0x9000), length: fc.integer({ min: 1, max: 0x5000 }) });
    await fc.assert(
      fc.asyncProperty(fc.array(range, { minLength: 1, maxLength: 6 }), async (specs) => {
        const ranges = specs.map(({ start, length }, i) => part(start, length, i + 1));
        const { memory } = await open(buildLime(ranges));
        for (let page = 0; page < 0xf000; page += PAGE) {
          // Seams of more than one layer may be told from either; only their presence is fixed.
          const want = wanted(ranges, page);
          const got = pageOf(memory, page);
          const isWhole = ranges.some((r) => r.start <= page && r.start + r.bytes.length >= page + PAGE);
          if (isWhole || want === "absent") expect(got).toEqual(want);
          else expect(got).not.toBe("absent");
        }
      }),
      { numRuns: 200, seed: 20261125 },
    );
  });

  test("cut anywhere: what is there is read, and told", async () => {
    const ranges = [part(0x1000, 2 * PAGE), part(0x9000, 2 * PAGE)];
    const whole = buildLime(ranges);
    const second = 32 + 2 * PAGE;
    for (const length of [
      33,
      32 + PAGE,
      second - 1,
      second + 1,
      second + 31,
      second + 32,
      whole.length - 1,
    ]) {
      const { memory, warnings } = await open(whole.subarray(0, length));
      expect([length, ...codes(warnings)]).toEqual([length, "DMP020"]);
      const isThere = (page: number, at: number) => (at + PAGE <= length ? wanted(ranges, page) : "absent");
      expect(pageOf(memory, 0x1000)).toEqual(isThere(0x1000, 32));
      expect(pageOf(memory, 0x2000)).toEqual(isThere(0x2000, 32 + PAGE));
      expect(pageOf(memory, 0xa000)).toEqual(isThere(0xa000, second + 32 + PAGE));
    }
    const { memory, warnings } = await open(whole.subarray(0, second));
    expect(warnings).toEqual([]);
    expect(memory.ranges).toHaveLength(1);
  });

  test.each([
    ["noise", Buffer.alloc(40, 7)],
    ["another version", limeHeader(0x9000, 0x9fff, "EMiL", 2)],
    ["a range that ends before it starts", limeHeader(0x9000, 0x8000)],
    ["a range beyond every machine", limeHeader(2n ** 63n, 2n ** 64n - 1n)],
  ])("%s behind a range is left out, and told", async (_, bytes) => {
    const { memory, warnings } = await open(Buffer.concat([buildLime([part(0x1000, PAGE)]), bytes]));
    expect(warnings).toMatchObject([{ code: "DMP020", where: { offset: 32 + PAGE } }]);
    expect(memory.ranges).toEqual([{ start: 0x1000, end: 0x2000 }]);
  });

  test.each([
    [
      "cut inside its first header",
      limeHeader(0, 0xfff).subarray(0, 31),
      CorruptError,
      /ends inside a header/,
    ],
    ["of another version", limeHeader(0, 0xfff, "EMiL", 2), UnsupportedError, /version 2/],
    ["whose first range is none", limeHeader(0x2000, 0x1000), CorruptError, /first range/],
    ["whose first range has every address", limeHeader(0, 2n ** 64n - 1n), CorruptError, /first range/],
    [
      "of a hundred thousand ranges",
      Buffer.concat(Array(65_537).fill(buildLime([{ start: 0, bytes: Buffer.alloc(1) }]))),
      UnsupportedError,
      /more than 65536 ranges/,
    ],
  ])("%s is refused", async (_, bytes, kind, message) => {
    const error = await open(bytes).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(kind);
    expect((error as Error).message).toMatch(message);
  });
});

test("CRC-32C is the one of RFC 3720", () => {
  expect(ours(Buffer.from("123456789"))).toBe(0xe3069283);
  expect(ours(Buffer.alloc(32))).toBe(0x8a9136aa);
  fc.assert(
    fc.property(fc.uint8Array(), (bytes) => {
      expect(ours(bytes)).toBe(crc32c(bytes));
    }),
  );
});

describe("a compressed AVML image", () => {
  const uniform = (start: number, length: number): LimeRange => ({
    start,
    bytes: Buffer.alloc(length, 0x5a),
  });
  const ranges = [part(0x1000, 40 * PAGE), uniform(0x100000, 33 * PAGE), part(2 ** 33, 2 * PAGE)];
  const expectPages = (memory: PhysicalMemory): void => {
    expect(memory.ranges).toEqual(ranges.map(({ start, bytes }) => ({ start, end: start + bytes.length })));
    for (const { start, bytes } of ranges) {
      for (let at = 0; at < bytes.length; at += PAGE) {
        expect(pageOf(memory, start + at), `${start + at}`).toBe(pageIn(bytes, at));
      }
    }
    expect([0, 0x80000, 2 ** 34].map((page) => pageOf(memory, page))).toEqual(Array(3).fill("absent"));
  };

  test.each([
    ["as AVML writes it", {}],
    ["whose chunks are all packed", { raw: false }],
    ["in chunks that pages do not fit into", { chunkSize: 5000 }],
    ["with padding between its chunks", { padding: Buffer.alloc(300, 0xff) }],
  ])("%s", async (_, options) => {
    const { memory, warnings } = await open(Buffer.concat(ranges.map((range) => avmlBlock(range, options))));
    expect(warnings).toEqual([]);
    expectPages(memory);
    expect(memory.extentAt(0, 2 ** 40)).toEqual({ start: 0, end: 0x1000, state: "absent" });
    expect(memory.extentAt(0x1000, 2 ** 40)).toEqual({ start: 0x1000, end: 41 * PAGE, state: "present" });
    expect(memory.extentAt(2 ** 34, 2 ** 40).state).toBe("absent");
  });

  test("in any order", async () => {
    expectPages((await open(Buffer.concat(ranges.toReversed().map((range) => avmlBlock(range))))).memory);
  });

  test("begins and ends inside a page: what is cut is not there", async () => {
    const { memory } = await open(avmlBlock(part(0x1800, 3 * PAGE)));
    expect(memory.ranges).toEqual([{ start: 0x2000, end: 0x4000 }]);
    expect(pageOf(memory, 0x2000)).toBe(pageIn(part(0x1800, 3 * PAGE).bytes, 0x800));
    expect(pageOf(memory, 0x1000)).toBe("absent");
  });

  test("cut anywhere: what is there is read, and told", async () => {
    const first = avmlBlock(ranges[0]!);
    const image = Buffer.concat([first, avmlBlock(ranges[1]!)]);
    const chance = random(7);
    for (let n = 0; n < 60; n++) {
      const length = 33 + chance.below(image.length - 34);
      if (length === first.length) continue;
      const { memory, warnings } = await open(image.subarray(0, length));
      expect([length, ...codes(warnings)]).toEqual([length, "DMP020"]);
      for (const { start, bytes } of ranges.slice(0, 2)) {
        for (let at = 0; at < bytes.length; at += PAGE) {
          const got = pageOf(memory, start + at);
          const { state } = memory.extentAt(start + at, start + at + PAGE);
          expect(state).toBe(got === "absent" ? "absent" : "present");
          if (got !== "absent") expect(got).toBe(pageIn(bytes, at));
        }
      }
    }
  });

  test("a damaged chunk is not there, its neighbours are", async () => {
    const image = avmlBlock(ranges[0]!);
    image[32 + 10 + 8 + 100]! ^= 1;
    const { memory } = await open(image);
    expect(pageOf(memory, 0x1000)).toBe("absent");
    expect(pageOf(memory, 17 * PAGE)).toBe(pageIn(ranges[0]!.bytes, 16 * PAGE));
  });

  test("of tiny chunks: read once, and signals are heard between them", async () => {
    const range = part(0, 32 * PAGE);
    const image = avmlBlock(range, { chunkSize: 16 });
    let read = 0;
    class Counting extends MemorySource {
      override read(offset: number, target: Uint8Array): number {
        const got = super.read(offset, target);
        read += got;
        return got;
      }
    }
    const { memory } = await openDump(new Counting(image, "image"));
    read = 0;
    let checkpoints = 0;
    const context = {
      ...quiet,
      checkpoint: async () => {
        checkpoints++;
      },
    };
    const guest = {
      memory,
      vcpus: [],
      ranges: [{ ...memory.ranges[0]!, kind: "ram", source: "RAM", sourceOffset: 0 }] as const,
    };
    const found: Buffer[] = [];
    await copyGuest(guest, await planVmcore(guest, "elf"), {
      context,
      observe: (bytes) => found.push(Buffer.from(bytes)),
    });
    expect(Buffer.concat(found).equals(range.bytes as Buffer)).toBe(true);
    expect(read).toBeLessThan(2 * image.length);
    expect(checkpoints).toBe(2);
  });

  test("of more chunks than are kept unpacked", async () => {
    const { memory } = await open(avmlBlock(uniform(0, 300 * 65536)));
    const page = Buffer.alloc(PAGE);
    for (let at = 0; at < 300 * 65536; at += 65536) {
      expect(memory.readPage(at, page)).toBe("present");
      expect(page.every((byte) => byte === 0x5a)).toBe(true);
    }
  });

  const stray = (bytes: Buffer) => Buffer.concat([avmlBlock(part(0x1000, PAGE)), bytes]);
  const block = avmlBlock(part(0x9000, PAGE));
  test.each([
    ["a LiME range", stray(buildLime([part(0x9000, PAGE)]))],
    [
      "a chunk that must be understood",
      stray(Buffer.concat([block.subarray(0, 42), chunk(2, Buffer.alloc(9))])),
    ],
    [
      "a chunk of nothing",
      stray(Buffer.concat([block.subarray(0, 42), chunk(1, Buffer.alloc(4)), block.subarray(42)])),
    ],
    ["a chunk beyond its block", stray(Buffer.concat([block.subarray(0, 42), chunk(1, Buffer.alloc(5004))]))],
    [
      "a chunk whose length has no end",
      stray(Buffer.concat([block.subarray(0, 42), chunk(0, Buffer.alloc(90, 0xff))])),
    ],
    ["a wrong length behind the stream", stray(Buffer.concat([block.subarray(0, -8), Buffer.alloc(8, 1)]))],
  ])("%s ends it, and is told", async (_, image) => {
    const { memory, warnings } = await open(image);
    expect(codes(warnings)).toEqual(["DMP020"]);
    expect(pageOf(memory, 0x1000)).not.toBe("absent");
  });

  test.each([
    ["of another version", limeHeader(0, 0xfff, "AVML", 3), UnsupportedError, /version 3/],
    ["whose first block is none", limeHeader(9, 8, "AVML", 2), CorruptError, /no range/],
    ["cut inside its first header", limeHeader(0, 9, "AVML", 2).subarray(0, 20), CorruptError, /no range/],
    [
      "whose blocks overlap",
      Buffer.concat([avmlBlock(part(0x1000, 2 * PAGE)), avmlBlock(part(0x2000, PAGE))]),
      CorruptError,
      /two blocks of the image hold the memory at 0x2000/,
    ],
  ])("%s is refused", async (_, bytes, kind, message) => {
    const error = await open(bytes).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(kind);
    expect((error as Error).message).toMatch(message);
  });
});

describe("damage", () => {
  test.each([
    ["LiME", buildLime([part(0x1000, 3 * PAGE), part(0x8400, 2 * PAGE), part(0xa400, PAGE)])],
    ["AVML", Buffer.concat([avmlBlock(part(0x1000, 20 * PAGE)), avmlBlock(part(0x80000, 3 * PAGE))])],
  ])("1000 mutants of a %s image end in what is there, or an error of ours", async (_, original) => {
    const place = (chance: Random) => chance.below(chance.below(2) === 0 ? 56 : original.length - 8);
    const outcomes = await outcomesOf(1000, (seed) => open(mutantOf(original, seed, 3, place)));
    expect(outcomes.read).toBeGreaterThan(200);
    expect(outcomes.refused).toBeGreaterThan(10);
  });
});

describe("convert and info", () => {
  const ranges = [
    part(0x1000, 9 * PAGE),
    { start: 0x40000, bytes: Buffer.alloc(4 * PAGE) },
    part(2 ** 33, 5 * PAGE),
  ];
  test.each([
    ["lime", buildLime(ranges)],
    ["avml", Buffer.concat(ranges.map((range) => avmlBlock(range)))],
  ])("%s", async (format, image) => {
    const input = join(folder, format);
    writeFileSync(input, image);
    const terminal = new FakeTerminal();
    expect(await main(["convert", input, `${input}.elf`, "--json"], terminal)).toBe(0);
    expect(JSON.parse(terminal.out).result.coverage).toEqual({
      present: 14 * PAGE,
      zero: 4 * PAGE,
      excluded: 0,
      missing: 0,
    });
    const vmcore = readVmcore(readFileSync(`${input}.elf`));
    for (const { start, bytes } of ranges) {
      expect(physicalAt(vmcore, start, bytes.length)?.equals(bytes)).toBe(true);
    }
    const info = new FakeTerminal();
    expect(await main(["info", input, "--json"], info)).toBe(0);
    expect(JSON.parse(info.out).result).toMatchObject({
      format,
      vmcore: { ranges: ranges.map(({ start, bytes }) => ({ start, end: start + bytes.length })) },
      next: [`guestcore convert ${input} vmcore    # then crash, drgn and makedumpfile open it`],
    });
  });
});

describe("convert --strict", () => {
  const strict = async (name: string, image: Buffer) => {
    const input = join(folder, name);
    writeFileSync(input, image);
    const [strictly, otherwise] = [new FakeTerminal(), new FakeTerminal()];
    const status = await main(["convert", input, `${input}.strict`, "--strict"], strictly);
    expect(await main(["convert", input, `${input}.elf`], otherwise)).toBe(0);
    return { status, err: strictly.err };
  };
  const whole = buildLime([part(0x1000, 3 * PAGE), part(0x40000, 2 * PAGE)]);

  test("does not let damage pass of which nothing is left but a warning", async () => {
    const flipped = Buffer.from(whole);
    flipped[32 + 3 * PAGE]! ^= 1;
    expect(await strict("flipped", flipped)).toEqual({
      status: 6,
      err: expect.stringMatching(/the input is damaged: DMP020: /),
    });
  });

  test("nor a compressed input whose checksum is wrong", async () => {
    const packed = gzipSync(whole);
    packed[packed.length - 8]! ^= 1;
    expect(await strict("packed.gz", packed)).toEqual({
      status: 6,
      err: expect.stringMatching(/the compressed input is cut or damaged/),
    });
  });

  test("lets what is whole pass, whatever else it warns of", async () => {
    expect((await strict("whole", whole)).status).toBe(0);
  });
});
