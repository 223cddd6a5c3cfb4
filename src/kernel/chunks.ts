import { alignDown, PAGE_SIZE } from "../core/address.ts";
import type { JobContext } from "../core/job.ts";
import type { Extent, PhysicalMemory } from "../core/memory.ts";
import { sizeOf } from "../core/ranges.ts";

/** Awaited now and then by what takes long: lets signals in. */
export type Checkpoint = JobContext["checkpoint"];

/** Beyond 1 MiB a read gets no faster, and a buffer of it stays in the cache. */
const CHUNK_BYTES = 2 ** 20;

/** Whole pages of physical memory; `bytes` is reused for the next chunk. */
export interface Chunk {
  readonly address: number;
  readonly bytes: Buffer;
}

/**
 * What is present of `[from, to)`, ascending, in chunks of at most 1 MiB. Zero, excluded and absent memory is left
 * out; a chunk that ends where the next begins is contiguous with it.
 */
export function* presentChunks(memory: PhysicalMemory, from: number, to: number): Generator<Chunk> {
  const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  for (const range of memory.ranges) {
    const end = Math.min(range.end, to);
    for (let address = Math.max(range.start, alignDown(from, PAGE_SIZE)); address < end; ) {
      const extent = nextExtent(memory, address, end);
      const length = extent.state === "present" ? fill(memory, extent, buffer) : 0;
      if (length > 0) yield { address, bytes: buffer.subarray(0, length) };
      // Where a page could not be read after all, go on behind it; where a source ends, nothing follows.
      const broken = extent.state === "present" && extent.at === undefined && length < sizeOf(extent);
      address = broken ? address + length + PAGE_SIZE : extent.end;
    }
  }
}

/**
 * What is present in pieces of a chunk, for its end may take a walk through page tables to find; what is not in one,
 * for it may be as large as a header claims.
 */
function nextExtent(memory: PhysicalMemory, address: number, end: number): Extent {
  const near = memory.extentAt(address, Math.min(end, address + CHUNK_BYTES));
  return near.state === "present" ? near : memory.extentAt(address, end);
}

/** Reads the leading pages of an extent that can be read; returns their bytes. */
function fill(memory: PhysicalMemory, extent: Extent, buffer: Buffer): number {
  const size = sizeOf(extent);
  if (extent.at !== undefined) {
    return alignDown(extent.at.source.read(extent.at.offset, buffer.subarray(0, size)), PAGE_SIZE);
  }
  for (let done = 0; done < size; done += PAGE_SIZE) {
    const state = memory.readPage(extent.start + done, buffer.subarray(done, done + PAGE_SIZE));
    if (state === "absent" || state === "excluded") return done;
  }
  return size;
}
