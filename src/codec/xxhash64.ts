/** XXH64 in 32-bit halves: BigInt is 30 times slower. Algorithm: github.com/Cyan4973/xxHash, doc/xxhash_spec.md. */

/** Halves of a 64-bit value: high, low. */
type Halves = readonly [number, number];
const PRIME_1: Halves = [0x9e3779b1, 0x85ebca87];
const PRIME_2: Halves = [0xc2b2ae3d, 0x27d4eb4f];
const PRIME_3: Halves = [0x165667b1, 0x9e3779f9];
const PRIME_4: Halves = [0x85ebca77, 0xc2b2ae63];
const PRIME_5: Halves = [0x27d4eb2f, 0x165667c5];

// Scalars: the inner loop reads these faster than elements.
const [P1_HIGH, P1_LOW] = PRIME_1;
const [P2_HIGH, P2_LOW] = PRIME_2;

const STRIPE = 32;
const TWO_64 = 1n << 64n;
const join = ([high, low]: Halves): bigint => (BigInt(high) << 32n) | BigInt(low);

/** High 32 bits of the product of two unsigned 32-bit numbers. */
function multiplyHigh(a: number, b: number): number {
  const a0 = a & 0xffff;
  const a1 = a >>> 16;
  const b0 = b & 0xffff;
  const b1 = b >>> 16;
  // Each partial sum is below 2^32: (2^16 - 1)^2 + 2^16 - 1.
  const middle = a1 * b0 + ((a0 * b0) >>> 16);
  const other = a0 * b1 + (middle & 0xffff);
  return (a1 * b1 + (middle >>> 16) + (other >>> 16)) | 0;
}

/** Running hash with seed 0 over bytes given in pieces of any size. */
export class XxHash64 {
  /** The four accumulators, high half then low half. */
  readonly #lanes = new Int32Array(8);
  readonly #rest = new Uint8Array(STRIPE);
  #restLength = 0;
  #total = 0;

  constructor() {
    this.reset();
  }

  reset(): void {
    const [p1, p2] = [join(PRIME_1), join(PRIME_2)];
    [p1 + p2, p2, 0n, TWO_64 - p1].forEach((value, lane) => {
      this.#lanes[2 * lane] = Number(BigInt.asIntN(32, value >> 32n));
      this.#lanes[2 * lane + 1] = Number(BigInt.asIntN(32, value));
    });
    this.#restLength = 0;
    this.#total = 0;
  }

  update(bytes: Uint8Array): void {
    this.#total += bytes.length;
    let at = 0;
    if (this.#restLength > 0) {
      at = Math.min(STRIPE - this.#restLength, bytes.length);
      this.#rest.set(bytes.subarray(0, at), this.#restLength);
      this.#restLength += at;
      if (this.#restLength < STRIPE) return;
      this.#stripes(this.#rest, 0, STRIPE);
      this.#restLength = 0;
    }
    const end = bytes.length - ((bytes.length - at) % STRIPE);
    this.#stripes(bytes, at, end);
    this.#rest.set(bytes.subarray(end));
    this.#restLength = bytes.length - end;
  }

  /** lane = rotateLeft(lane + word × PRIME_2, 31) × PRIME_1, for each 8-byte word of every stripe. */
  #stripes(bytes: Uint8Array, start: number, end: number): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let lane = 0; lane < 4; lane++) {
      let high = this.#lanes[2 * lane]!;
      let low = this.#lanes[2 * lane + 1]!;
      for (let at = start + 8 * lane; at < end; at += STRIPE) {
        const wordLow = view.getUint32(at, true);
        const wordHigh = view.getUint32(at + 4, true);
        let sumLow = low >>> 0;
        let sumHigh = high;
        if (wordLow !== 0 || wordHigh !== 0) {
          sumLow += Math.imul(wordLow, P2_LOW) >>> 0;
          sumHigh +=
            multiplyHigh(wordLow, P2_LOW) +
            Math.imul(wordLow, P2_HIGH) +
            Math.imul(wordHigh, P2_LOW) +
            (sumLow > 0xffff_ffff ? 1 : 0);
        }
        const turnedHigh = (sumHigh << 31) | ((sumLow | 0) >>> 1);
        const turnedLow = ((sumLow | 0) << 31) | ((sumHigh | 0) >>> 1);
        low = Math.imul(turnedLow, P1_LOW);
        high =
          (multiplyHigh(turnedLow >>> 0, P1_LOW) +
            Math.imul(turnedLow, P1_HIGH) +
            Math.imul(turnedHigh, P1_LOW)) |
          0;
      }
      this.#lanes[2 * lane] = high;
      this.#lanes[2 * lane + 1] = low;
    }
  }

  /** The hash of everything given since the last reset. */
  digest(): bigint {
    return finish(this.#lanes, this.#rest.subarray(0, this.#restLength), this.#total);
  }
}

const wrap = (value: bigint): bigint => BigInt.asUintN(64, value);
const rotate = (value: bigint, bits: bigint): bigint => wrap((value << bits) | (value >> (64n - bits)));

/** The last steps, once a hash, in plain 64-bit arithmetic. */
function finish(lanes: Int32Array, rest: Uint8Array, total: number): bigint {
  const [p1, p2, p3, p4, p5] = [PRIME_1, PRIME_2, PRIME_3, PRIME_4, PRIME_5].map(join) as [
    bigint,
    bigint,
    bigint,
    bigint,
    bigint,
  ];
  const round = (value: bigint, word: bigint): bigint =>
    wrap(rotate(wrap(value + wrap(word * p2)), 31n) * p1);
  let hash = p5;
  if (total >= STRIPE) {
    const v = [0, 1, 2, 3].map((lane) => join([lanes[2 * lane]! >>> 0, lanes[2 * lane + 1]! >>> 0])) as [
      bigint,
      bigint,
      bigint,
      bigint,
    ];
    hash = wrap(rotate(v[0], 1n) + rotate(v[1], 7n) + rotate(v[2], 12n) + rotate(v[3], 18n));
    for (const value of v) hash = wrap((hash ^ round(0n, value)) * p1 + p4);
  }
  hash = wrap(hash + BigInt(total));
  const view = new DataView(rest.buffer, rest.byteOffset, rest.byteLength);
  let at = 0;
  for (; at + 8 <= rest.length; at += 8) {
    hash = wrap(rotate(hash ^ round(0n, view.getBigUint64(at, true)), 27n) * p1 + p4);
  }
  if (at + 4 <= rest.length) {
    hash = wrap(rotate(hash ^ wrap(BigInt(view.getUint32(at, true)) * p1), 23n) * p2 + p3);
    at += 4;
  }
  for (; at < rest.length; at++) hash = wrap(rotate(hash ^ wrap(BigInt(rest[at]!) * p5), 11n) * p1);
  hash = wrap((hash ^ (hash >> 33n)) * p2);
  hash = wrap((hash ^ (hash >> 29n)) * p3);
  return hash ^ (hash >> 32n);
}
