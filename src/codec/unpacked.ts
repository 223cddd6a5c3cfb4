/** What came out of one compressed stream, as far as it could be decoded: a stream that was cut is no loss of the rest. */
export interface Unpacked {
  /** What came out, in memory of its own. */
  readonly bytes: Buffer;
  /** Bytes of input that belong to the stream. */
  readonly read: number;
  /** Why the stream ended before its end; undefined when all of it came out. `full`: there is more than the limit. */
  readonly fault: "cut" | "damaged" | "full" | undefined;
}

/** Output of unknown length, which grows up to a limit. */
export class GrowingOutput {
  bytes: Buffer;
  length = 0;
  readonly #limit: number;

  /** @param limit bytes at most */
  constructor(limit: number) {
    this.#limit = limit;
    this.bytes = Buffer.alloc(Math.min(limit, 8192));
  }

  /** @returns how many of `count` more bytes there is room for */
  room(count: number): number {
    const wanted = Math.min(this.#limit, this.length + count);
    if (wanted > this.bytes.length) {
      const grown = Buffer.alloc(Math.min(this.#limit, Math.max(wanted, 2 * this.bytes.length)));
      this.bytes.copy(grown, 0, 0, this.length);
      this.bytes = grown;
    }
    return wanted - this.length;
  }

  /** Appends bytes of the input; @returns false when there is no room for all of them. */
  append(source: Uint8Array, from: number, count: number): boolean {
    const fits = this.room(count);
    this.bytes.set(source.subarray(from, from + fits), this.length);
    this.length += fits;
    return fits === count;
  }

  /** Appends earlier output, byte by byte, so that what is copied may overlap what is written. */
  repeat(distance: number, count: number): boolean {
    const fits = this.room(count);
    const { bytes } = this;
    const end = this.length + fits;
    for (let to = this.length, from = to - distance; to < end; ) bytes[to++] = bytes[from++]!;
    this.length = end;
    return fits === count;
  }

  done(read: number, fault: Unpacked["fault"]): Unpacked {
    return { bytes: Buffer.from(this.bytes.subarray(0, this.length)), read, fault };
  }
}
