import { alignUp } from "../core/address.ts";
import type { JobContext } from "../core/job.ts";
import type { ProcessExtent, ProcessImage } from "../core/process.ts";
import type { Range } from "../core/ranges.ts";

/** Awaited now and then by what takes long: lets signals in. */
export type Checkpoint = JobContext["checkpoint"];

/** Bytes per read; every word of a mapping is seen once, with its neighbours where they are in the same chunk. */
const CHUNK = 1 << 20;

/** 8-byte aligned words of a run of process memory: `words[2i]` is the low half of word i, `words[2i + 1]` the high. */
export type VisitWords = (words: Uint32Array, address: number) => void;

/**
 * Reads ranges of process memory in aligned chunks that overlap by `overlap` bytes, so that no structure up to that
 * size is cut. What is not in the core is skipped. A process can have 100 000 small mappings: one scanner, and with it
 * one buffer, serves all of them.
 * @returns what scans one range
 */
export function wordScanner(
  image: ProcessImage,
  overlap: number,
  visit: VisitWords,
  checkpoint?: Checkpoint,
): (range: Range) => Promise<void> {
  const words = new Uint32Array((CHUNK + overlap) / 4);
  const bytes = Buffer.from(words.buffer);
  const scanExtent = async ({ source, offset }: Present, { start: from, end }: Range) => {
    for (let start = alignUp(from, 8); start < end; start += CHUNK) {
      const want = Math.min(CHUNK + overlap, end - start);
      const got = source.read(offset + (start - from), bytes.subarray(0, want));
      visit(words.subarray(0, (got - (got % 8)) / 4), start);
      await checkpoint?.();
      if (got < want) return;
    }
  };
  return async (range) => {
    for (let at = range.start; at < range.end; ) {
      const extent = image.extentAt(at, range.end);
      if (extent.at !== undefined) await scanExtent(extent.at, extent);
      at = extent.end;
    }
  };
}

type Present = NonNullable<ProcessExtent["at"]>;
