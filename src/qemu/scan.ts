import { alignUp } from "../core/address.ts";
import type { JobContext } from "../core/job.ts";
import type { ProcessImage } from "../core/process.ts";
import type { Range } from "../core/ranges.ts";

/** Awaited now and then by what takes long: lets signals in. */
export type Checkpoint = JobContext["checkpoint"];

/** Bytes per read; every word of a mapping is seen once, with its neighbours where they are in the same chunk. */
const CHUNK = 1 << 20;

/** 8-byte aligned words of a run of process memory: `words[2i]` is the low half of word i, `words[2i + 1]` the high. */
export type VisitWords = (words: Uint32Array, address: number) => void;

/**
 * Reads a range of process memory in aligned chunks that overlap by `overlap` bytes, so that no structure up to that
 * size is cut. What is not in the core is skipped.
 */
export async function scanWords(
  image: ProcessImage,
  range: Range,
  overlap: number,
  visit: VisitWords,
  checkpoint?: Checkpoint,
): Promise<void> {
  // A process can have 100 000 small mappings: each takes no more than it needs.
  const size = Math.min(CHUNK + overlap, alignUp(range.end - range.start, 8));
  const buffer = new Uint32Array(size / 4);
  const bytes = Buffer.from(buffer.buffer);
  for (let at = range.start; at < range.end; ) {
    const extent = image.extentAt(at, range.end);
    if (extent.at !== undefined) {
      await scanExtent(extent.at, extent, overlap, buffer, bytes, visit, checkpoint);
    }
    at = extent.end;
  }
}

async function scanExtent(
  at: { source: { read(offset: number, target: Uint8Array): number }; offset: number },
  extent: Range,
  overlap: number,
  words: Uint32Array,
  bytes: Buffer,
  visit: VisitWords,
  checkpoint: Checkpoint | undefined,
): Promise<void> {
  for (let start = alignUp(extent.start, 8); start < extent.end; start += CHUNK) {
    const want = Math.min(CHUNK + overlap, extent.end - start);
    const got = at.source.read(at.offset + (start - extent.start), bytes.subarray(0, want));
    visit(words.subarray(0, (got - (got % 8)) / 4), start);
    await checkpoint?.();
    if (got < want) return;
  }
}
