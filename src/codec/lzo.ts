/**
 * LZO1X, the stream that lzo1x_1_compress writes (Linux Documentation/staging/lzo.rst). makedumpfile, QEMU and diskdump
 * compress pages with it, each on its own.
 */

/** Ends every stream: a copy of length 3 from a distance of 16384. */
const END_MARK = [0x11, 0, 0] as const;

const M2_MAX_OFFSET = 0x800;
const M3_MAX_OFFSET = 0x4000;
const M4_MAX_OFFSET = 0xbfff;
/** State after a run of four or more literals. */
const MANY = 4;

/**
 * Decompresses one block.
 * @param output as long as the contents can be
 * @returns bytes written; undefined when the block is damaged, does not end with its mark, or does not fit
 */
export function unpackLzo(input: Uint8Array, output: Uint8Array): number | undefined {
  const inputEnd = input.length;
  const outputEnd = output.length;
  let at = 0;
  let to = 0;
  // How many literals came last: 0 to 3, or MANY. Decides what small instructions mean.
  let state = 0;
  const first = input[0];
  if (first === undefined) return undefined;
  if (first > 17) {
    at = 1;
    const literals = first - 17;
    if (at + literals > inputEnd || to + literals > outputEnd) return undefined;
    for (let i = 0; i < literals; i++) output[to++] = input[at++]!;
    state = Math.min(literals, MANY);
  }
  while (at < inputEnd) {
    const instruction = input[at++]!;
    let length: number;
    let distance: number;
    let literals: number;
    if (instruction >= 64) {
      // 1LLDDDSS and 01LDDDSS, then eight bits of distance.
      if (at >= inputEnd) return undefined;
      distance = (input[at++]! << 3) + ((instruction >> 2) & 7) + 1;
      length = (instruction >> 5) + 1;
      literals = instruction & 3;
    } else if (instruction >= 16) {
      const bits = instruction >= 32 ? 31 : 7;
      length = (instruction & bits) + 2;
      if (length === 2) {
        let zeros = 0;
        while (at < inputEnd && input[at] === 0) {
          at++;
          zeros++;
        }
        if (at >= inputEnd) return undefined;
        length += bits + zeros * 255 + input[at++]!;
      }
      if (at + 2 > inputEnd) return undefined;
      const low = input[at]! | (input[at + 1]! << 8);
      at += 2;
      literals = low & 3;
      if (instruction >= 32) distance = (low >> 2) + 1;
      else {
        distance = ((instruction & 8) << 11) + (low >> 2) + M3_MAX_OFFSET;
        if (distance === M3_MAX_OFFSET) return length === 3 && at === inputEnd ? to : undefined;
      }
    } else if (state === 0) {
      // A run of literals.
      length = instruction + 3;
      if (instruction === 0) {
        let zeros = 0;
        while (at < inputEnd && input[at] === 0) {
          at++;
          zeros++;
        }
        if (at >= inputEnd) return undefined;
        length += 15 + zeros * 255 + input[at++]!;
      }
      if (at + length > inputEnd || to + length > outputEnd) return undefined;
      if (length > 32) {
        output.set(input.subarray(at, at + length), to);
        to += length;
        at += length;
      } else {
        for (const end = to + length; to < end; ) output[to++] = input[at++]!;
      }
      state = MANY;
      continue;
    } else {
      // 0000DDSS behind literals: a near copy.
      if (at >= inputEnd) return undefined;
      distance = (input[at++]! << 2) + (instruction >> 2) + 1;
      length = 2;
      if (state === MANY) {
        distance += M2_MAX_OFFSET;
        length = 3;
      }
      literals = instruction & 3;
    }
    let from = to - distance;
    if (from < 0 || to + length > outputEnd) return undefined;
    if (length > 32 && distance >= length) {
      output.copyWithin(to, from, from + length);
      to += length;
    } else {
      for (const end = to + length; to < end; ) output[to++] = output[from++]!;
    }
    if (at + literals > inputEnd || to + literals > outputEnd) return undefined;
    for (let i = 0; i < literals; i++) output[to++] = input[at++]!;
    state = literals;
  }
  return undefined;
}

const HASH_BITS = 13;
const MIN_MATCH = 4;

