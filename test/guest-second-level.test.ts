import { describe, expect, test } from "vitest";
import type { PageState, PhysicalMemory } from "../src/core/memory.ts";
import { SecondLevelMemory, tablesAt } from "../src/guest/second-level.ts";
import {
  EPT_FIVE_LEVEL,
  EPT_FOUR_LEVEL,
  NPT_FOUR_LEVEL,
  withoutAddressBits,
} from "../src/x86/paging-shapes.ts";
import { memoryFrom, type Piece, type TableEntry, tablePieces } from "./synth/memory.ts";

const R = 1n;
const W = 2n;
const X = 4n;
const RWX = R | W | X;
const WB = 6n << 3n;
const LARGE = 1n << 7n;
const MIB2 = 2 ** 21;
const GIB = 2 ** 30;

const page = (fill: number): Buffer => Buffer.alloc(4096, fill);

/** A host with its tables and some memory of its own. */
const host = (entries: readonly TableEntry[], pieces: readonly Piece[]): PhysicalMemory =>
  memoryFrom([...tablePieces(entries, 8), ...pieces]);

const states = (memory: PhysicalMemory, end: number): [number, number, PageState][] => {
  const found: [number, number, PageState][] = [];
  for (let at = 0; at < end; ) {
    const extent = memory.extentAt(at, end);
    found.push([extent.start, extent.end, extent.state]);
    at = extent.end;
  }
  return found;
};

describe("EPT", async () => {
  const entries: TableEntry[] = [
    [0x1000, 0, 0x2000n | RWX],
    [0x2000, 0, 0x3000n | RWX],
    [0x3000, 0, 0x4000n | RWX],
    [0x3000, 1, 0x80_0000n | RWX | WB | LARGE], // 2 MiB
    [0x4000, 0, 0x10_0000n | RWX | WB],
    [0x4000, 1, 0x10_1000n | R | WB | (1n << 8n) | (1n << 9n) | (1n << 10n) | (1n << 63n)], // A, D, user X, no #VE
    [0x4000, 2, 0x10_3000n | RWX | WB], // not contiguous
    [0x4000, 3, (0xfec0_0000n << 0n) | W | X], // KVM's MMIO: write and execute without read
    [0x4000, 4, 0x10_4000n | (1n << 54n) | (1n << 11n)], // access taken by KVM, "readable" saved
    [0x4000, 5, 1n << 63n], // KVM's empty entry
    [0x4000, 6, 0x7000_0000n | RWX], // no memory of this host
    [0x4000, 7, 0x10_5000n | RWX | WB], // left out of the dump
    [0x4000, 8, 0x10_6000n | RWX | WB], // zero
  ];
  const pieces: Piece[] = [
    { address: 0x10_0000, bytes: Buffer.concat([page(1), page(2)]) },
    { address: 0x10_3000, bytes: Buffer.concat([page(3), page(4)]) },
    { address: 0x10_5000, size: 4096, state: "excluded" },
    { address: 0x10_6000, size: 4096, state: "zero" },
    { address: 0x80_0000, bytes: Buffer.alloc(MIB2, 9) },
  ];
  const memory = await SecondLevelMemory.open(host(entries, pieces), 0x1000, EPT_FOUR_LEVEL);

  test("shows what the guest can read, in the state the host's dump has it in", () => {
    expect(memory.ranges).toEqual([
      { start: 0, end: 0x3000 },
      { start: 0x4000, end: 0x5000 },
      { start: 0x7000, end: 0x9000 },
      { start: MIB2, end: 2 * MIB2 },
    ]);
    expect(states(memory, 2 * MIB2)).toEqual([
      [0, 0x2000, "present"],
      [0x2000, 0x3000, "present"],
      [0x3000, 0x4000, "absent"],
      [0x4000, 0x5000, "present"],
      [0x5000, 0x7000, "absent"],
      [0x7000, 0x8000, "excluded"],
      [0x8000, 0x9000, "zero"],
      [0x9000, MIB2, "absent"],
      [MIB2, 2 * MIB2, "present"],
    ]);
  });

  test("counts what it maps, what is no memory, and what the guest never touched", () => {
    expect(memory.facts).toEqual({
      mapped: 6 * 4096 + MIB2,
      foreign: 4096,
      untouched: MIB2 - 6 * 4096,
      tablesRead: 4,
      tablesMissing: 0,
      complete: true,
    });
  });

  test("reads pages, and says where the guest sees a byte of the host", async () => {
    const target = Buffer.alloc(4096);
    for (const [address, state, fill] of [
      [0x1000, "present", 2],
      [0x2abc, "present", 3],
      [0x4000, "present", 4],
      [0x3000, "absent", 0],
      [0x7000, "excluded", 0],
    ] as const) {
      expect(memory.readPage(address, target)).toBe(state);
      if (state === "present") expect(target.equals(page(fill))).toBe(true);
    }
    expect(await memory.guestAddressesOf([0x10_3010, 0x20_0000])).toEqual(new Map([[0x10_3010, 0x2010]]));
  });

  test("5-level", async () => {
    const five: TableEntry[] = [[0x9000, 0, 0x1000n | RWX], ...entries];
    const deep = await SecondLevelMemory.open(host(five, pieces), 0x9000, EPT_FIVE_LEVEL);
    expect(deep.ranges).toEqual(memory.ranges);
  });
});

