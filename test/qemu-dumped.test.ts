import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ProcessMapping } from "../src/core/process.ts";
import { Budget } from "../src/qemu/budget.ts";
import { DumpedMemory } from "../src/qemu/dumped.ts";

/** Mappings on a line of 64 bytes: gap in front, size, bytes the core claims, bytes in the file. */
const mappings = fc
  .array(fc.tuple(fc.nat(3), fc.integer({ min: 1, max: 8 }), fc.nat(8), fc.nat(8)), { maxLength: 10 })
  .map((parts) => {
    let at = 0;
    return parts.map(([gap, size, dumped, present]): ProcessMapping => {
      const start = at + gap;
      const dumpedEnd = start + Math.min(dumped, size);
      const presentEnd = Math.min(dumpedEnd, start + present);
      at = start + size;
      const rights = { readable: true, writable: true, executable: false };
      return { start, end: at, dumpedEnd, presentEnd, offset: 0, ...rights };
    });
  });

describe("DumpedMemory", () => {
  test("counts what a look at every byte counts", () => {
    const range = fc.tuple(fc.nat(100), fc.nat(40));
    fc.assert(
      fc.property(mappings, range, (all, [start, length]) => {
        const bytes = Array.from({ length }, (_, i) => start + i).map((address) => {
          const mapping = all.find((m) => m.start <= address && address < m.end);
          if (mapping === undefined || address >= mapping.dumpedEnd) return { address, state: "absent" };
          return { address, state: address < mapping.presentEnd ? "present" : "truncated" };
        });
        const absent = bytes.filter(({ state }) => state === "absent");
        expect(new DumpedMemory(all).partOf(start, start + length)).toEqual({
          truncated: bytes.filter(({ state }) => state === "truncated").length,
          absent: absent.length,
          firstAbsent: absent[0]?.address ?? start,
        });
      }),
      { numRuns: 2000 },
    );
  });
});

test("a budget that was overdrawn stays so", () => {
  const budget = new Budget(3);
  expect([budget.take(2), budget.take(1), budget.take(0), budget.take(1), budget.take(0)]).toEqual([
    true,
    true,
    true,
    false,
    false,
  ]);
});
