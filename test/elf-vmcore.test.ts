import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ElfVmcore } from "../src/dump/elf-vmcore.ts";
import { readElf } from "../src/elf/header.ts";
import { presentChunks } from "../src/kernel/chunks.ts";
import { MemorySource } from "./support/memory-io.ts";
import { buildElf, type ElfSegment } from "./synth/elf.ts";
import { patternBytes } from "./synth/pattern.ts";

/** Where the data of every file here begins, and the data. */
const DATA = 0x8000;
const data = patternBytes(0x2_0000, 11);
const SIZE = DATA + data.length;
const page = (fill: number) => Buffer.alloc(4096, fill);

function open(segments: readonly ElfSegment[], size?: number): ElfVmcore {
  const source = new MemorySource(buildElf({ segments, ...(size === undefined ? {} : { size }) }));
  return new ElfVmcore(source, readElf(source));
}

/** A segment of the data, or of what would lie behind it. */
interface Part {
  readonly paddr: number;
  readonly memsz: number;
  readonly filesz: number;
  readonly offset: number;
}

/** A vmcore whose segments share the data; where they reach behind it the file is truncated. */
const openParts = (parts: readonly Part[]): ElfVmcore =>
  open([...parts.map((part) => ({ ...part, at: 0 })), { type: 0, offset: DATA, bytes: data }], SIZE);

function statesOf(memory: ElfVmcore, end: number): string[] {
  const states: string[] = [];
  for (let at = 0; at < end; ) {
    const extent = memory.extentAt(at, end);
    expect(extent.end).toBeGreaterThan(at);
    for (; at < extent.end; at += 4096) states.push(extent.state);
  }
  return states;
}

function readPage(memory: ElfVmcore, address: number): Buffer | string {
  const target = Buffer.alloc(4096, 0xee);
  const state = memory.readPage(address, target);
  return state === "present" ? target : state;
}

const P = "present";
const X = "excluded";
const A = "absent";

describe("segments that overlap", () => {
  const has = (paddr: number, fill: number): ElfSegment => ({ paddr, bytes: page(fill) });
  const leftOut = (paddr: number, pages: number): ElfSegment => ({ paddr, memsz: 4096 * pages, filesz: 0 });
  const cutOff = (paddr: number, pages: number): ElfSegment => ({
    paddr,
    memsz: 4096 * pages,
    filesz: 4096 * pages,
    offset: 2 ** 40,
    at: 0,
  });

  test.each([
    ["what one left out another has", [leftOut(0, 3), has(0x1000, 7)], [X, P, X]],
    ["in whichever order", [has(0x1000, 7), leftOut(0, 3)], [X, P, X]],
    ["also of the same place", [leftOut(0x1000, 1), has(0x1000, 7)], [A, P]],
    ["what one was cut off another has", [cutOff(0, 3), has(0x1000, 7)], [A, P, A]],
    ["what is cut off was left out by another", [cutOff(0, 3), leftOut(0x1000, 1)], [A, X, A]],
    ["in whichever order, too", [leftOut(0, 2), cutOff(0x1000, 2)], [X, X, A]],
    ["of all three", [cutOff(0, 4), leftOut(0, 3), has(0x1000, 7), cutOff(0x1000, 1)], [X, P, X, A]],
  ])("%s", (_, segments, states) => {
    const memory = open(segments);
    expect(statesOf(memory, 4096 * states.length)).toEqual(states);
    for (const [i, state] of states.entries()) {
      expect(readPage(memory, 4096 * i)).toEqual(state === P ? page(7) : state);
    }
  });

  test("the rest of a segment left out, as makedumpfile -E does, hides no other", () => {
    const memory = open([
      { paddr: 0, bytes: page(1), memsz: 0x6000 },
      { paddr: 0x1000, bytes: Buffer.concat([page(2), page(3)]) },
      { paddr: 0x5000, bytes: page(4), memsz: 0x2000 },
    ]);
    expect(statesOf(memory, 0x7000)).toEqual([P, P, P, X, X, P, X]);
    expect([0, 1, 2, 5].map((i) => readPage(memory, 4096 * i))).toEqual([1, 2, 3, 4].map(page));
    expect(memory.ranges).toEqual([{ start: 0, end: 0x7000 }]);
  });

  test("of several that have a page the first in the file counts", () => {
    const memory = open([has(0x1000, 5), { paddr: 0, bytes: Buffer.alloc(0x3000, 6) }, has(0x1000, 7)]);
    expect([0, 0x1000, 0x2000].map((at) => readPage(memory, at))).toEqual([6, 5, 6].map(page));
  });

  test("70 000 on top of each other", () => {
    const count = 70_000;
    // Each begins a page before and ends a page behind the one before it.
    const leaveOut = Array.from({ length: count }, (_, i) => leftOut(4096 * (count - 1 - i), 2 * i + 1));
    const memory = open([...leaveOut, has(4096 * count, 7)]);
    expect(memory.ranges).toEqual([{ start: 0, end: 4096 * (2 * count - 1) }]);
    expect(memory.extentAt(0, 2 ** 40)).toMatchObject({ state: X, end: 4096 * count });
    expect(memory.extentAt(4096 * count, 2 ** 40)).toMatchObject({ state: P, end: 4096 * (count + 1) });
  });
});

