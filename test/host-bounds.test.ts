import { describe, expect, test } from "vitest";
import { SecondLevelMemory, WalkBudget } from "../src/guest/second-level.ts";
import { type KernelBudget, kernelOf } from "../src/jobs/guests.ts";
import { relateVmcbs } from "../src/svm/relate.ts";
import { VmcbScanner } from "../src/svm/scan.ts";
import { VMCS_LAYOUTS } from "../src/vmx/layouts.ts";
import { MAX_CANDIDATES, VmcsScanner } from "../src/vmx/scan.ts";
import { EPT_FOUR_LEVEL } from "../src/x86/paging-shapes.ts";
import type { X86State } from "../src/x86/state.ts";
import { memoryFrom, type TableEntry, tablePieces } from "./synth/memory.ts";
import { haltedVcpu, vmcbPage } from "./synth/vmcb.ts";
import { PLACES, REVISION, vmcsPage } from "./synth/vmcs.ts";

/** What a host's memory may cost that somebody filled to waste time and memory. */
const layout = {
  ...VMCS_LAYOUTS[0]!,
  kind: "processor" as const,
  revisionId: REVISION,
  accessRights: "plain" as const,
  fields: new Map(PLACES.map(({ encoding, offset }) => [encoding, offset])),
};
const RWX = 7n;
const none = async () => {};

describe("control blocks", () => {
  test("of a VMCS only the page is kept, and of a bounded number", () => {
    const scanner = new VmcsScanner([layout]);
    const pages = Buffer.concat(Array.from({ length: 128 }, () => vmcsPage()));
    for (let n = 0; n <= MAX_CANDIDATES; n += 128) scanner.scan(pages, 4096 * n);
    const { candidates, overflowed } = scanner.result;
    expect([candidates.length, overflowed]).toEqual([MAX_CANDIDATES, true]);
    expect(Object.keys(candidates[0]!).toSorted()).toEqual(["address", "bytes", "layout"]);
    expect(candidates[0]!.region.values.size).toBeGreaterThan(20);
    expect(candidates[0]!.score.value).toBe(1);
  });

  test("many copies of one VMCB do not name each other all", () => {
    const scanner = new VmcbScanner();
    scanner.scan(Buffer.concat(Array.from({ length: 100 }, () => vmcbPage(haltedVcpu()))), 0);
    const found = relateVmcbs(scanner.candidates);
    expect(new Set(found.map(({ twins }) => twins.length))).toEqual(new Set([16]));
  });
});

describe("kernels of guests", () => {
  // The registers that paging needs: an address space whose root is empty.
  const states = [{ cr0: 0x8000_0001n, cr3: 0x1000n, cr4: 0x20n, efer: 0x500n } as X86State];
  const memory = memoryFrom(tablePieces([[0x1000, 0, 0n]], 8));

  test("are looked for until a bound is reached, and of the first 16 guests always", async () => {
    const budget: KernelBudget = { work: 1, passedOver: 0 };
    await kernelOf(memory, states, 16, budget, none);
    expect(budget).toEqual({ work: 1, passedOver: 0 });
    await kernelOf(memory, states, 17, budget, none);
    expect(budget.work).toBeLessThan(0);
    expect(budget.passedOver).toBe(0);
    expect(await kernelOf(memory, states, 18, budget, none)).toBe("passed-over");
    await kernelOf(memory, states, 16, budget, none);
    expect(budget.passedOver).toBe(1);
  });
});

describe("second-level tables", () => {
  const all = (table: number, to: number): TableEntry[] =>
    Array.from({ length: 512 }, (_, i) => [table, i, BigInt(to) | RWX]);

  test("with nothing in them let signals in", async () => {
    const entries = [...all(0x1000, 0x2000), ...all(0x2000, 0x3000), ...all(0x3000, 0x4000)];
    const memory = memoryFrom(tablePieces([...entries, [0x4000, 0, 0n]], 8));
    let turns = 0;
    const opened = await SecondLevelMemory.open(memory, 0x1000, EPT_FOUR_LEVEL, {
      checkpoint: async () => {
        turns++;
      },
    });
    expect(opened.facts).toMatchObject({ complete: false, tablesRead: 16_384, mapped: 0 });
    expect(turns).toBe(15);
    await expect(
      SecondLevelMemory.open(memory, 0x1000, EPT_FOUR_LEVEL, {
        checkpoint: () => Promise.reject(new Error("signal")),
      }),
    ).rejects.toThrow("signal");
  });

  test("of a host as large as a header claims are read up to a bound", () => {
    const memory = memoryFrom([]);
    const huge = {
      ...memory,
      ranges: [{ start: 0, end: 2 ** 50 }],
      extentAt: (start: number, end: number) => ({ start, end, state: "present" as const }),
    };
    expect(new WalkBudget(huge).tables).toBe(2 ** 23);
  });

  test("more than are read between two signals give what they map in one piece", async () => {
    // 2048 last-level tables, each the same one, all of whose entries lead to one page.
    const pointers = (table: number): TableEntry[] => all(table, 0x4000);
    const entries: TableEntry[] = [
      [0x1000, 0, 0x2000n | RWX],
      ...[0, 1, 2, 3].map((i): TableEntry => [0x2000, i, BigInt(0x10_0000 + 4096 * i) | RWX]),
      ...[0, 1, 2, 3].flatMap((i) => pointers(0x10_0000 + 4096 * i)),
      ...all(0x4000, 0x1000),
    ];
    const memory = memoryFrom(tablePieces(entries, 8));
    const opened = await SecondLevelMemory.open(memory, 0x1000, EPT_FOUR_LEVEL);
    expect(opened.facts).toMatchObject({ complete: true, tablesMissing: 0, mapped: 4 * 2 ** 30 });
    expect(opened.ranges).toEqual([{ start: 0, end: 4 * 2 ** 30 }]);
  });
});
