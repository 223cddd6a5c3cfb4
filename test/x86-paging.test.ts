import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type MappedRun, PageTables, pageTablesOf, TABLE_LIMIT, type WalkEnd } from "../src/x86/paging.ts";
import {
  FIVE_LEVEL,
  FOUR_LEVEL,
  PAE,
  type PagingShape,
  shapeFor,
  THIRTY_TWO_BIT,
  THIRTY_TWO_BIT_PSE,
  withoutAddressBits,
} from "../src/x86/paging-shapes.ts";
import { memoryFrom, type TableEntry, tablePieces } from "./synth/memory.ts";
import { type Mode, type ReadEntry, referenceWalk } from "./synth/reference-walk.ts";
import { stateOf } from "./synth/x86-state.ts";

const P = 1n; // present
const W = 2n; // writable
const U = 4n; // user
const PS = 1n << 7n; // large page
const NX = 1n << 63n;
const KIB4 = 4096;
const MIB2 = 2 * 2 ** 20;
const GIB = 2 ** 30;
const END = 1n << 64n;

const tablesOf = (entries: readonly TableEntry[], root: number, shape: PagingShape, tableLimit?: number) =>
  new PageTables(
    memoryFrom(tablePieces(entries, shape.entryBytes)),
    root,
    shape,
    tableLimit === undefined ? {} : { tableLimit },
  );

/** Runs and return value of an enumeration. */
function enumerate(tables: PageTables, from = 0n, to = END, limit?: number) {
  const runs: MappedRun[] = [];
  const walk = tables.mappings(from, to, limit);
  for (;;) {
    const step = walk.next();
    if (step.done) return { runs, end: step.value satisfies WalkEnd };
    runs.push(step.value);
  }
}

const endOf = (run: MappedRun): bigint => run.virtual + BigInt(run.size);

const rights = (writable: boolean, user: boolean, executable: boolean) => ({ writable, user, executable });

describe("translate, 4-level", () => {
  const tables = tablesOf(
    [
      [0x1000, 0, 0x2000n | P | W | U], // PML4E of 0
      [0x1000, 511, 0x6000n | P | W], // PML4E of the top 512 GiB
      [0x2000, 0, 0x3000n | P | W | U], // PDPTE of 0
      [0x2000, 1, BigInt(5 * GIB) | P | PS | W], // 1 GiB page, kernel
      [0x2000, 2, (BigInt(5 * GIB) + 0x2000n) | P | PS], // reserved bit 13 of a 1 GiB page
      [0x3000, 0, 0x4000n | P | W | U], // PDE of 0
      [0x3000, 1, 0x40_0000n | P | PS | U], // 2 MiB page, read-only
      [0x3000, 2, (0x40_0000n + (1n << 12n)) | P | PS | U], // bit 12 of a large page is PAT, no address
      [0x3000, 3, 0x0f_ffff_0000_0000n | P | W], // table outside memory
      [0x4000, 0, 0x9000n | P | W | U | NX],
      [0x4000, 1, 0xa000n | P | W],
      [0x4000, 2, 0xb000n | W | U], // not present
      [0x6000, 510, 0x7000n | P | W],
      [0x7000, 8, 0xc0_0000n | P | PS], // 0xffffffff81000000
    ],
    0x1018, // PWT and PCD set, as in CR3
    FOUR_LEVEL,
  );

  test.each<[bigint, number, number, ReturnType<typeof rights>]>([
    [0x0n, 0x9000, KIB4, rights(true, true, false)],
    [0xfffn, 0x9fff, KIB4, rights(true, true, false)],
    [0x1234n, 0xa234, KIB4, rights(true, false, true)],
    [0x20_0000n, 0x40_0000, MIB2, rights(false, true, true)],
    [0x3f_ffffn, 0x5f_ffff, MIB2, rights(false, true, true)],
    [0x40_0000n, 0x40_0000, MIB2, rights(false, true, true)],
    [0x4000_0000n, 5 * GIB, GIB, rights(true, false, true)],
    [0x7fff_ffffn, 6 * GIB - 1, GIB, rights(true, false, true)],
    [0xffff_ffff_8100_0010n, 0xc0_0010, MIB2, rights(false, false, true)],
  ])("%s", (virtual, physical, size, access) => {
    expect(tables.translate(virtual)).toEqual({ mapped: true, physical, size, ...access });
  });

  test.each<[bigint, number, string]>([
    [0x2000n, 1, "not-present"],
    [0x8000_0000n, 3, "reserved-bits"],
    [0x60_0000n, 1, "table-missing"],
    [0x80_0000_0000n, 4, "not-present"],
    [0x8000_0000_0000n, 4, "non-canonical"],
    [0xffff_7fff_ffff_ffffn, 4, "non-canonical"],
    [-1n, 4, "non-canonical"],
    [END, 4, "non-canonical"],
  ])("%s is not mapped: level %i, %s", (virtual, level, reason) => {
    expect(tables.translate(virtual)).toEqual({ mapped: false, level, reason });
  });

  test("an excluded table is missing, a zero one maps nothing", () => {
    const memory = memoryFrom([
      { address: 0x1000, size: 0x1000, state: "excluded" },
      { address: 0x2000, size: 0x1000, state: "zero" },
    ]);
    const at = (root: number) => new PageTables(memory, root, FOUR_LEVEL).translate(0n);
    expect(at(0x1000)).toEqual({ mapped: false, level: 4, reason: "table-missing" });
    expect(at(0x2000)).toEqual({ mapped: false, level: 4, reason: "not-present" });
  });

  test("the large-page bit is reserved in a PML4E", () => {
    const top = tablesOf([[0x1000, 0, 0x2000n | P | PS]], 0x1000, FOUR_LEVEL);
    expect(top.translate(0n)).toEqual({ mapped: false, level: 4, reason: "reserved-bits" });
  });

  test("a walk repeated reads no table again", () => {
    const memory = memoryFrom(
      tablePieces([
        [0x1000, 0, 0x2000n | P],
        [0x2000, 0, 0n],
      ]),
    );
    const space = new PageTables(memory, 0x1000, FOUR_LEVEL);
    space.translate(0n);
    space.translate(0x1000n);
    expect(memory.pageReads).toEqual([0x1000, 0x2000]);
  });
});

