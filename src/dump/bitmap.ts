import { UnsupportedError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import type { Range } from "../core/ranges.ts";

/** Bytes of a bitmap between two entries of the index: 32 768 bits. */
const BLOCK = 4096;
const BITS = 8 * BLOCK;
/** Blocks kept: 256 KiB, the bits of 8 GiB. */
const KEPT = 64;

const POPULATION = Uint8Array.from({ length: 256 }, (_, byte) => byte.toString(2).replaceAll("0", "").length);
const REVERSED = Uint8Array.from({ length: 256 }, (_, byte) =>
  Number.parseInt([...byte.toString(2).padStart(8, "0")].reverse().join(""), 2),
);

/** Which bit of a byte is its first. */
export type BitOrder = "least-significant-first" | "most-significant-first";

/** A run of bits that are all set, or all clear. */
export interface BitRun {
  readonly set: boolean;
  readonly end: number;
}

/**
 * A bitmap in a file, with an index of how many bits are set before each block: memory is 8 bytes for 128 MiB of pages.
 */
export class Bitmap {
  readonly #source: ByteSource;
  readonly #offset: number;
  readonly #size: number;
  readonly #order: BitOrder;
  readonly #ranks: Float64Array;
  readonly #blocks = new Map<number, Buffer>();

  /** @param size bits; what the file lacks of them is clear */
  constructor(source: ByteSource, offset: number, size: number, order: BitOrder = "least-significant-first") {
    this.#source = source;
    this.#offset = offset;
    this.#size = size;
    this.#order = order;
    this.#ranks = new Float64Array(Math.ceil(size / BITS) + 1);
    const bytes = Buffer.alloc(BLOCK);
    for (let block = 0; block + 1 < this.#ranks.length; block++) {
      this.#ranks[block + 1] = this.#ranks[block]! + population(this.#load(block, bytes), BITS);
    }
  }

  has(index: number): boolean {
    if (index < 0 || index >= this.#size) return false;
    const byte = this.#block(Math.floor(index / BITS))[Math.floor((index % BITS) / 8)]!;
    return ((byte >> (index % 8)) & 1) === 1;
  }

  /** How many bits below `index` are set; `index` at most the size. */
  rank(index: number): number {
    const block = Math.floor(index / BITS);
    const rest = index % BITS;
    return this.#ranks[block]! + (rest === 0 ? 0 : population(this.#block(block), rest));
  }

  /** The longest run of equal bits from `index` on, cut at `limit`. */
  runAt(index: number, limit: number): BitRun {
    const set = this.has(index);
    const [whole, end] = [set ? 0xff : 0, Math.min(limit, this.#size)];
    let at = index + 1;
    while (at < end) {
      const bytes = this.#block(Math.floor(at / BITS));
      const inBlock = at % BITS;
      const byte = bytes[Math.floor(inBlock / 8)]!;
      if (at % 8 === 0 && byte === whole) at += 8;
      else if ((((byte >> (at % 8)) & 1) === 1) === set) at++;
      else break;
    }
    return { set, end: Math.min(at, end) };
  }

  /** Runs of set bits in [from, to). */
  *runs(from: number, to: number): Generator<{ readonly start: number; readonly end: number }> {
    for (let at = from; at < to; ) {
      const { set, end } = this.runAt(at, to);
      if (set) yield { start: at, end };
      at = Math.max(end, at + 1);
    }
  }

  #block(block: number): Buffer {
    const kept = this.#blocks.get(block);
    if (kept !== undefined) return kept;
    let bytes: Buffer | undefined;
    if (this.#blocks.size >= KEPT) {
      const [oldest] = this.#blocks;
      this.#blocks.delete(oldest![0]);
      bytes = oldest![1];
    }
    const loaded = this.#load(block, bytes ?? Buffer.alloc(BLOCK));
    this.#blocks.set(block, loaded);
    return loaded;
  }

  #load(block: number, bytes: Buffer): Buffer {
    const length = Math.min(BLOCK, Math.ceil((this.#size - block * BITS) / 8));
    bytes.fill(0);
    this.#source.read(this.#offset + block * BLOCK, bytes.subarray(0, length));
    if (this.#order === "most-significant-first") {
      for (let i = 0; i < length; i++) bytes[i] = REVERSED[bytes[i]!]!;
    }
    // Bits behind the last are none.
    const spare = 8 * length - (this.#size - block * BITS);
    if (spare > 0) bytes[length - 1]! &= 0xff >> spare;
    return bytes;
  }
}

function population(bytes: Buffer, bits: number): number {
  const whole = bits >>> 3;
  let count = 0;
  for (let i = 0; i < whole; i++) count += POPULATION[bytes[i]!]!;
  const rest = bits & 7;
  return rest === 0 ? count : count + POPULATION[bytes[whole]! & ((1 << rest) - 1)]!;
}

/** A machine's RAM is in some dozen ranges. */
const MAX_RANGES = 1 << 20;

/**
 * The addresses of runs of page frames.
 * @throws UnsupportedError for RAM in more than a million pieces
 */
export function rangesOfFrames(runs: Iterable<Range>, blockSize: number): Range[] {
  const ranges: Range[] = [];
  for (const { start, end } of runs) {
    ranges.push({ start: start * blockSize, end: end * blockSize });
    if (ranges.length > MAX_RANGES) {
      throw new UnsupportedError(`the dump's first bitmap has RAM in more than ${MAX_RANGES} pieces`, {
        hint: "it is damaged: RAM lies in some dozen",
      });
    }
  }
  return ranges;
}
