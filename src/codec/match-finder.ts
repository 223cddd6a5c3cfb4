const HASH_BITS = 13;
const MIN_MATCH = 4;
/** Positions of blocks seen before are below a base that grows; it starts again before it leaves 31 bits. */
const MAX_BASE = 0x7fff_0000;

/** Takes a repeat: what stands in [at, at + length) stands `distance` before too; literals lie in [literals, at). */
export type TakeMatch = (literals: number, at: number, distance: number, length: number) => void;

/** Finds repeats in blocks, greedily, by the last place of each four bytes; with memory of its own for all of them. */
export class MatchFinder {
  readonly #maxDistance: number;
  readonly #seen = new Int32Array(1 << HASH_BITS);
  #base = 1;

  constructor(maxDistance: number) {
    this.#maxDistance = maxDistance;
  }

  /** @returns where the literals begin that are left at the end */
  find(input: Uint8Array, take: TakeMatch): number {
    const end = input.length;
    const base = this.#nextBase(end);
    const seen = this.#seen;
    let literals = 0;
    let misses = 0;
    for (let at = 0; at + MIN_MATCH <= end; ) {
      const hash = Math.imul(wordAt(input, at), 0x9e37_79b1) >>> (32 - HASH_BITS);
      const from = seen[hash]! - base;
      seen[hash] = at + base;
      if (from < 0 || at - from > this.#maxDistance || wordAt(input, from) !== wordAt(input, at)) {
        // Bytes that do not repeat are passed ever faster.
        at += 1 + (misses++ >> 5);
        continue;
      }
      misses = 0;
      let length = MIN_MATCH;
      while (at + length < end && input[from + length] === input[at + length]) length++;
      take(literals, at, at - from, length);
      at += length;
      literals = at;
    }
    return literals;
  }

  #nextBase(size: number): number {
    if (this.#base > MAX_BASE - size) {
      this.#seen.fill(0);
      this.#base = 1;
    }
    const base = this.#base;
    this.#base += size;
    return base;
  }
}

const wordAt = (bytes: Uint8Array, at: number): number =>
  bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
