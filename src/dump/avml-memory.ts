import { crc32c } from "../codec/crc32c.ts";
import { unpackSnappy } from "../codec/snappy.ts";
import { alignDown, alignUp, PAGE_SIZE } from "../core/address.ts";
import type { ByteSource, Extent, PageState, PhysicalMemory } from "../core/memory.ts";
import { indexAtOrAbove, joinAscending, type Range, rangeAt } from "../core/ranges.ts";
import type { ChunkIndex } from "./avml-index.ts";

/** What a chunk holds, unpacked (snappy framing_format.txt §4.2). */
export const CHUNK_SIZE = 1 << 16;
/** Longest that a chunk of the file can be: header, checksum, and a block that became longer. */
const CHUNK_ROOM = 8 + 32 + CHUNK_SIZE + Math.ceil(CHUNK_SIZE / 6);

/** Unpacked chunks that are kept for those who come back: 4 MiB. */
const KEPT = 64;

/** A block of an image: memory in [start, end), of which chunks `first` to `last` hold what lies below `known`. */
export interface AvmlBlock extends Range {
  readonly known: number;
  readonly first: number;
  readonly last: number;
}

/** Physical memory of a compressed AVML image. A page in a damaged chunk is *absent*, as is one cut by a block's end. */
export class AvmlMemory implements PhysicalMemory {
  readonly ranges: readonly Range[];
  readonly #source: ByteSource;
  readonly #index: ChunkIndex;
  readonly #blocks: readonly AvmlBlock[];
  readonly #packed = Buffer.allocUnsafeSlow(CHUNK_ROOM);
  readonly #kept = new Map<number, Buffer>();

  /** @param blocks ascending and disjoint */
  constructor(source: ByteSource, index: ChunkIndex, blocks: readonly AvmlBlock[]) {
    this.#source = source;
    this.#index = index;
    this.#blocks = blocks.flatMap((block) => {
      const [start, end] = [alignUp(block.start, PAGE_SIZE), alignDown(block.end, PAGE_SIZE)];
      const known = Math.max(start, alignDown(block.known, PAGE_SIZE));
      return start < end ? [{ ...block, start, end, known }] : [];
    });
    this.ranges = joinAscending(this.#blocks);
  }

  extentAt(address: number, limit: number): Extent {
    const block = this.#blocks[indexAtOrAbove(this.#blocks, address)];
    if (block === undefined || block.start >= limit) return { start: address, end: limit, state: "absent" };
    if (block.start > address) return { start: address, end: block.start, state: "absent" };
    const isKnown = address < block.known;
    const end = Math.min(limit, isKnown ? block.known : block.end);
    return { start: address, end, state: isKnown ? "present" : "absent" };
  }

  readPage(address: number, target: Uint8Array): PageState {
    const page = alignDown(address, PAGE_SIZE);
    const block = rangeAt(this.#blocks, page);
    if (block === undefined || page >= block.known) return "absent";
    let chunk = this.#index.find(page, block.first, block.last);
    for (let done = 0; done < PAGE_SIZE; chunk++) {
      const bytes = this.#chunk(chunk);
      if (bytes === undefined) return "absent";
      const from = page + done - this.#index.addressOf(chunk);
      const part = bytes.subarray(from, from + PAGE_SIZE - done);
      target.set(part, done);
      done += part.length;
    }
    return "present";
  }

  /** What a chunk holds; undefined where it is damaged. */
  #chunk(index: number): Buffer | undefined {
    const kept = this.#kept.get(index);
    if (kept !== undefined) return kept;
    const offset = this.#index.offsetOf(index);
    // Up to the next chunk: of short ones there are thousands in a page.
    const next = index + 1 < this.#index.count ? this.#index.offsetOf(index + 1) : this.#source.size;
    const room = this.#packed.subarray(0, Math.min(CHUNK_ROOM, next - offset));
    const got = this.#source.read(offset, room);
    if (got < 8) return undefined;
    const length = this.#packed.readUIntLE(1, 3);
    if (4 + length > got) return undefined;
    const body = this.#packed.subarray(8, 4 + length);
    const bytes = this.#reused();
    const contents = bytes.subarray(0, this.#index.sizeOf(index));
    if (this.#packed[0] === 1) body.copy(contents);
    else if (unpackSnappy(body, contents) !== contents.length) return undefined;
    if (masked(crc32c(contents)) !== this.#packed.readUInt32LE(4)) return undefined;
    this.#kept.set(index, contents);
    return contents;
  }

  /** A buffer for one more chunk: the oldest, when enough are kept. */
  #reused(): Buffer {
    if (this.#kept.size < KEPT) return Buffer.allocUnsafeSlow(CHUNK_SIZE);
    const [oldest] = this.#kept;
    this.#kept.delete(oldest![0]);
    return Buffer.from(oldest![1].buffer, 0, CHUNK_SIZE);
  }
}

/** Checksums in the file are rotated and offset (framing_format.txt §3). */
const masked = (crc: number): number => (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
