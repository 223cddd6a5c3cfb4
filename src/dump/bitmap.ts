import { UnsupportedError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { ByteSource } from "../core/memory.ts";
import type { Range } from "../core/ranges.ts";

/** Bytes of a bitmap between two entries of the index: 32 768 bits. */
const BLOCK = 4096;
const BITS = 8 * BLOCK;
/** Blocks kept: 128 KiB, the bits of 4 GiB. */
const KEPT = 32;
/** Bits between two entries of a kept block's own index. */
const STEP = 512;
/** Bytes per read where all of a bitmap is read, and how much of it between two looks at signals. */
const CHUNK = 256 * BLOCK;
const CHECKPOINT = 32 * CHUNK;

const REVERSED = Uint8Array.from({ length: 256 }, (_, byte) =>
  Number.parseInt([...byte.toString(2).padStart(8, "0")].reverse().join(""), 2),
);
const CLEAR = Buffer.alloc(BLOCK);
const SET = Buffer.alloc(BLOCK, 0xff);

/** A run of bits that are all set, or all clear. */
export interface BitRun {
  readonly set: boolean;
  readonly end: number;
}

/** Where a bitmap is in a file; what the file lacks of it is clear. */
export interface BitmapPlace {
  readonly source: ByteSource;
  readonly offset: number;
  /** Bits. */
  readonly size: number;
  /** Which bit of a byte is its first; the least significant unless it is said. */
  readonly order?: "least-significant-first" | "most-significant-first";
}

/** How many bits are set before each block of a bitmap: 8 bytes for 128 MiB of pages. */
interface Ranks {
  /** Number of the first block counted, and how many of its bits come before the range. */
  readonly first: number;
  readonly before: number;
  readonly counts: Float64Array;
}

/** A bitmap in a file, with an index of one range of its bits. */
export class Bitmap {
  readonly #place: BitmapPlace;
  readonly #ranks: Ranks;
  readonly #blocks = new Map<number, Block>();

  private constructor(place: BitmapPlace, ranks: Ranks) {
    this.#place = place;
    this.#ranks = ranks;
  }

  /** Without an index, for `has` and `runAt` alone. */
  static plain(place: BitmapPlace): Bitmap {
    return new Bitmap(place, { first: 0, before: 0, counts: new Float64Array(0) });
  }

  /** Counts the bits of a range, which is read for it. */
  static async open(
    place: BitmapPlace,
    { start, end }: Range,
    checkpoint?: JobContext["checkpoint"],
  ): Promise<Bitmap> {
    const first = Math.floor(start / BITS);
    const counts = new Float64Array(Math.ceil(end / BITS) - first + 1);
    let next = 0;
    for await (const { block, bytes } of blocksOf(place, first, first + counts.length - 1, checkpoint)) {
      const at = block - first;
      counts.fill(counts[next]!, next, at + 1);
      counts[at + 1] = counts[at]! + population(wordsOf(bytes), 0, BLOCK / 4);
      next = at + 1;
    }
    counts.fill(counts[next]!, next);
    const bitmap = new Bitmap(place, { first, before: 0, counts });
    return new Bitmap(place, { first, before: bitmap.rank(start), counts });
  }

  /** The same bitmap without the blocks that this one keeps. */
  fresh(): Bitmap {
    return new Bitmap(this.#place, this.#ranks);
  }

  has(index: number): boolean {
    if (index < 0 || index >= this.#place.size) return false;
    const byte = this.#block(Math.floor(index / BITS)).bytes[Math.floor((index % BITS) / 8)]!;
    return ((byte >> (index % 8)) & 1) === 1;
  }

  /** How many bits of the range are set below `index`, which is in the range or its end. */
  rank(index: number): number {
    const { first, before, counts } = this.#ranks;
    const block = Math.floor(index / BITS);
    const rest = index % BITS;
    const within = rest === 0 ? 0 : this.#block(block).rank(rest);
    return counts[block - first]! + within - before;
  }

  /** The longest run of equal bits from `index` on, cut at `limit`. */
  runAt(index: number, limit: number): BitRun {
    const set = this.has(index);
    const end = Math.min(limit, this.#place.size);
    let at = index + 1;
    while (at < end) {
      const start = at - (at % BITS);
      if (start === at && this.#isUniform(start / BITS, set)) {
        at += BITS;
        continue;
      }
      const stop = runEnd(this.#block(start / BITS).bytes, at % BITS, set);
      at = start + stop;
      if (stop < BITS) break;
    }
    return { set, end: Math.min(Math.max(at, index + 1), end) };
  }

  /** Whether the index says that all bits of a block are set, or clear. */
  #isUniform(block: number, set: boolean): boolean {
    const { first, counts } = this.#ranks;
    const [before, after] = [counts[block - first], counts[block - first + 1]];
    return before !== undefined && after !== undefined && after - before === (set ? BITS : 0);
  }

  #block(block: number): Block {
    const kept = this.#blocks.get(block);
    if (kept !== undefined) return kept;
    let reused: Block | undefined;
    if (this.#blocks.size >= KEPT) {
      const [oldest] = this.#blocks;
      this.#blocks.delete(oldest![0]);
      reused = oldest![1];
    }
    const loaded = reused ?? new Block();
    readBits(this.#place, block, loaded.bytes);
    loaded.count();
    this.#blocks.set(block, loaded);
    return loaded;
  }
}

/** A block of a bitmap, and how many bits are set before each 512 of it. */
class Block {
  readonly bytes = Buffer.alloc(BLOCK);
  readonly #words = wordsOf(this.bytes);
  readonly #counts = new Uint16Array(BITS / STEP);

  count(): void {
    for (let i = 1; i < this.#counts.length; i++) {
      const from = ((i - 1) * STEP) / 32;
      this.#counts[i] = this.#counts[i - 1]! + population(this.#words, from, from + STEP / 32);
    }
  }

  rank(bits: number): number {
    const whole = bits >>> 5;
    const step = Math.floor(bits / STEP);
    let count = this.#counts[step]! + population(this.#words, (step * STEP) / 32, whole);
    for (let bit = whole * 32; bit < bits; bit++) count += (this.bytes[bit >>> 3]! >> (bit & 7)) & 1;
    return count;
  }
}

/**
 * The runs of set bits of a range, at most `most` of them and one more.
 * @param checkpoint awaited every 32 MiB of the bitmap
 */
async function setRuns(
  place: BitmapPlace,
  { start, end }: Range,
  most: number,
  checkpoint?: JobContext["checkpoint"],
): Promise<Range[]> {
  const runs: { start: number; end: number }[] = [];
  const add = (from: number, to: number) => {
    const last = runs.at(-1);
    if (last?.end === from) last.end = to;
    else runs.push({ start: from, end: to });
  };
  const first = Math.floor(start / BITS);
  for await (const { block, bytes } of blocksOf(place, first, Math.ceil(end / BITS), checkpoint)) {
    const base = block * BITS;
    const stop = Math.min(BITS, end - base);
    for (let at = Math.max(0, start - base); at < stop; ) {
      const set = ((bytes[at >>> 3]! >> (at & 7)) & 1) === 1;
      const next = Math.min(stop, runEnd(bytes, at, set));
      if (set) add(base + at, base + next);
      at = next;
    }
    if (runs.length > most) break;
  }
  return runs;
}

/** Where the run of bits like the one at `from` ends in a block; BLOCK's bits when it does not. */
function runEnd(bytes: Buffer, from: number, set: boolean): number {
  if (from === 0 && bytes.equals(set ? SET : CLEAR)) return BITS;
  const whole = set ? 0xff : 0;
  let at = from;
  while (at < BITS) {
    const byte = bytes[at >>> 3]!;
    if ((at & 7) === 0 && byte === whole) at += 8;
    else if (((byte >> (at & 7)) & 1) === (set ? 1 : 0)) at++;
    else break;
  }
  return at;
}

/** Where a hole of a source ends that begins at `offset`; `offset` where none does. */
export function holeEnd(source: ByteSource, offset: number, limit: number): number {
  const extent = source.extent?.(offset, limit);
  return extent?.hole ? extent.end : offset;
}

/**
 * Blocks [from, to) of a bitmap but for those in holes, which are clear, in one buffer that is used again for each
 * chunk of them.
 */
async function* blocksOf(
  place: BitmapPlace,
  from: number,
  to: number,
  checkpoint?: JobContext["checkpoint"],
): AsyncGenerator<{ readonly block: number; readonly bytes: Buffer }> {
  const chunk = Buffer.alloc(Math.max(0, Math.min(CHUNK, (to - from) * BLOCK)));
  const { source, offset } = place;
  let looked = 0;
  for (let block = from; block < to; ) {
    const at = offset + block * BLOCK;
    const clear = Math.floor((holeEnd(source, at, offset + to * BLOCK) - at) / BLOCK);
    if (clear > 0) {
      block += clear;
      continue;
    }
    const bytes = chunk.subarray(0, Math.min(chunk.length, (to - block) * BLOCK));
    readBits(place, block, bytes);
    for (let at = 0; at < bytes.length; at += BLOCK) {
      yield { block: block + at / BLOCK, bytes: bytes.subarray(at, at + BLOCK) };
    }
    block += bytes.length / BLOCK;
    looked += bytes.length;
    if (looked % CHECKPOINT === 0) await checkpoint?.();
  }
}

/** Fills `bytes` with the bits from a block on; those that the bitmap or the file does not have are clear. */
function readBits({ source, offset, size, order }: BitmapPlace, block: number, bytes: Buffer): void {
  const bits = Math.max(0, size - block * BITS);
  const length = Math.min(bytes.length, Math.ceil(bits / 8));
  const got = length === 0 ? 0 : source.read(offset + block * BLOCK, bytes.subarray(0, length));
  bytes.fill(0, got);
  if (order === "most-significant-first") for (let i = 0; i < got; i++) bytes[i] = REVERSED[bytes[i]!]!;
  const spare = 8 * length - bits;
  if (spare > 0) bytes[length - 1]! &= 0xff >> spare;
}

/** The bytes are those of a buffer of their own, or whole blocks of one. */
const wordsOf = (bytes: Buffer): Int32Array =>
  new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);

/** How many bits of words [from, to) are set, whichever the order of their bytes. */
function population(words: Int32Array, from: number, to: number): number {
  let count = 0;
  for (let i = from; i < to; i++) {
    let word = words[i]!;
    word -= (word >>> 1) & 0x5555_5555;
    word = (word & 0x3333_3333) + ((word >>> 2) & 0x3333_3333);
    word = (word + (word >>> 4)) & 0x0f0f_0f0f;
    count += Math.imul(word, 0x0101_0101) >>> 24;
  }
  return count;
}

/** A machine's RAM is in some dozen ranges. */
const MAX_RANGES = 1 << 20;

/**
 * The runs of page frames that a bitmap says are RAM.
 * @throws UnsupportedError for RAM in more than a million pieces
 */
export async function ramRuns(place: BitmapPlace, checkpoint?: JobContext["checkpoint"]): Promise<Range[]> {
  const ram = await setRuns(place, { start: 0, end: place.size }, MAX_RANGES, checkpoint);
  if (ram.length <= MAX_RANGES) return ram;
  throw new UnsupportedError(`the dump's first bitmap has RAM in more than ${MAX_RANGES} pieces`, {
    hint: "it is damaged: RAM lies in some dozen",
  });
}
