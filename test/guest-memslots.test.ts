import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { PageState, PhysicalMemory } from "../src/core/memory.ts";
import { agreementOf } from "../src/guest/agreement.ts";
import { MemslotMemory } from "../src/guest/memslot-memory.ts";
import { SecondLevelMemory, WalkBudget } from "../src/guest/second-level.ts";
import type { RunsEnd } from "../src/kernel/process-memory.ts";
import type { BackedRun, ProcessPages } from "../src/kernel/process-pages.ts";
import type { Memslot } from "../src/kvm/memslots.ts";
import { EPT_FOUR_LEVEL } from "../src/x86/paging-shapes.ts";
import { memoryFrom, type Piece, type TableEntry, tablePieces } from "./synth/memory.ts";
import { patternPage } from "./synth/pattern.ts";

const PAGE = 4096;
const HVA = 0x7f00_0000_0000n;
const hva = (page: number): bigint => HVA + BigInt(page) * 4096n;

/** What a page of the VMM is: the number of its page in the host's memory, or why it has none. */
type Backing = number | "swapped" | "zero" | "in-file" | "unmapped" | "unknown";

const slot = (id: number, gfn: number, pages: number, at: number, more: Partial<Memslot> = {}): Memslot => ({
  addressSpace: 0,
  id,
  start: gfn * PAGE,
  end: (gfn + pages) * PAGE,
  hva: hva(at),
  flags: 0,
  ...more,
});

/** A VMM whose pages from HVA on are these; `read` counts the walks. */
function vmm(backings: readonly Backing[], end: Partial<RunsEnd> = {}) {
  const walks: [bigint, bigint][] = [];
  const isNext = (run: BackedRun, backing: Backing): boolean =>
    run.state === "in-memory" ? backing === run.physical / PAGE + run.size / PAGE : backing === run.state;
  const pages = {
    *runsOf(from: bigint, to: bigint): Generator<BackedRun, RunsEnd> {
      walks.push([from, to]);
      let run: BackedRun | undefined;
      for (let at = from; at < to && at < hva(backings.length); at += 4096n) {
        const backing = backings[Number((at - HVA) / 4096n)]!;
        if (run !== undefined && isNext(run, backing)) run = { ...run, size: run.size + PAGE };
        else {
          if (run !== undefined) yield run;
          const place = { virtual: at, size: PAGE };
          run =
            typeof backing === "number"
              ? { ...place, state: "in-memory", kind: "present", physical: backing * PAGE }
              : { ...place, state: backing };
        }
      }
      if (run !== undefined) yield run;
      return { complete: true, tablesRead: 4, tablesMissing: 0, ...end };
    },
  } as unknown as ProcessPages;
  return { pages, walks };
}

/** A host of 64 pages: pages of patterns, some zero, some left out, from page 48 on nothing. */
const HOST_PAGES = 48;
const hostState = (page: number): PageState =>
  page >= HOST_PAGES ? "absent" : page % 7 === 3 ? "zero" : page % 11 === 5 ? "excluded" : "present";
const host = memoryFrom(
  Array.from({ length: HOST_PAGES }, (_, page): Piece => {
    const state = hostState(page);
    const address = page * PAGE;
    return state === "present" ? { address, bytes: patternPage(1, page) } : { address, size: PAGE, state };
  }),
);

const page = Buffer.alloc(PAGE);
/** State of a page, and of one whose bytes are known which page of the host it is. */
function pageAt(memory: PhysicalMemory, address: number): string {
  page.fill(0xee);
  const state = memory.readPage(address, page);
  if (state === "zero") expect(page.every((byte) => byte === 0)).toBe(true);
  if (state !== "present") return state;
  const index = Array.from({ length: HOST_PAGES }, (_, i) => i).find((i) => page.equals(patternPage(1, i)));
  return `host ${index}`;
}

const statesOf = (memory: PhysicalMemory, pages: number): string[] =>
  Array.from({ length: pages }, (_, i) => pageAt(memory, i * PAGE));

/** Extents from 0 to `pages`, as page states. */
function extentsOf(memory: PhysicalMemory, pages: number) {
  const states: PageState[] = [];
  for (let at = 0; at < pages * PAGE; ) {
    const { start, end, state } = memory.extentAt(at, pages * PAGE);
    expect(start).toBe(at);
    expect(end).toBeGreaterThan(at);
    for (; at < end; at += PAGE) states.push(state);
  }
  return states;
}