describe("other shapes", () => {
  test("5-level: 57-bit addresses", () => {
    const tables = tablesOf(
      [
        [0x1000, 0x110, 0x2000n | P | W], // PML5E of 0xff11…: index 0x111 is bit 48
        [0x1000, 0x111, 0x2000n | P | W],
        [0x2000, 0, 0x3000n | P | W],
        [0x3000, 0, 0n | P | W | PS | NX], // 1 GiB page at 0
      ],
      0x1000,
      FIVE_LEVEL,
    );
    expect(tables.translate(0xff11_0000_0012_3456n)).toMatchObject({ physical: 0x12_3456, size: GIB });
    expect(tables.translate(0xff12_0000_0000_0000n)).toMatchObject({ level: 5, reason: "not-present" });
    expect(tables.translate(0x0110_0000_0000_0000n)).toMatchObject({ reason: "non-canonical" });
  });

  test("PAE: four entries at a 32-byte boundary, without rights", () => {
    const tables = tablesOf(
      [
        [0x1020, 3, 0x2000n | P | (1n << 5n)], // 0xc0000000; QEMU's TCG sets the accessed bit here
        [0x1020, 2, 0x2000n | P | (1n << 6n)], // reserved bit 6
        [0x1020, 1, 0x2000n | P | W], // reserved bit 1
        [0x2000, 0, 0x1_0000_0000n | P | W | PS | NX], // 2 MiB page at 4 GiB
        [0x2000, 1, 0x3000n | P | W | U],
        [0x2000, 2, 0x3000n | P | W | (1n << 52n)], // reserved bit 52
        [0x3000, 5, 0x2_0000_5000n | P | W | U],
      ],
      0x1020,
      PAE,
    );
    expect(tables.translate(0xc000_1000n)).toEqual({
      mapped: true,
      physical: 0x1_0000_1000,
      size: MIB2,
      ...rights(true, false, false),
    });
    expect(tables.translate(0xc020_5008n)).toMatchObject({ physical: 0x2_0000_5008, user: true });
    expect(tables.translate(0xc040_0000n)).toMatchObject({ level: 2, reason: "reserved-bits" });
    expect(tables.translate(0x4000_0000n)).toMatchObject({ level: 3, reason: "reserved-bits" });
    expect(tables.translate(0x8000_0000n)).toMatchObject({ level: 3, reason: "reserved-bits" });
    expect(tables.translate(0x1_0000_0000n)).toMatchObject({ reason: "non-canonical" });
    expect(enumerate(tables).runs.map((run) => run.virtual)).toEqual([0xc000_0000n, 0xc020_5000n]);
  });

  const legacy: TableEntry[] = [
    [0x1000, 768, 0x40_0000n | P | W | PS], // 0xc0000000, 4 MiB page
    [0x1000, 769, 0x40_0000n | P | W | PS | (3n << 13n)], // the same 3 × 4 GiB up
    [0x1000, 770, 0x60_0000n | P | W | PS], // bit 21 is reserved
    [0x1000, 0, 0x2000n | P | W | U],
    [0x2000, 1, 0x7000n | P | U],
  ];

  test("32-bit with large pages and PSE-36", () => {
    const tables = tablesOf(legacy, 0x1000, THIRTY_TWO_BIT_PSE);
    expect(tables.translate(0xc000_0004n)).toMatchObject({ physical: 0x40_0004, size: 4 * 2 ** 20 });
    expect(tables.translate(0xc040_0004n)).toMatchObject({ physical: 3 * 2 ** 32 + 0x40_0004 });
    expect(tables.translate(0xc080_0000n)).toMatchObject({ level: 2, reason: "reserved-bits" });
    expect(tables.translate(0x1010n)).toEqual({
      mapped: true,
      physical: 0x7010,
      size: KIB4,
      ...rights(false, true, true),
    });
  });

  test("32-bit without PSE takes bit 7 for nothing", () => {
    const tables = tablesOf(legacy, 0x1000, THIRTY_TWO_BIT);
    expect(tables.translate(0xc000_0004n)).toMatchObject({ level: 1, reason: "table-missing" });
  });

  test("an encryption bit is no address", () => {
    const bit47 = 1n << 47n;
    const entries: TableEntry[] = [
      [0x1000, 0, 0x2000n | bit47 | P | W],
      [0x2000, 0, 0x8000_0000n | bit47 | P | W | PS],
    ];
    const plain = tablesOf(entries, 0x1000, FOUR_LEVEL);
    const masked = tablesOf(entries, 0x1000, withoutAddressBits(FOUR_LEVEL, bit47));
    expect(plain.translate(0n)).toMatchObject({ level: 3, reason: "table-missing" });
    expect(masked.translate(0x10n)).toMatchObject({ physical: 0x8000_0010 });
    expect(new PageTables(memoryFrom([]), 2 ** 47 + 0x1000, masked.shape).root).toBe(0x1000);
    expect(withoutAddressBits(FOUR_LEVEL, 0n)).toBe(FOUR_LEVEL);
  });

  test("tables of another kind are one more literal: EPT's read, write, execute", () => {
    const ept: PagingShape = {
      ...FOUR_LEVEL,
      name: "EPT",
      extension: "zero",
      present: 7n, // any of R, W, X
      writable: { mask: 2n, allows: true },
      executable: { mask: 4n, allows: true },
    };
    const { user: _, ...shape } = ept;
    const tables = tablesOf(
      [
        [0x1000, 511, 0x2000n | 7n], // addresses above 2^47 are ordinary
        [0x2000, 0, 0x3000n | 7n],
        [0x3000, 0, 0x20_0000n | PS | 1n | NX], // bit 63 (suppress #VE) is no right
        [0x3000, 1, 0x40_0000n | PS | 4n], // execute-only is present
      ],
      0x1000,
      shape,
    );
    expect(tables.translate(0xff80_0000_0000n)).toMatchObject({
      physical: 0x20_0000,
      ...rights(false, true, false),
    });
    expect(tables.translate(0xff80_0020_0000n)).toMatchObject({
      physical: 0x40_0000,
      ...rights(false, true, true),
    });
    expect(enumerate(tables).runs).toHaveLength(2);
  });
});

