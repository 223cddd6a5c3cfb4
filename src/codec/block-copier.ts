/** Above this, one call beats a loop. */
export const LONG = 32;

/** What decoders of LZ77 formats do with one block: copy literals out of the input, and earlier output. */
export class BlockCopier {
  /** Index of the next byte of input, and of output. */
  at = 0;
  to = 0;
  readonly #input: Uint8Array;
  readonly #output: Uint8Array;

  constructor(input: Uint8Array, output: Uint8Array) {
    this.#input = input;
    this.#output = output;
  }

  /** @returns false when there are not so many, or no room for them */
  literals(length: number): boolean {
    const [input, output] = [this.#input, this.#output];
    let { at, to } = this;
    const end = to + length;
    if (at + length > input.length || end > output.length) return false;
    if (length > LONG) output.set(input.subarray(at, at + length), to);
    else while (to < end) output[to++] = input[at++]!;
    this.at += length;
    this.to = end;
    return true;
  }

  /** @returns false when that is before the start, or there is no room */
  copy(distance: number, length: number): boolean {
    const output = this.#output;
    let { to } = this;
    let from = to - distance;
    const end = to + length;
    if (from < 0 || distance === 0 || end > output.length) return false;
    if (length > LONG && distance >= length) output.copyWithin(to, from, from + length);
    else while (to < end) output[to++] = output[from++]!;
    this.to = end;
    return true;
  }
}