describe("memory by memslots", () => {
  test("what is in the host's memory, untouched, in swap, in files, nowhere", async () => {
    const { pages } = vmm([0, 1, "zero", "swapped", "in-file", "unmapped", "unknown", 3, 5, 50]);
    const memory = await MemslotMemory.open(host, pages, [slot(0, 2, 10, 0)], undefined);
    expect(memory.ranges).toEqual([{ start: 2 * PAGE, end: 12 * PAGE }]);
    expect(statesOf(memory, 13)).toEqual([
      ...["absent", "absent", "host 0", "host 1", "zero"],
      ...["absent", "absent", "absent", "absent", "zero", "excluded", "absent", "absent"],
    ]);
    expect(memory.facts).toEqual({
      inMemory: 5 * PAGE,
      pageCache: 0,
      untouched: PAGE,
      swapped: PAGE,
      inFile: PAGE,
      unknown: 2 * PAGE,
      tablesMissing: 0,
      complete: true,
    });
    const [first] = [memory.extentAt(2 * PAGE, 12 * PAGE)];
    expect(first).toMatchObject({ start: 2 * PAGE, end: 3 * PAGE, state: "present", at: { offset: 0 } });
  });

  test("a run goes on where the host's memory does, and an extent may begin within a page", async () => {
    const one = memoryFrom([{ address: 0x10_0000, bytes: Buffer.alloc(8 * PAGE, 1) }]);
    const { pages } = vmm([256, 257, 258, 259]);
    const memory = await MemslotMemory.open(one, pages, [slot(0, 0, 4, 0)], undefined);
    expect(memory.extentAt(0, 100 * PAGE)).toMatchObject({ start: 0, end: 4 * PAGE, at: { offset: 0 } });
    expect(memory.extentAt(0x1800, 3 * PAGE)).toMatchObject({
      start: 0x1800,
      end: 3 * PAGE,
      at: { offset: 0x1800 },
    });
    expect(memory.extentAt(4 * PAGE, 100 * PAGE)).toEqual({
      start: 4 * PAGE,
      end: 100 * PAGE,
      state: "absent",
    });
  });

  test("where the VMM's tables do not tell, second-level tables do", async () => {
    const fallback = memoryFrom([
      { address: 0, bytes: patternPage(1, 9) },
      { address: PAGE, bytes: patternPage(1, 10) },
      { address: 2 * PAGE, bytes: patternPage(1, 11) },
      { address: 3 * PAGE, size: PAGE, state: "excluded" },
    ]);
    const { pages } = vmm(["zero", 2, "unknown", "swapped", "unmapped"]);
    const memory = await MemslotMemory.open(host, pages, [slot(0, 0, 5, 0)], fallback);
    expect(statesOf(memory, 6)).toEqual(["zero", "host 2", "host 11", "excluded", "absent", "absent"]);
    expect(extentsOf(memory, 6)).toEqual(["zero", "present", "present", "excluded", "absent", "absent"]);
  });

  test("memory of system management mode is not the guest's", async () => {
    const { pages } = vmm([0, 1, 2]);
    const slots = [
      slot(0, 0, 1, 0),
      slot(0, 0, 1, 1, { addressSpace: 1 }),
      slot(1, 5, 1, 2, { addressSpace: 1 }),
    ];
    const memory = await MemslotMemory.open(host, pages, slots, undefined);
    expect(memory.slots.map(({ start }) => start)).toEqual([0]);
    expect(statesOf(memory, 6)).toEqual(["host 0", "absent", "absent", "absent", "absent", "absent"]);
  });

  test("of a guest_memfd's slot what is not at its addresses may be in the file: it is unknown", async () => {
    const fallback = memoryFrom([{ address: PAGE, bytes: patternPage(1, 8) }]);
    const { pages } = vmm([0, "zero", "in-file", "unmapped", "swapped", "unknown", 2]);
    const memory = await MemslotMemory.open(host, pages, [slot(0, 0, 7, 0, { flags: 4 })], fallback);
    const expected = ["host 0", "host 8", "absent", "absent", "absent", "absent", "host 2"];
    expect(statesOf(memory, 7)).toEqual(expected);
    expect(extentsOf(memory, 7)).toEqual(
      expected.map((state) => (state === "absent" ? "absent" : "present")),
    );
    expect(memory.facts).toMatchObject({ inMemory: 2 * PAGE, untouched: 0, inFile: 0, complete: true });
    expect(memory.facts).toMatchObject({ swapped: PAGE, unknown: 4 * PAGE });
    expect([...memory.hostRuns()].map(({ start }) => start)).toEqual([0, 6 * PAGE]);
  });

  test("of slots that overlap, as no VM has them, each page is the lower one's", async () => {
    const { pages } = vmm([0, 1, 2, 4, 6, 7]);
    const slots = [slot(1, 1, 3, 3), slot(0, 0, 3, 0), slot(2, 1, 1, 5)];
    const memory = await MemslotMemory.open(host, pages, slots, undefined);
    expect(memory.ranges).toEqual([{ start: 0, end: 4 * PAGE }]);
    expect(statesOf(memory, 4)).toEqual(["host 0", "host 1", "host 2", "host 7"]);
  });

  test("what page tables end before is unknown as a whole", async () => {
    const { pages } = vmm([0, 1], { complete: false, resumeAt: hva(2), tablesMissing: 1 });
    const memory = await MemslotMemory.open(host, pages, [slot(0, 0, 2 ** 30, 0)], undefined);
    expect(memory.facts).toMatchObject({ unknown: (2 ** 30 - 2) * PAGE, complete: false, tablesMissing: 1 });
    expect(memory.extentAt(2 * PAGE, 2 ** 52)).toEqual({
      start: 2 * PAGE,
      end: 2 ** 42,
      state: "absent",
    });
    expect([...memory.hostRuns()].length).toBe(1);
  });

  test("signals are looked at in few, but long runs", async () => {
    const pages = {
      *runsOf(from: bigint, to: bigint): Generator<BackedRun, RunsEnd> {
        for (let at = from; at < to; at += 2n ** 28n) yield { virtual: at, size: 2 ** 28, state: "swapped" };
        return { complete: true, tablesRead: 1, tablesMissing: 0 };
      },
    } as unknown as ProcessPages;
    let looks = 0;
    const checkpoint = async () => void looks++;
    const slots = [slot(0, 0, 2 ** 24, 0)];
    const memory = await MemslotMemory.open(host, pages, slots, undefined, { checkpoint });
    expect(looks).toBe(16);
    const tables = { facts: { mapped: 0 } } as unknown as SecondLevelMemory;
    await agreementOf(memory, tables, checkpoint);
    expect(looks).toBe(32);
  });

  test("a budget that is spent ends the walk at the next slot", async () => {
    const { pages, walks } = vmm([0, 1, 2]);
    const budget = new WalkBudget(host);
    budget.tables = 5;
    const slots = [slot(0, 0, 1, 0), slot(1, 4, 1, 1), slot(2, 8, 1, 2)];
    const memory = await MemslotMemory.open(host, pages, slots, undefined, { budget });
    expect(walks.length).toBe(1);
    expect(budget.tables).toBe(0);
    expect(memory.facts).toMatchObject({ inMemory: PAGE, unknown: 2 * PAGE, complete: false });
    expect(memory.extentAt(4 * PAGE, 2 ** 30)).toMatchObject({ end: 5 * PAGE, state: "absent" });
  });

  const backing = fc.oneof(
    { weight: 3, arbitrary: fc.nat(HOST_PAGES + 4) },
    fc.constantFrom<Backing>("swapped", "zero", "in-file", "unmapped", "unknown"),
  );
  /** Runs of pages that follow each other, as huge pages give. */
  const backings = fc
    .array(fc.tuple(backing, fc.integer({ min: 1, max: 6 })), { minLength: 1, maxLength: 12 })
    .map((runs) =>
      runs.flatMap(([first, count]) =>
        Array.from({ length: count }, (_, i): Backing => (typeof first === "number" ? first + i : first)),
      ),
    );
  const slotSpec = fc.record({
    gfn: fc.nat(40),
    pages: fc.integer({ min: 1, max: 12 }),
    at: fc.nat(60),
    flags: fc.constantFrom(0, 0, 0, 2, 4),
    addressSpace: fc.constantFrom(0, 0, 0, 1),
  });

  test("says the same as one page looked up after the other, in order and not", async () => {
    const TOTAL = 56;
    const fallback = memoryFrom([
      { address: 4 * PAGE, bytes: Buffer.concat([20, 21, 22, 23].map((i) => patternPage(1, i))) },
      { address: 20 * PAGE, size: 9 * PAGE, state: "excluded" },
    ]);
    await fc.assert(
      fc.asyncProperty(
        backings,
        fc.array(slotSpec, { maxLength: 6 }),
        fc.array(fc.nat(TOTAL - 1), { maxLength: 60 }),
        async (given, specs, order) => {
          const { pages } = vmm(given);
          const slots = specs.map(({ gfn, pages, at, ...more }, id) => slot(id, gfn, pages, at, more));
          const memory = await MemslotMemory.open(host, pages, slots, fallback);
          const reference = (gfn: number): string => referenceAt(given, slots, fallback, gfn);
          const expected = Array.from({ length: TOTAL }, (_, gfn) => reference(gfn));
          expect(extentsOf(memory, TOTAL)).toEqual(
            expected.map((state) => (state.startsWith("host") ? "present" : state)),
          );
          expect(statesOf(memory, TOTAL)).toEqual(expected);
          for (const gfn of order) {
            expect(pageAt(memory, gfn * PAGE)).toBe(expected[gfn]);
            const { state } = memory.extentAt(gfn * PAGE, TOTAL * PAGE);
            expect(state).toBe(expected[gfn]!.startsWith("host") ? "present" : expected[gfn]);
          }
          const runs = [...memory.hostRuns()];
          for (const { start, end, physical } of runs) {
            for (let at = start; at < end; at += PAGE) {
              const own = physical / PAGE + (at - start) / PAGE;
              const known = hostState(own);
              expect(reference(at / PAGE)).toBe(known === "present" ? `host ${own}` : known);
            }
          }
          expect(runs.reduce((sum, { start, end }) => sum + end - start, 0)).toBe(memory.facts.inMemory);
        },
      ),
      { seed: 7, numRuns: 200 },
    );
  });
});