describe("mappings", () => {
  const entries: TableEntry[] = [
    [0x1000, 255, 0x2000n | P | W | U], // last PML4E of the lower half
    [0x1000, 256, 0x5000n | P | W | U], // first of the upper
    [0x2000, 511, 0x3000n | P | W | U],
    [0x3000, 510, 0x4000n | P | W | U],
    [0x3000, 511, 0x80_0000n | P | W | U | PS],
    [0x4000, 509, 0x7f_d000n | P | W], // kernel only: a run of its own
    [0x4000, 510, 0x7f_e000n | P | W | U],
    [0x4000, 511, 0x7f_f000n | P | W | U], // runs on into the 2 MiB page
    [0x5000, 0, 0x6000n | P | W | U],
    [0x6000, 0, 0xa0_0000n | P | W | U | PS], // physically behind it, but across the gap
    [0x6000, 2, 0xa0_0000n | P | W | U | PS], // a hole before it
  ];
  const tables = tablesOf(entries, 0x1000, FOUR_LEVEL);
  const access = rights(true, true, true);

  test("are merged over pages of different size, split by rights, holes and the canonical gap", () => {
    expect(enumerate(tables)).toEqual({
      runs: [
        {
          virtual: 0x7fff_ffdf_d000n,
          physical: 0x7f_d000,
          size: KIB4,
          ...rights(true, false, true),
        },
        { virtual: 0x7fff_ffdf_e000n, physical: 0x7f_e000, size: 2 * KIB4 + MIB2, ...access },
        { virtual: 0xffff_8000_0000_0000n, physical: 0xa0_0000, size: MIB2, ...access },
        { virtual: 0xffff_8000_0040_0000n, physical: 0xa0_0000, size: MIB2, ...access },
      ],
      end: { complete: true, tablesRead: 6, tablesMissing: 0 },
    });
  });

  test("are cut to the range asked for, in whole pages", () => {
    expect(enumerate(tables, 0x7fff_ffe0_1000n, 0x7fff_ffe0_2001n).runs).toEqual([
      { virtual: 0x7fff_ffe0_1000n, physical: 0x80_1000, size: 2 * KIB4, ...access },
    ]);
  });

  test("no table behind the range is read", () => {
    expect(enumerate(tables, 0n, 0x7fff_ffc0_0000n).end.tablesRead).toBe(3);
    expect(enumerate(tables, 0n, 0x7fff_ffc0_0001n).end.tablesRead).toBe(4);
  });

  test("a range that begins or ends in the gap is cut to the halves", () => {
    expect(enumerate(tables, 0x9000_0000_0000n, END).runs.map((run) => run.virtual)).toEqual([
      0xffff_8000_0000_0000n,
      0xffff_8000_0040_0000n,
    ]);
    expect(enumerate(tables, 0n, 0x9000_0000_0000n).runs).toHaveLength(2);
    expect(enumerate(tables, 0x8000_0000_0000n, 0x9000_0000_0000n).runs).toHaveLength(0);
  });

  test("stop at a run limit and can be resumed where they stopped", () => {
    const first = enumerate(tables, 0n, END, 1);
    expect(first.runs).toHaveLength(1);
    expect(first.end).toMatchObject({ complete: false, resumeAt: 0x7fff_ffdf_e000n });
    const rest = enumerate(tables, first.end.resumeAt);
    expect([...first.runs, ...rest.runs]).toEqual(enumerate(tables).runs);
  });

  test("a run limit that is exactly enough is complete", () => {
    expect(enumerate(tables, 0n, END, 4).end.complete).toBe(true);
  });

  test("a missing root maps nothing and is counted", () => {
    const none = new PageTables(memoryFrom([]), 0x1000, FOUR_LEVEL);
    expect(enumerate(none)).toEqual({ runs: [], end: { complete: true, tablesRead: 1, tablesMissing: 1 } });
  });
});