describe("pages that several segments have", () => {
  const memory = data.subarray(0, 0x5000);
  /** The first five pages of memory, cut at some addresses. */
  const cutAt = (...places: readonly number[]): ElfVmcore => {
    const edges = [0, ...places, memory.length];
    return openParts(
      edges.slice(1).map((end, i) => {
        const size = end - edges[i]!;
        return { paddr: edges[i]!, memsz: size, filesz: size, offset: DATA + edges[i]! };
      }),
    );
  };

  test.each([
    ["in two", [0x2c00]],
    ["everywhere", Array.from({ length: 10 }, (_, i) => 0x7f0 * (i + 1))],
    ["in a segment within a page", [0x1200, 0x1500, 0x1501]],
    ["in sixteen", Array.from({ length: 15 }, (_, i) => 0x1000 + 0x100 * (i + 1))],
  ])("%s: all of it is there", (_, places) => {
    const opened = cutAt(...places);
    expect(opened.ranges).toEqual([{ start: 0, end: memory.length }]);
    for (let at = 0; at < memory.length; at += 4096) {
      expect(readPage(opened, at)).toEqual(memory.subarray(at, at + 4096));
    }
    const chunks: Buffer[] = [];
    for (const { bytes } of presentChunks(opened, 0, memory.length)) chunks.push(Buffer.from(bytes));
    expect(Buffer.concat(chunks)).toEqual(memory);
  });

  test("such a page says so: it lies nowhere in one piece", () => {
    const opened = cutAt(0x2c00);
    expect(opened.extentAt(0x1000, 0x5000)).toMatchObject({ state: P, end: 0x2000 });
    expect(opened.extentAt(0x2000, 0x5000)).toEqual({ start: 0x2000, end: 0x3000, state: P });
    expect(opened.extentAt(0x2800, 0x2900)).toEqual({ start: 0x2800, end: 0x2900, state: P });
    expect(opened.extentAt(0x3000, 0x5000)).toMatchObject({ state: P, end: 0x5000 });
    expect(readPage(opened, 0x2c10)).toEqual(memory.subarray(0x2000, 0x3000));
  });

  test("one byte short is not there, and in no range", () => {
    const part = (paddr: number, end: number): Part => ({
      paddr,
      memsz: end - paddr,
      filesz: end - paddr,
      offset: DATA + paddr,
    });
    const opened = openParts([part(0, 0x1c00), part(0x1c01, 0x4000)]);
    expect(opened.ranges).toEqual([
      { start: 0, end: 0x1000 },
      { start: 0x2000, end: 0x4000 },
    ]);
    expect([readPage(opened, 0x1000), ...statesOf(opened, 0x4000)]).toEqual([A, P, A, P, P]);
  });

  test("what is left of a page by /proc/vmcore is in no range", () => {
    const opened = openParts([
      { paddr: 0x1000, memsz: 0x9_dc00, filesz: 0x9_dc00, offset: DATA },
      { paddr: 0x10_0000, memsz: 0x1000, filesz: 0x1000, offset: DATA },
    ]);
    expect(opened.ranges).toEqual([
      { start: 0x1000, end: 0x9_e000 },
      { start: 0x10_0000, end: 0x10_1000 },
    ]);
  });

  test("a segment that has all of it goes first, one that left it out last", () => {
    const half = { memsz: 0x800, filesz: 0x800 };
    const halves = [
      { ...half, paddr: 0, offset: DATA },
      { ...half, paddr: 0x800, offset: DATA + 0x800 },
    ];
    const whole = { paddr: 0, memsz: 0x1000, filesz: 0x1000, offset: DATA + 0x3000 };
    expect(readPage(openParts([...halves, whole]), 0)).toEqual(data.subarray(0x3000, 0x4000));
    expect(readPage(openParts([{ ...whole, filesz: 0 }, ...halves]), 0)).toEqual(data.subarray(0, 0x1000));
  });

  test("in more pieces than a dump has one", () => {
    const opened = cutAt(...Array.from({ length: 16 }, (_, i) => 0x1000 + 0xf0 * (i + 1)));
    expect([0, 1, 2].map((i) => opened.extentAt(4096 * i, 0x5000).state)).toEqual([P, A, P]);
  });
});

