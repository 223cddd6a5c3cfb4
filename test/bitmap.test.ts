import fc from "fast-check";
import { expect, test } from "vitest";
import type { ByteSource } from "../src/core/memory.ts";
import { Bitmap, ramRuns } from "../src/dump/bitmap.ts";
import { MemorySource } from "./support/memory-io.ts";

const BLOCK_BITS = 32_768;

/** What is zeros at 4 KiB and more is a hole of it. */
function sparse(bytes: Buffer): ByteSource {
  const plain = new MemorySource(bytes);
  const endOf = (offset: number, limit: number) => {
    let end = offset;
    while (end < Math.min(limit, bytes.length) && bytes[end] === 0) end++;
    return end;
  };
  return {
    name: "sparse",
    size: plain.size,
    read: (offset, target) => plain.read(offset, target),
    extent: (offset, limit) => {
      const end = endOf(offset, limit);
      return end - offset >= 4096 ? { hole: true, end } : undefined;
    },
  };
}

test("a bitmap of long runs is as one that is looked at bit by bit", async () => {
  const run = fc.record({
    length: fc.oneof(fc.nat(70), fc.nat(BLOCK_BITS), fc.constantFrom(BLOCK_BITS, 3 * BLOCK_BITS)),
    set: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(run, { minLength: 1, maxLength: 8 }),
      fc.nat(4096),
      fc.boolean(),
      async (runs, start, holes) => {
        const bits = runs.flatMap(({ length, set }) => Array<boolean>(length).fill(set));
        if (bits.length <= start) return;
        const bytes = Buffer.alloc(100 + Math.ceil(bits.length / 8));
        for (const [i, set] of bits.entries()) if (set) bytes[100 + (i >> 3)]! |= 1 << (i & 7);
        const source = holes ? sparse(bytes) : new MemorySource(bytes);
        const place = { source, offset: 100, size: bits.length };
        const bitmap = await Bitmap.open(place, { start, end: bits.length });
        let [at, rank] = [start, 0];
        while (at < bits.length) {
          let end = at + 1;
          while (end < bits.length && bits[end] === bits[at]) end++;
          expect([at, bitmap.rank(at)]).toEqual([at, rank]);
          expect([at, bitmap.runAt(at, bits.length)]).toEqual([at, { set: bits[at], end }]);
          if (bits[at]) rank += end - at;
          at = end;
        }
        const ram = await ramRuns(place);
        expect(ram.reduce((sum, range) => sum + range.end - range.start, 0)).toBe(
          bits.filter(Boolean).length,
        );
        expect(ram.every(({ start, end }) => bits[start] && bits[end - 1])).toBe(true);
      },
    ),
    { numRuns: 60 },
  );
});