describe("hostile tables end in bounded time", () => {
  test("a root whose 512 entries all refer to itself", () => {
    const all = Array.from({ length: 512 }, (_, i): TableEntry => [0x1000, i, 0x1000n | P | W]);
    const tables = tablesOf(all, 0x1000, FOUR_LEVEL);
    expect(tables.translate(0x1234n)).toMatchObject({ mapped: true, physical: 0x1234, size: KIB4 });
    const { runs, end } = enumerate(tables, 0n, END, 1000);
    expect(runs).toHaveLength(1000);
    expect(end.complete).toBe(false);
    const limited = enumerate(tablesOf(all, 0x1000, FOUR_LEVEL, 100));
    expect(limited.end).toMatchObject({ complete: false, tablesRead: 100 });
    // The root, one PDPT, one PD and 97 page tables of 512 pages each.
    expect(limited.runs).toHaveLength(97 * 512);
    expect(limited.end.resumeAt).toBe(97n * 512n * 4096n);
  });

  test("the default limit of tables holds when nothing is mapped", () => {
    // Every entry leads to the next table, the last table's are not present.
    const entries: TableEntry[] = [];
    for (let i = 0; i < 512; i++) {
      for (const table of [0x1000, 0x2000, 0x3000]) entries.push([table, i, BigInt(table + 0x1000) | P]);
    }
    entries.push([0x4000, 0, 0x5000n]);
    const { runs, end } = enumerate(tablesOf(entries, 0x1000, FOUR_LEVEL));
    expect(runs).toEqual([]);
    expect(end).toMatchObject({ complete: false, tablesRead: TABLE_LIMIT });
  });

  test("tables outside memory, each counted once per reference", () => {
    const entries = Array.from({ length: 512 }, (_, i): TableEntry => [0x1000, i, 0xf_ffff_ffff_f000n | P]);
    expect(enumerate(tablesOf(entries, 0x1000, FOUR_LEVEL)).end).toEqual({
      complete: true,
      tablesRead: 513,
      tablesMissing: 512,
    });
  });

  test("bytes that are no tables at all", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 4096, maxLength: 12288 }),
        fc.bigInt(0n, END - 1n),
        (bytes, va) => {
          const memory = memoryFrom([{ address: 0, bytes }]);
          for (const shape of Object.values(shapes)) {
            const tables = new PageTables(memory, 0, shape, { tableLimit: 50 });
            tables.translate(va);
            expect(enumerate(tables, 0n, END, 500).end.tablesRead).toBeLessThanOrEqual(50);
          }
        },
      ),
      { numRuns: 50 },
    );
  });
});

