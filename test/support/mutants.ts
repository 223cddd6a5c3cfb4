import { GuestcoreError } from "../../src/core/errors.ts";
import type { PhysicalMemory } from "../../src/core/memory.ts";
import { type Random, random } from "../synth/pattern.ts";

const PAGE = 4096;

/**
 * A file that is cut, one time in eight, or has up to `most` of its bytes or 64-bit words changed, at offsets that
 * `place` picks; the same for the same seed.
 */
export function mutantOf(
  original: Buffer,
  seed: number,
  most: number,
  place: (chance: Random) => number,
): Buffer {
  const chance = random(seed);
  if (chance.below(8) === 0) return original.subarray(0, chance.below(original.length));
  const bytes = Buffer.from(original);
  for (let n = chance.below(most); n >= 0; n--) {
    const at = place(chance);
    if (chance.below(2) === 0) bytes[at] = chance.below(256);
    else
      bytes.writeBigUInt64LE(
        BigInt.asUintN(64, chance.pick([0n, 1n, -1n, 1n << 40n, 0xffff_ffffn, 1n << 63n])),
        at,
      );
  }
  return bytes;
}

/** Opens so many dumps and reads a few pages of each range; whatever is no error of ours is thrown. */
export async function outcomesOf(
  count: number,
  open: (seed: number) => Promise<{ readonly memory: PhysicalMemory }>,
): Promise<{ readonly read: number; readonly refused: number }> {
  const outcomes = { read: 0, refused: 0 };
  const target = Buffer.alloc(PAGE);
  for (let seed = 0; seed < count; seed++) {
    try {
      const { memory } = await open(seed);
      for (const { start, end } of memory.ranges.slice(0, 8)) {
        for (let at = start; at < Math.min(end, start + 24 * PAGE); at += PAGE) memory.readPage(at, target);
        memory.extentAt(start, end);
      }
      outcomes.read++;
    } catch (error) {
      if (!(error instanceof GuestcoreError)) throw error;
      outcomes.refused++;
    }
  }
  return outcomes;
}