describe("NPT", () => {
  const C = 1n << 51n;
  const P = 1n;
  const leaf = (address: bigint): bigint => address | P | W | 4n;
  const entries = (c: bigint): TableEntry[] => [
    [0x1000, 0, leaf(0x2000n) | c],
    [0x2000, 0, leaf(0x3000n) | c],
    [0x3000, 0, leaf(0x4000n) | c],
    [0x4000, 0, leaf(0x10_0000n) | c],
    [0x4000, 1, 0x8_0000_fec0_02a7n], // KVM's MMIO: bit 51 and present
  ];
  const pieces: Piece[] = [{ address: 0x10_0000, bytes: page(7) }];

  test("leaves out KVM's MMIO entries", async () => {
    const memory = await SecondLevelMemory.open(host(entries(0n), pieces), 0x1000, NPT_FOUR_LEVEL);
    expect(memory.ranges).toEqual([{ start: 0, end: 0x1000 }]);
    expect(memory.facts).toMatchObject({ mapped: 4096, foreign: 0 });
  });

  test("with SME's bit in every address, even where it is the bit of MMIO entries", async () => {
    const shape = withoutAddressBits(NPT_FOUR_LEVEL, C);
    const memory = await SecondLevelMemory.open(host(entries(C), pieces), 0x1000, shape);
    expect(memory.ranges).toEqual([{ start: 0, end: 0x1000 }]);
    expect(memory.facts).toMatchObject({ mapped: 4096, foreign: 4096 });
  });
});

describe("hostile tables", () => {
  test("a table that refers to itself ends, bounded in time and ranges", async () => {
    const self = Array.from({ length: 512 }, (_, i): TableEntry => [0x1000, i, 0x1000n | RWX]);
    const memory = await SecondLevelMemory.open(host(self, []), 0x1000, EPT_FOUR_LEVEL);
    expect(memory.facts.complete).toBe(false);
    expect(memory.facts.tablesRead).toBeLessThanOrEqual(16_384);
    expect(memory.ranges.length).toBeLessThan(10);
  });

  test("a guest in more than a million pieces is refused", async () => {
    // Every other page of every table: one table, seen from everywhere.
    const entries: TableEntry[] = [
      ...Array.from({ length: 512 }, (_, i): TableEntry => [0x1000, i, 0x2000n | RWX]),
      ...Array.from({ length: 512 }, (_, i): TableEntry => [0x2000, i, 0x3000n | RWX]),
      ...Array.from({ length: 512 }, (_, i): TableEntry => [0x3000, i, 0x4000n | RWX]),
      ...Array.from({ length: 256 }, (_, i): TableEntry => [0x4000, 2 * i, 0x1000n | RWX]),
    ];
    await expect(SecondLevelMemory.open(host(entries, []), 0x1000, EPT_FOUR_LEVEL)).rejects.toThrow(
      /million|1048576/,
    );
  });

  test("tables that are not in the dump are counted", async () => {
    const entries: TableEntry[] = [
      [0x1000, 0, 0x2000n | RWX],
      [0x2000, 0, 0x99_9000n | RWX],
      [0x2000, 1, BigInt(GIB) | RWX | LARGE],
    ];
    const memory = await SecondLevelMemory.open(
      host(entries, [{ address: GIB, bytes: page(5) }]),
      0x1000,
      EPT_FOUR_LEVEL,
    );
    expect(memory.facts).toMatchObject({ tablesMissing: 1, mapped: 4096, foreign: GIB - 4096 });
    expect(memory.ranges).toEqual([{ start: GIB, end: GIB + 4096 }]);
  });
});

describe("a root", () => {
  const user = 4n;
  const at = (entries: Readonly<Record<number, bigint>>, shape = NPT_FOUR_LEVEL, root = 0x4000) => {
    const table = Object.entries(entries).map(([i, entry]): TableEntry => [0x4000, Number(i), entry]);
    const children = [0x5000, 0x6000].map((address) => ({ address, bytes: page(0) }));
    return tablesAt(host([...table, [0x4000, 300, 0n]], children), root, shape);
  };

  test.each<[string, Readonly<Record<number, bigint>>, ReturnType<typeof tablesAt>]>([
    ["refers to tables", { 0: 0x5003n | user, 511: 0x6003n | user }, "tables"],
    ["has entries that are not present", { 0: 1n << 63n, 1: 0x5003n | user }, "tables"],
    ["refers to nothing", {}, "empty"],
    ["grants nothing to a nested walk, which is a user's", { 0: 0x5003n }, "no-table"],
    ["has reserved bits", { 0: 0x5083n | user }, "no-table"],
    ["leads out of memory", { 0: 0x7003n | user }, "no-table"],
    ["is text", { 0: 0x6f72_7065_7669_7365n }, "no-table"],
  ])("that %s", (_, entries, verdict) => {
    expect(at(entries)).toBe(verdict);
  });

  test("that the dump does not hold, or of EPT, or behind the encryption bit", () => {
    expect(at({ 0: 0x5007n }, NPT_FOUR_LEVEL, 0x9000)).toBe("missing");
    expect(at({ 0: 0x5007n }, EPT_FOUR_LEVEL)).toBe("tables");
    const bit = 1n << 47n;
    expect(at({ 0: bit | 0x5007n }, withoutAddressBits(NPT_FOUR_LEVEL, bit))).toBe("tables");
  });
});