/** What a page is, by the bytes of each segment. */
function expected(parts: readonly Part[], start: number): Buffer | string {
  const end = start + 4096;
  const held = parts.map(({ paddr, memsz, filesz, offset }) => {
    const bytes = data.subarray(offset - DATA, offset - DATA + Math.min(memsz, filesz));
    return { paddr, memsz, filesz, bytes, end: paddr + bytes.length };
  });
  const whole = held.find((part) => part.paddr <= start && part.end >= end);
  if (whole !== undefined) return whole.bytes.subarray(start - whole.paddr, end - whole.paddr);
  const bytes = Buffer.alloc(4096);
  const known = bytes.map((_, i) => {
    const owner = held.find((part) => part.paddr <= start + i && part.end > start + i);
    bytes[i] = owner?.bytes[start + i - owner.paddr] ?? 0;
    return Number(owner !== undefined);
  });
  if (!known.includes(0)) return bytes;
  const left = held.some(
    ({ paddr, memsz, filesz }) =>
      paddr <= start && paddr + memsz >= end && paddr + Math.min(memsz, filesz) < end,
  );
  return left ? X : A;
}

test("any segments: each page as its bytes in the file say", () => {
  const near = (pages: number) =>
    fc
      .tuple(fc.nat(pages), fc.constantFrom(0, 0, 0, 0x7f0, 0x800, 0xc01))
      .map(([whole, rest]) => 4096 * whole + rest);
  const part = fc.record({
    paddr: near(8),
    memsz: near(6),
    filesz: near(6),
    offset: fc
      .oneof(
        near(8),
        near(8).map((back) => data.length - back),
      )
      .map((offset) => DATA + offset),
  });
  fc.assert(
    fc.property(fc.array(part, { minLength: 1, maxLength: 8 }), (parts) => {
      const memory = openParts(parts);
      const pages = Array.from({ length: 16 }, (_, i) => expected(parts, 4096 * i));
      for (const [i, is] of pages.entries()) {
        const read = readPage(memory, 4096 * i);
        expect(typeof read === "string" || typeof is === "string" ? read === is : read.equals(is)).toBe(true);
      }
      expect(statesOf(memory, 0x1_0000)).toEqual(pages.map((is) => (typeof is === "string" ? is : P)));
      for (const [i, range] of memory.ranges.entries()) {
        expect(range.start).toBeGreaterThan(memory.ranges[i - 1]?.end ?? -1);
      }
    }),
    { numRuns: 300 },
  );
});