/** What compresses blocks one after another, with memory of its own. */
export class LzoPacker {
  /** Position + base of the last occurrence of a hash; older blocks' are below `#base`. */
  readonly #seen = new Int32Array(1 << HASH_BITS);
  #base = 1;

  /**
   * Compresses one block of at most 64 KiB.
   * @param output at least `maxPackedLzo(input.length)` bytes
   * @returns bytes written
   */
  pack(input: Uint8Array, output: Uint8Array): number {
    const end = input.length;
    if (this.#base > 0x7fff_0000 - end) {
      this.#seen.fill(0);
      this.#base = 1;
    }
    const base = this.#base;
    this.#base += end;
    const seen = this.#seen;
    const writer = new Writer(input, output);
    let literalsFrom = 0;
    let misses = 0;
    // The last bytes are literals: a hash takes four.
    for (let at = 0; at + MIN_MATCH <= end; ) {
      const word = input[at]! | (input[at + 1]! << 8) | (input[at + 2]! << 16) | (input[at + 3]! << 24);
      const hash = Math.imul(word, 0x9e37_79b1) >>> (32 - HASH_BITS);
      const from = seen[hash]! - base;
      seen[hash] = at + base;
      const isMatch =
        from >= 0 &&
        at - from <= M4_MAX_OFFSET &&
        input[from] === input[at] &&
        input[from + 1] === input[at + 1] &&
        input[from + 2] === input[at + 2] &&
        input[from + 3] === input[at + 3];
      if (!isMatch) {
        // Bytes that do not repeat are passed ever faster.
        at += 1 + (misses++ >> 5);
        continue;
      }
      misses = 0;
      let length = MIN_MATCH;
      while (at + length < end && input[from + length] === input[at + length]) length++;
      writer.literals(literalsFrom, at);
      writer.copy(at - from, length);
      at += length;
      literalsFrom = at;
    }
    writer.literals(literalsFrom, end);
    return writer.end();
  }
}

/** Longest that a block of `size` bytes can become. */
export const maxPackedLzo = (size: number): number => size + Math.floor(size / 16) + 64 + 3;

class Writer {
  readonly #input: Uint8Array;
  readonly #output: Uint8Array;
  #to = 0;
  /** Where the last copy's two low bits are, which take up to three literals; -1 at the start. */
  #trailing = -1;

  constructor(input: Uint8Array, output: Uint8Array) {
    this.#input = input;
    this.#output = output;
  }

  literals(from: number, end: number): void {
    const output = this.#output;
    const length = end - from;
    if (length === 0) return;
    if (this.#trailing < 0 && length <= 238) output[this.#to++] = 17 + length;
    else if (this.#trailing >= 0 && length <= 3) output[this.#trailing]! |= length;
    else if (length <= 18) output[this.#to++] = length - 3;
    else {
      output[this.#to++] = 0;
      this.#extended(length - 18);
    }
    for (let at = from; at < end; ) output[this.#to++] = this.#input[at++]!;
  }

  copy(distance: number, length: number): void {
    const output = this.#output;
    if (length <= 8 && distance <= M2_MAX_OFFSET) {
      this.#trailing = this.#to;
      output[this.#to++] = ((length - 1) << 5) | (((distance - 1) & 7) << 2);
      output[this.#to++] = (distance - 1) >> 3;
      return;
    }
    const isNear = distance <= M3_MAX_OFFSET;
    const most = isNear ? 33 : 9;
    const rest = isNear ? distance - 1 : distance - M3_MAX_OFFSET;
    const head = isNear ? 32 : 16 | ((rest >> 11) & 8);
    if (length <= most) output[this.#to++] = head | (length - 2);
    else {
      output[this.#to++] = head;
      this.#extended(length - most);
    }
    this.#trailing = this.#to;
    output[this.#to++] = (rest << 2) & 0xff;
    output[this.#to++] = (rest >> 6) & 0xff;
  }

  end(): number {
    for (const byte of END_MARK) this.#output[this.#to++] = byte;
    return this.#to;
  }

  /** What does not fit into the instruction: a zero for each 255, then the rest, 1 to 255. */
  #extended(length: number): void {
    let rest = length;
    for (; rest > 255; rest -= 255) this.#output[this.#to++] = 0;
    this.#output[this.#to++] = rest;
  }
}
