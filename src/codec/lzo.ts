/**
 * LZO1X, the stream that lzo1x_1_compress writes (Linux Documentation/staging/lzo.rst). makedumpfile, QEMU and diskdump
 * compress pages with it, each on its own.
 */

import { BlockCopier } from "./block-copier.ts";
import { MatchFinder } from "./match-finder.ts";
import type { PageCodec } from "./page-codec.ts";
import { Scratch } from "./scratch.ts";
import type { Unpacked } from "./unpacked.ts";

/** Ends every stream: a copy from a distance of 16384, here of length 3. */
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
export const unpackLzo = (input: Uint8Array, output: Uint8Array): number | undefined =>
  new Unpacker(input, output).run();

/**
 * Decompresses a block as far as it goes; bytes may follow its end mark.
 * @param limit bytes of output at most
 */
export function unpackSomeLzo(input: Uint8Array, limit: number): Unpacked {
  // 255 for each byte of zero is the most that a byte can say.
  const output = Buffer.alloc(Math.min(limit, 256 * (input.length + 1)));
  return new Unpacker(input, output).some(output);
}

class Unpacker {
  readonly #blocks: BlockCopier;
  readonly #input: Uint8Array;
  /** How many literals came last: 0 to 3, or MANY. Decides what small instructions mean. */
  #state = 0;
  /** Whether the input may go on behind the block. */
  #mayFollow = false;

  constructor(input: Uint8Array, output: Uint8Array) {
    this.#input = input;
    this.#blocks = new BlockCopier(input, output);
  }

  run(): number | undefined {
    const blocks = this.#blocks;
    let done: boolean | "end" = this.#first();
    while (done === true && blocks.at < this.#input.length) done = this.#step(this.#input[blocks.at++]!);
    return done === "end" ? blocks.to : undefined;
  }

  some(output: Buffer): Unpacked {
    const blocks = this.#blocks;
    this.#mayFollow = true;
    const whole = this.run() !== undefined;
    const fault = blocks.at >= this.#input.length ? "cut" : "damaged";
    const read = Math.min(blocks.at, this.#input.length);
    return { bytes: Buffer.from(output.subarray(0, blocks.to)), read, fault: whole ? undefined : fault };
  }

  /** False where the block is damaged. */
  #step(instruction: number): boolean | "end" {
    if (instruction >= 64) return this.#shortCopy(instruction);
    if (instruction >= 16) return this.#longCopy(instruction);
    return this.#state === 0 ? this.#run(instruction) : this.#nearCopy(instruction);
  }

  /** A first byte above 17 is a run of literals. */
  #first(): boolean {
    const first = this.#input[0];
    if (first === undefined) return false;
    if (first <= 17) return true;
    this.#blocks.at = 1;
    this.#state = Math.min(first - 17, MANY);
    return this.#blocks.literals(first - 17);
  }

  /** 1LLDDDSS and 01LDDDSS, then eight bits of distance. */
  #shortCopy(instruction: number): boolean {
    const low = this.#input[this.#blocks.at++];
    if (low === undefined) return false;
    return this.#copy((low << 3) + ((instruction >> 2) & 7) + 1, (instruction >> 5) + 1, instruction & 3);
  }

  /** 001LLLLL and 0001HLLL, then DDDDDDDD DDDDDDSS. */
  #longCopy(instruction: number): boolean | "end" {
    const blocks = this.#blocks;
    const bits = instruction >= 32 ? 31 : 7;
    const length = (instruction & bits) === 0 ? this.#extended(bits) : instruction & bits;
    if (length === undefined || blocks.at + 2 > this.#input.length) return false;
    const low = this.#input[blocks.at]! | (this.#input[blocks.at + 1]! << 8);
    blocks.at += 2;
    if (instruction >= 32) return this.#copy((low >> 2) + 1, length + 2, low & 3);
    const distance = ((instruction & 8) << 11) + (low >> 2) + M3_MAX_OFFSET;
    if (distance !== M3_MAX_OFFSET) return this.#copy(distance, length + 2, low & 3);
    // The distance alone tells, as to liblzo2.
    return this.#mayFollow || blocks.at === this.#input.length ? "end" : false;
  }

  /** 0000LLLL where no literals came before. */
  #run(instruction: number): boolean {
    const length = instruction === 0 ? this.#extended(15) : instruction;
    this.#state = MANY;
    return length !== undefined && this.#blocks.literals(length + 3);
  }

  /** 0000DDSS behind literals, then eight bits of distance. */
  #nearCopy(instruction: number): boolean {
    const low = this.#input[this.#blocks.at++];
    if (low === undefined) return false;
    const distance = (low << 2) + (instruction >> 2) + 1;
    return this.#state === MANY
      ? this.#copy(distance + M2_MAX_OFFSET, 3, instruction & 3)
      : this.#copy(distance, 2, instruction & 3);
  }

  #copy(distance: number, length: number, literals: number): boolean {
    this.#state = literals;
    return this.#blocks.copy(distance, length) && this.#blocks.literals(literals);
  }

  /** `base`, 255 for each byte of zero, and the byte behind them; undefined where the input ends. */
  #extended(base: number): number | undefined {
    const blocks = this.#blocks;
    const from = blocks.at;
    while (this.#input[blocks.at] === 0) blocks.at++;
    const last = this.#input[blocks.at];
    return last === undefined ? undefined : base + 255 * (blocks.at++ - from) + last;
  }
}

/** What compresses blocks one after another. */
export class LzoPacker {
  readonly #matches = new MatchFinder(M4_MAX_OFFSET);

  /**
   * Compresses one block of at most 64 KiB.
   * @param output at least `maxPackedLzo(input.length)` bytes
   * @returns bytes written
   */
  pack(input: Uint8Array, output: Uint8Array): number {
    const writer = new Writer(input, output);
    const rest = this.#matches.find(input, (literals, at, distance, length) => {
      writer.literals(literals, at);
      writer.copy(distance, length);
    });
    writer.literals(rest, input.length);
    return writer.end();
  }
}

/** Both directions, for pages. */
export function ownLzo(): PageCodec {
  const packer = new LzoPacker();
  const scratch = new Scratch();
  return {
    unpack: unpackLzo,
    pack: (input, output) => scratch.to(output, packer.pack(input, scratch.of(maxPackedLzo(input.length)))),
  };
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