/** Page by page: the slot that starts lowest, the first of several; what its page is, else what the fallback has. */
function referenceAt(
  given: readonly Backing[],
  slots: readonly Memslot[],
  fallback: PhysicalMemory,
  gfn: number,
): string {
  const at = gfn * PAGE;
  const [own] = slots
    .filter(({ addressSpace, start, end }) => addressSpace === 0 && at >= start && at < end)
    .sort((a, b) => a.start - b.start);
  if (own === undefined) return "absent";
  const virtual = Number((own.hva - HVA) / 4096n) + (at - own.start) / PAGE;
  const backing: Backing = given[virtual] ?? "unknown";
  if (backing === "zero" && (own.flags & 4) === 0) return "zero";
  if (typeof backing !== "number") return pageAt(fallback, at);
  const state = hostState(backing);
  return state === "present" ? `host ${backing}` : state;
}

describe("agreement of memslots with second-level tables", () => {
  const RWX = 7n;
  const ROOT = 0x10_0000;
  /** EPT whose pages from guest-physical 0 on are these of the host. */
  const hostWith = (mapped: readonly (number | undefined)[]) => {
    const entries: TableEntry[] = [
      [ROOT, 0, BigInt(ROOT + 0x1000) | RWX],
      [ROOT + 0x1000, 0, BigInt(ROOT + 0x2000) | RWX],
      [ROOT + 0x2000, 0, BigInt(ROOT + 0x3000) | RWX],
      ...mapped.flatMap((own, i): TableEntry[] =>
        own === undefined ? [] : [[ROOT + 0x3000, i, BigInt(own * PAGE) | RWX]],
      ),
    ];
    return memoryFrom([{ address: 0, bytes: Buffer.alloc(32 * PAGE, 1) }, ...tablePieces(entries)]);
  };
  const compare = async (given: readonly Backing[], mapped: readonly (number | undefined)[]) => {
    const memory = hostWith(mapped);
    const tables = await SecondLevelMemory.open(memory, ROOT, EPT_FOUR_LEVEL);
    const slots = await MemslotMemory.open(memory, vmm(given).pages, [slot(0, 0, given.length, 0)], tables);
    return agreementOf(slots, tables);
  };

  test("pages at one place, at different ones, of memslots alone, of tables alone", async () => {
    expect(await compare([0, 1, 2, 9, "zero", "unknown"], [0, 1, 5, undefined, 6, 7, 8])).toEqual({
      equal: 2 * PAGE,
      different: PAGE,
      slotsOnly: PAGE,
      tablesOnly: 3 * PAGE,
      examples: [2 * PAGE],
    });
  });

  test("examples are bounded", async () => {
    const given = Array.from({ length: 20 }, (_, i) => i);
    const { different, equal, examples } = await compare(
      given,
      given.map((i) => (i * 7 + 3) % 20),
    );
    expect(different + equal).toBe(20 * PAGE);
    expect(examples.length).toBe(8);
  });

  test("tables that map nothing", async () => {
    expect(await compare([0, 1], [])).toEqual({
      equal: 0,
      different: 0,
      slotsOnly: 2 * PAGE,
      tablesOnly: 0,
      examples: [],
    });
  });
});
