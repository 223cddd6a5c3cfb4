/** Hash buckets at most: 2^20 words are 4 MiB. */
const MAX_BUCKET_BITS = 20;

/** Which records bear the name at a string offset: chains in two typed arrays, 4 to 8 bytes a record. */
export class NameIndex {
  readonly #view: DataView;
  readonly #records: Uint32Array;
  readonly #shift: number;
  /** Index + 1 of the first record of a bucket, and of the next one in it; 0 ends a chain. */
  readonly #first: Uint32Array;
  readonly #next: Uint32Array;

  /** @param records byte offset of each record, whose first word is the string offset of its name */
  constructor(view: DataView, records: Uint32Array) {
    const bits = Math.min(MAX_BUCKET_BITS, Math.max(1, 31 - Math.clz32(records.length + 1)));
    this.#view = view;
    this.#records = records;
    this.#shift = 32 - bits;
    this.#first = new Uint32Array(1 << bits);
    this.#next = new Uint32Array(records.length);
    for (let i = records.length - 1; i >= 0; i--) {
      const name = view.getUint32(records[i]!, true);
      if (name === 0) continue;
      const bucket = this.#bucketOf(name);
      this.#next[i] = this.#first[bucket]!;
      this.#first[bucket] = i + 1;
    }
  }

  /** Indices of the records, ascending. */
  *at(name: number): Generator<number> {
    for (let i = this.#first[this.#bucketOf(name)]!; i !== 0; i = this.#next[i - 1]!) {
      if (this.#view.getUint32(this.#records[i - 1]!, true) === name) yield i - 1;
    }
  }

  /** Fibonacci hashing: string offsets lie in steps of some bytes. */
  #bucketOf(name: number): number {
    return Math.imul(name, 0x9e37_79b1) >>> this.#shift;
  }
}
