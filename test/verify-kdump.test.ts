import { deflateSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { OverlapFinder, type OwnedRange } from "../src/dump/overlap-finder.ts";
import { findingsIn } from "./support/check.ts";
import { page, pagesOf } from "./support/kdump-pages.ts";
import { MemorySource } from "./support/memory-io.ts";
import { buildKdump, type KdumpCodec, type KdumpSpec } from "./synth/kdump.ts";
import { note } from "./synth/notes.ts";
import { PAGE, patternBytes } from "./synth/pattern.ts";

const prstatus = (seed: number, size = 336) => note("CORE", 1, patternBytes(size, seed));
const vmcoreinfo = Buffer.from("OSRELEASE=6.1.0-synth\nPAGESIZE=4096\n");
const notes = Buffer.concat([prstatus(1), prstatus(2), note("VMCOREINFO", 0, vmcoreinfo)]);
const build = (spec: Partial<KdumpSpec> = {}) =>
  buildKdump({ pages: pagesOf(spec.codec ?? "zlib"), codec: "zlib", notes, ...spec });

/** Two bitmaps of two blocks each lie behind header and sub header; then the descriptors of eight pages. */
const RAM = 2 * PAGE;
const DUMPED = 4 * PAGE;
const TABLE = 6 * PAGE;
const DATA = TABLE + 8 * 24;
/** Offset of the n-th descriptor: of page frames 1, 2, 3, 4, 5, 6, 40 000, 40 001. */
const descriptor = (n: number) => TABLE + 24 * n;

type Change = (dump: Buffer) => Buffer | undefined;
const u32 =
  (offset: number, value: number): Change =>
  (dump) => {
    dump.writeUInt32LE(value, offset);
    return undefined;
  };
const u64 =
  (offset: number, value: number | bigint): Change =>
  (dump) => {
    dump.writeBigUInt64LE(BigInt(value), offset);
    return undefined;
  };
const changed = (dump: Buffer, change: Change): Buffer => change(dump) ?? dump;

describe("a whole kdump-compressed dump has no findings", () => {
  test.each(["raw", "zlib", "lzo", "snappy", "zstd"] as KdumpCodec[])("of %s pages", async (codec) => {
    const { codes, format, checked } = await findingsIn(build({ codec }));
    expect([format, codes]).toEqual(["kdump", []]);
    expect(checked).toEqual({
      coverage: { present: 6 * PAGE, zero: 2 * PAGE, excluded: 3 * PAGE, missing: 0 },
      pages: { total: 7, read: 7 },
    });
  });

  test.each([1, 2, 3, 4, 5, 6])("of header version %d", async (version) => {
    expect((await findingsIn(build({ version, vmcoreinfo }))).codes).toEqual([]);
  });

  test("with one bitmap, of a diskdump", async () => {
    const all = new Map([...pagesOf("raw")].filter(([, bytes]) => bytes !== null));
    const dump = buildKdump({ pages: all, bitmaps: 1, version: 0, signature: "DISKDUMP" });
    expect((await findingsIn(dump)).codes).toEqual([]);
  });

  test("in which each page of zeros has its own bytes", async () => {
    const { codes, checked } = await findingsIn(build({ sharedZeros: false }));
    expect(codes).toEqual([]);
    expect(checked!.coverage.zero).toBe(2 * PAGE);
    expect(checked!.pages.total).toBe(8);
  });

  test("whose pages are in another order", async () => {
    const dump = build();
    const [first, last] = [0, 5].map((n) => Buffer.from(dump.subarray(descriptor(n), descriptor(n + 1))));
    last!.copy(dump, descriptor(0));
    first!.copy(dump, descriptor(5));
    expect((await findingsIn(dump)).codes).toEqual([]);
  });
});

test("more room for bitmaps than they need is odd, and no damage", async () => {
  const { codes, checked } = await findingsIn(build({ spareBlocks: 1 }));
  expect([codes, checked!.coverage.missing]).toEqual([["VRF020×1"], 0]);
});

/** What is damaged, what that is found as and how often, and where it is. */
const DAMAGE: ReadonlyArray<[string, Change, string, number?]> = [
  ["the header is cut", (dump) => dump.subarray(0, 300), "VRF006×1"],
  ["the block size is odd", u32(428, 4095), "VRF006×1", 428],
  ["the bitmaps are cut", (dump) => dump.subarray(0, DUMPED + 100), "VRF006×1", 436],
  ["the status says incomplete", u32(424, 1 | 8), "VRF018×1", 424],
  ["two counts of page frames differ", u32(440, 7), "VRF019×1", 440],
  ["notes are where the descriptors are", u64(PAGE + 48, TABLE + 8), "VRF019×1", TABLE + 8],
  ["the version is not known", u32(8, 7), "VRF020×1", 8],
  ["the status has an unknown bit", u32(424, 0x81), "VRF020×1", 424],
  ["the dump level is not known", u32(PAGE + 8, 77), "VRF020×1", PAGE + 8],
  ["pages written are not those of the bitmap", u32(452, 9), "VRF020×1", 452],
  ["a page was dumped that is no RAM", (dump) => clearBit(dump, RAM, 3), "VRF021×1", DUMPED],
  ["a descriptor is empty", (dump) => fill(dump, descriptor(2), 24, 0), "VRF022×1", descriptor(2)],
  ["a page is behind the end", u64(descriptor(2), 1 << 30), "VRF023×1", descriptor(2)],
  ["a page is behind every end", u64(descriptor(2), 1n << 60n), "VRF023×1", descriptor(2)],
  ["a page is in the header", u64(descriptor(2), 100), "VRF024×1", descriptor(2)],
  ["a page is among the descriptors", u64(descriptor(2), DATA - 1), "VRF024×1", descriptor(2)],
  ["a page of no bytes", u32(descriptor(2) + 8, 0), "VRF025×1", descriptor(2)],
  ["a page of too many bytes", u32(descriptor(2) + 8, PAGE + 1), "VRF025×1", descriptor(2)],
  ["a raw page that is too short", u32(descriptor(5) + 8, PAGE - 1), "VRF026×1", descriptor(5)],
  ["a packed page that says it is raw", u32(descriptor(2) + 12, 0), "VRF026×1", descriptor(2)],
  ["an unknown flag", u32(descriptor(2) + 12, 0x40), "VRF027×1", descriptor(2)],
  ["two kinds of compression", u32(descriptor(2) + 12, 3), "VRF027×1", descriptor(2)],
  ["bytes of a page are changed", (dump) => flip(dump, dataOf(dump, 2) + 12), "VRF028×1", descriptor(2)],
  ["a page is of another compression", u32(descriptor(2) + 12, 2), "VRF028×1", descriptor(2)],
  ["a page unpacks to too few bytes", (dump) => repack(dump, 2, 4000), "VRF029×1", descriptor(2)],
  ["a page unpacks to too many bytes", (dump) => repack(dump, 2, 5000), "VRF029×1", descriptor(2)],
  ["two pages have the same bytes", (dump) => copyDescriptor(dump, 1, 2), "VRF030×1", descriptor(2)],
];

function clearBit(dump: Buffer, bitmap: number, pfn: number): undefined {
  dump[bitmap + (pfn >> 3)]! &= ~(1 << (pfn & 7));
}
function fill(dump: Buffer, at: number, length: number, byte: number): undefined {
  dump.fill(byte, at, at + length);
}
function flip(dump: Buffer, at: number): undefined {
  dump[at]! ^= 0xff;
}
const dataOf = (dump: Buffer, n: number) => Number(dump.readBigUInt64LE(descriptor(n)));
function repack(dump: Buffer, n: number, length: number): undefined {
  const bytes = deflateSync(Buffer.alloc(length, 0x11));
  expect(bytes.length).toBeLessThan(dump.readUInt32LE(descriptor(n) + 8));
  bytes.copy(dump, dataOf(dump, n));
  dump.writeUInt32LE(bytes.length, descriptor(n) + 8);
}
function copyDescriptor(dump: Buffer, from: number, to: number): undefined {
  dump.copy(dump, descriptor(to), descriptor(from), descriptor(from) + 24);
}

describe("damage to a kdump-compressed dump", () => {
  test.each(DAMAGE)("%s", async (_, change, code, offset) => {
    const { codes, groups, checked } = await findingsIn(changed(build(), change));
    // The notes that lie among the descriptors make no sense either.
    expect(codes.filter((found) => code !== "VRF019×1" || !/^VRF01[02]/.test(found))).toEqual([code]);
    const group = groups.find((found) => code.startsWith(found.code))!;
    const [finding] = group.first;
    if (offset !== undefined) expect(finding!.where.offset).toBe(offset);
    expect(finding!.message).not.toMatch(/undefined|NaN|Infinity|\[object/);
    const ofPage = /^VRF02[2-9]/.test(code);
    if (ofPage) expect(finding!.where.address).toBe(offset === descriptor(5) ? 6 * PAGE : 3 * PAGE);
    if (checked !== undefined) expect(checked.coverage.missing).toBe(ofPage ? PAGE : 0);
  });

  test("one page in a raw dump that begins inside another", async () => {
    const dump = build({ codec: "raw" });
    dump.writeBigUInt64LE(BigInt(dataOf(dump, 2) + 1), descriptor(2));
    const { codes, groups } = await findingsIn(dump);
    expect(codes).toEqual(["VRF030×1"]);
    expect(groups[0]!.first[0]!.message).toMatch(/^page at 0x[35]000: its bytes .* the page at 0x[35]000$/);
  });

  test("a page inside the page of zeros that others share", async () => {
    const dump = build({ codec: "raw" });
    dump.writeBigUInt64LE(BigInt(DATA + 16), descriptor(2));
    const { codes, groups } = await findingsIn(dump);
    // It reaches into the page behind that, too.
    expect(codes).toEqual(["VRF030×2"]);
    expect(groups[0]!.first[0]!.message).toMatch(/^page at 0x3000: .* the page of zeros that others share$/);
  });

  test("a page that takes the page of zeros for its own", async () => {
    const dump = build();
    // As many pages as it likes may share it, whatever it is of: nothing tells.
    copyDescriptor(dump, 3, 2);
    expect((await findingsIn(dump)).codes).toEqual([]);
    // But not when it is no page of zeros.
    const without = build({ pages: new Map([1, 2, 3].map((pfn) => [pfn, page(pfn, "zlib")])) });
    without.copy(without, 4 * PAGE + 24, 4 * PAGE, 4 * PAGE + 24);
    expect((await findingsIn(without)).codes).toEqual(["VRF030×1"]);
  });

  test("a descriptor that leads far ahead does not put those behind it under suspicion", async () => {
    const dump = build({ codec: "raw" });
    dump.writeBigUInt64LE(BigInt(dataOf(dump, 6) + 8), descriptor(1));
    const { codes, groups } = await findingsIn(dump);
    expect(codes).toEqual(["VRF030×1"]);
    expect(groups[0]!.first[0]!.where.address).toBe(40_000 * PAGE);
  });

  test("every page is damaged: ten are told, all are counted", async () => {
    const one = page(1, "zlib");
    const many = new Map(Array.from({ length: 300 }, (_, pfn) => [pfn, one]));
    const dump = build({ pages: many });
    dump.fill(0x5a, 4 * PAGE + 300 * 24, dump.length - notes.length);
    const { groups, checked } = await findingsIn(dump);
    expect(groups).toMatchObject([{ code: "VRF028", count: 300 }]);
    expect(groups[0]!.first).toHaveLength(10);
    expect(checked!.coverage).toEqual({ present: 0, zero: 0, excluded: 0, missing: 300 * PAGE });
  });

  test("descriptors that the file ends before", async () => {
    const { codes } = await findingsIn(build({ notes: Buffer.alloc(0) }).subarray(0, TABLE + 60));
    // Those that are there lead outside.
    expect(codes).toEqual(["VRF007×1", "VRF022×6", "VRF023×2"]);
  });

  test("contradictions that move everything", async () => {
    for (const change of [u32(436, 5), u32(432, 0)]) {
      expect((await findingsIn(changed(build(), change))).codes).toContain("VRF019×1");
    }
  });

  test("more pages out of order than are compared", { timeout: 60_000 }, async () => {
    const one = page(1, "zlib");
    const count = 2 ** 16 + 100;
    const dump = build({ pages: new Map(Array.from({ length: count }, (_, pfn) => [pfn, one])) });
    const start = dump.readUInt32LE(436) * PAGE + 2 * PAGE;
    const descriptors = Array.from({ length: count }, (_, n) =>
      Buffer.from(dump.subarray(start + 24 * n, start + 24 * (n + 1))),
    );
    Buffer.concat(descriptors.toReversed()).copy(dump, start);
    expect((await findingsIn(dump, {}, true)).codes).toEqual(["VRF031×1"]);
  });

  test("bytes that are lost are found wherever the file is cut", async () => {
    const dump = build();
    const cuts = new Set([0, 1, 464, PAGE, RAM, DUMPED, TABLE, DATA].flatMap((at) => [at - 1, at, at + 1]));
    for (let at = DATA; at < dump.length; at += 97) cuts.add(at);
    cuts.add(dump.length - 1);
    for (const length of [...cuts].filter((at) => at > 7)) {
      const { groups } = await findingsIn(dump.subarray(0, length));
      expect([length, groups[0]?.severity]).toEqual([length, "error"]);
    }
  });
});

describe("notes of a kdump-compressed dump", () => {
  test.each([
    ["of a CPU twice", Buffer.concat([prstatus(1), prstatus(1)]), "VRF011×1"],
    ["of registers of another size", prstatus(1, 300), "VRF012×1"],
    ["of more CPUs than there are", Buffer.concat([1, 2, 3].map((n) => prstatus(n))), "VRF012×1"],
    ["with a VMCOREINFO of noise", note("VMCOREINFO", 0, patternBytes(90, 4)), "VRF012×1"],
    ["with an empty VMCOREINFO", note("VMCOREINFO", 0, Buffer.alloc(8)), "VRF012×1"],
    ["that do not end", Buffer.concat([prstatus(1), Buffer.alloc(16, 0x7f)]), "VRF010×1"],
  ])("%s", async (_, bytes, code) => {
    expect((await findingsIn(build({ notes: bytes }))).codes).toEqual([code]);
  });

  test("behind the end", async () => {
    expect((await findingsIn(build().subarray(0, -4))).codes).toContain("VRF010×1");
    expect((await findingsIn(changed(build(), u64(PAGE + 56, 10_000_000)))).codes).toEqual(["VRF010×1"]);
  });

  test("VMCOREINFO of an old version, alone", async () => {
    expect((await findingsIn(build({ version: 3, vmcoreinfo: patternBytes(80, 3) }))).codes).toEqual([
      "VRF012×1",
    ]);
  });
});

describe("split dumps", () => {
  const part = (start: number, end: number, spec: Partial<KdumpSpec> = {}) =>
    build({ split: [start, end], ...spec });
  const parts = (...bytes: Buffer[]) => bytes.map((each, i) => new MemorySource(each, `part${i + 2}`));

  test("one part is whole by itself, and told as one", async () => {
    const { codes, checked } = await findingsIn(part(3, 40_001));
    expect(codes).toEqual(["VRF033×1"]);
    expect(checked!.coverage).toEqual({ present: 4 * PAGE, zero: PAGE, excluded: 2 * PAGE, missing: 0 });
  });

  test("a part that has no pages, nor descriptors, is whole", async () => {
    const bare = (start: number, end: number) => buildKdump({ pages: pagesOf("zlib"), split: [start, end] });
    const nothing = bare(40_003, 40_003).subarray(0, TABLE);
    expect((await findingsIn(nothing)).codes).toEqual(["VRF033×1"]);
    expect((await findingsIn(bare(0, 40_003), { parts: parts(nothing) })).codes).toEqual([]);
  });

  test("all parts, in any order, are the whole dump", async () => {
    const { codes, checked } = await findingsIn(part(3, 40_001), {
      parts: parts(part(40_001, 40_003), part(0, 3)),
    });
    expect(codes).toEqual([]);
    expect(checked!.coverage).toEqual({ present: 6 * PAGE, zero: 2 * PAGE, excluded: 3 * PAGE, missing: 0 });
  });

  test.each([
    ["one is missing between others", [part(0, 3), part(5, 40_003)]],
    ["the last is missing", [part(0, 3), part(3, 40_000)]],
    ["two overlap", [part(0, 40_000), part(3, 40_003)]],
    ["one is no part", [part(0, 40_003), build()]],
    ["one was made at another time", [part(0, 40_003), part(3, 7, { timestamp: 1 })]],
    ["one is of another dump", [part(0, 40_003), part(0, 5, { pages: new Map([[5, page(5, "zlib")]]) })]],
  ])("of which %s", async (_, files) => {
    const { codes, groups } = await findingsIn(files[0]!, { parts: parts(...files.slice(1)) });
    expect(codes).toEqual(["VRF032×1"]);
    expect(groups[0]!.first[0]!.where.file).toMatch(/^(part2|memory)$/);
  });

  test("page frames that the dump does not have", async () => {
    const dump = changed(part(0, 5), u64(PAGE + 88, 1_000_000));
    expect((await findingsIn(dump)).codes).toEqual(["VRF019×1", "VRF033×1"]);
  });

  test("damage is told with the part's name", async () => {
    const damaged = changed(part(3, 40_003), u32(TABLE + 8, 0));
    const { codes, groups } = await findingsIn(part(0, 3), { parts: parts(damaged) });
    expect(codes).toEqual(["VRF025×1"]);
    expect(groups[0]!.first[0]!.where).toEqual({ file: "part2", offset: TABLE, address: 3 * PAGE });
  });

  test("a part of another format is refused", async () => {
    const found = findingsIn(part(0, 3), { parts: parts(Buffer.alloc(9000)) });
    await expect(found).rejects.toThrow(/no kdump-compressed dump/);
  });
});

test("a quick look reads one page in so many, the first and the last, and every descriptor", async () => {
  // 40 000 pages: every third.
  const count = 40_000;
  const one = page(1, "zlib");
  const dump = build({ pages: new Map(Array.from({ length: count }, (_, pfn) => [pfn, one])) });
  const table = dump.readUInt32LE(436) * PAGE + 2 * PAGE;
  const at = (n: number) => Number(dump.readBigUInt64LE(table + 24 * n));
  const look = async (damaged: number[]) => {
    const copy = Buffer.from(dump);
    for (const n of damaged) copy[at(n) + 12]! ^= 0xff;
    return await findingsIn(copy, {}, true);
  };
  const { codes, checked } = await look([]);
  expect(codes).toEqual([]);
  expect(checked).toEqual({
    coverage: { present: count * PAGE, zero: 0, excluded: 0, missing: 0 },
    pages: { total: count, read: 13_334 },
  });
  expect((await look([1, 2, 4, 5])).codes).toEqual([]);
  const seen = await look([0, 3, 39_999]);
  expect(seen.codes).toEqual(["VRF028×3"]);
  expect(seen.groups[0]!.first.map(({ where }) => where.address! / PAGE)).toEqual([0, 3, 39_999]);
  expect(seen.checked!.coverage.missing).toBe(3 * PAGE);
  dump.writeUInt32LE(PAGE + 1, table + 24 * 4 + 8);
  expect((await findingsIn(dump, {}, true)).codes).toEqual(["VRF025×1"]);
});

test("OverlapFinder finds what comparing all with all finds", () => {
  const ranges = fc.array(fc.tuple(fc.nat(120), fc.integer({ min: 1, max: 12 })), { maxLength: 90 });
  /** In order but for some. */
  const ordered = ranges.map((list) =>
    list.map(([at, size], i) => [at % 7 === 0 ? at * 10 : i * 12, size] as const),
  );
  fc.assert(
    fc.property(fc.oneof(ranges, ordered), (list) => {
      const all: OwnedRange[] = list.map(([start, size], owner) => ({ start, end: start + size, owner }));
      const finder = new OverlapFinder();
      for (const range of all) finder.add(range);
      const overlap = (a: OwnedRange, b: OwnedRange) => a.start < b.end && b.start < a.end && a !== b;
      const pairs = new Set<number>();
      for (const range of all) {
        const other = finder.overlapOf(range);
        if (other === undefined) continue;
        expect(overlap(range, other)).toBe(true);
        pairs.add(range.owner).add(other.owner);
      }
      // Each range that overlaps another is told, or one that it overlaps.
      const told = (a: OwnedRange) =>
        pairs.has(a.owner) || all.some((b) => overlap(a, b) && pairs.has(b.owner));
      for (const a of all) if (all.some((b) => overlap(a, b))) expect(told(a)).toBe(true);
    }),
    { numRuns: 2000 },
  );
});