const shapes: Record<Mode, PagingShape> = {
  "4-level": FOUR_LEVEL,
  "5-level": FIVE_LEVEL,
  PAE,
  "32-bit": THIRTY_TWO_BIT,
  "32-bit PSE": THIRTY_TWO_BIT_PSE,
};

describe.each(Object.keys(shapes) as Mode[])("against a slow reference walker, %s", (mode) => {
  const shape = shapes[mode];
  const wide = shape.entryBytes === 8;
  /** Three tables with a few slots each, most of them filled: entries often lead on, often back, rarely astray. */
  const SLOTS = [0, 1, 2, 255, 256, 511];
  const rare = (value: bigint, ...usual: bigint[]) =>
    fc.oneof(
      { weight: 8, arbitrary: fc.constantFrom(...usual) },
      { weight: 1, arbitrary: fc.constant(value) },
    );
  const value = fc
    .record({
      frame: fc.oneof({ weight: 9, arbitrary: fc.nat(2) }, { weight: 1, arbitrary: fc.constant(3) }),
      large: rare(PS, 0n),
      // PAE's first level reserves what other levels call rights.
      access: fc.constantFrom(0n, 0n, W, U, W | U, W | U),
      present: rare(0n, P),
      odd: fc.oneof(
        { weight: 12, arbitrary: fc.constant(0n) },
        { weight: 1, arbitrary: fc.constantFrom(NX, 1n << 12n, 1n << 13n, 1n << 21n, 1n << 40n, 1n << 52n) },
      ),
    })
    .map(({ frame, large, access, present, odd }) => {
      const bits = BigInt(frame) * (large === 0n ? 0x1000n : 0x4000_0000n);
      return wide
        ? bits | large | access | present | odd
        : (bits | large | access | present | odd) & 0xffff_ffffn;
    });
  const forest = fc
    .array(value, { minLength: 3 * SLOTS.length, maxLength: 3 * SLOTS.length })
    .map((values) =>
      values.map(
        (entry, i): TableEntry => [Math.floor(i / SLOTS.length) * KIB4, SLOTS[i % SLOTS.length]!, entry],
      ),
    );
  const shifts = shape.levels.map((level) => BigInt(level.shift));
  const within = fc
    .tuple(fc.array(fc.constantFrom(...SLOTS), { minLength: 5, maxLength: 5 }), fc.nat(0xfff))
    .map(([indices, offset]) => {
      const linear = shifts.reduce((sum, shift, i) => sum | (BigInt(indices[i]!) << shift), BigInt(offset));
      return mode.endsWith("level")
        ? BigInt.asUintN(64, BigInt.asIntN(mode === "5-level" ? 57 : 48, linear))
        : BigInt.asUintN(32, linear);
    });
  const address = fc.oneof(
    { weight: 9, arbitrary: within },
    { weight: 1, arbitrary: fc.bigInt(0n, END - 1n) },
  );

  const readerOf = (entries: readonly TableEntry[]): ReadEntry => {
    const values = new Map(entries.map(([table, index, value]) => [table + index * shape.entryBytes, value]));
    const pages = new Set(
      entries.map(([table, index]) => Math.floor((table + index * shape.entryBytes) / KIB4)),
    );
    return (at) => {
      if (!pages.has(Number(at / 4096n))) return undefined;
      return values.get(Number(at)) ?? 0n;
    };
  };

  test("translate gives the same", () => {
    fc.assert(
      fc.property(forest, fc.array(address, { minLength: 20, maxLength: 40 }), (entries, addresses) => {
        const read = readerOf(entries);
        const tables = tablesOf(entries, 0, shape);
        for (const virtual of addresses) {
          const expected = referenceWalk(mode, read, 0n, virtual);
          const got = tables.translate(virtual);
          if (typeof expected === "string") expect(got).toMatchObject({ mapped: false, reason: expected });
          else {
            const { physical, pageSize, ...access } = expected;
            const mapping = { mapped: true, physical: Number(physical), size: Number(pageSize), ...access };
            expect(got).toEqual(mapping);
          }
        }
      }),
      { numRuns: 200 },
    );
  });

  test("mappings cover exactly what translates", () => {
    fc.assert(
      fc.property(forest, fc.array(address, { minLength: 20, maxLength: 40 }), (entries, addresses) => {
        const read = readerOf(entries);
        const { runs, end } = enumerate(tablesOf(entries, 0, shape));
        expect(end.complete).toBe(true);
        const ordered = runs.every((run, i) => i === 0 || run.virtual >= endOf(runs[i - 1]!));
        expect(ordered).toBe(true);
        const step = Math.ceil(runs.length / 100);
        for (const run of runs.filter((_, i) => i % step === 0)) {
          for (const virtual of [run.virtual, endOf(run) - 1n]) {
            expect(referenceWalk(mode, read, 0n, virtual)).toMatchObject({
              physical: BigInt(run.physical) + virtual - run.virtual,
              writable: run.writable,
              user: run.user,
              executable: run.executable,
            });
          }
        }
        for (const virtual of addresses) {
          const mapped = typeof referenceWalk(mode, read, 0n, virtual) !== "string";
          const covering = runs.some((run) => virtual >= run.virtual && virtual < endOf(run));
          expect(covering).toBe(mapped);
        }
      }),
      { numRuns: 40 },
    );
  });
});

describe("shapeFor", () => {
  const PG = 1n << 31n;
  const PAE_BIT = 1n << 5n;
  const LMA = 1n << 10n;
  const code64 = { selector: 0x10, base: 0n, limit: 0xffff_ffff, flags: 0x00af_9b00 };
  const kernel = stateOf({ cr0: PG, cr4: PAE_BIT });

  test.each<[string, Parameters<typeof stateOf>[0], PagingShape | undefined]>([
    ["no paging", { cr0: 0x11n, cr4: PAE_BIT, efer: LMA }, undefined],
    ["32-bit", { cr0: PG }, THIRTY_TWO_BIT],
    ["32-bit with CR4.PSE", { cr0: PG, cr4: 1n << 4n }, THIRTY_TWO_BIT_PSE],
    ["PAE", { cr0: PG, cr4: PAE_BIT }, PAE],
    ["PAE with LME but not LMA", { cr0: PG, cr4: PAE_BIT, efer: 1n << 8n }, PAE],
    ["long mode", { cr0: PG, cr4: PAE_BIT, efer: LMA }, FOUR_LEVEL],
    ["long mode with LA57", { cr0: PG, cr4: PAE_BIT | (1n << 12n), efer: LMA }, FIVE_LEVEL],
    ["no EFER, 32-bit", { cr0: PG, cr4: PAE_BIT, efer: undefined, rip: 0xc000_0000n }, PAE],
    [
      "no EFER, CS.L",
      { cr0: PG, cr4: PAE_BIT, efer: undefined, segments: { ...kernel.segments, cs: code64 } },
      FOUR_LEVEL,
    ],
    [
      "no EFER, a wide IDT base",
      { cr0: PG, cr4: PAE_BIT, efer: undefined, idt: { base: 0xffff_fe00_0000_0000n, limit: 0xfff } },
      FOUR_LEVEL,
    ],
  ])("%s", (_, given, shape) => {
    expect(shapeFor(stateOf(given))).toBe(shape);
  });

  test("pageTablesOf takes the root from CR3 without its flags", () => {
    const memory = memoryFrom([]);
    const long = { cr0: PG, cr4: PAE_BIT, efer: LMA };
    expect(pageTablesOf(memory, stateOf(long))?.root).toBe(0);
    expect(pageTablesOf(memory, stateOf({ ...long, cr3: 0x6000_0000_0456_4003n }))?.root).toBe(0x456_4000);
    expect(pageTablesOf(memory, stateOf({ cr0: PG, cr4: PAE_BIT, cr3: 0x1238n }))?.root).toBe(0x1220);
    expect(pageTablesOf(memory, stateOf({}))).toBeUndefined();
  });
});
