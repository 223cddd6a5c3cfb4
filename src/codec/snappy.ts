/** Snappy's raw block format, without framing (google/snappy format_description.txt). */

import { BlockCopier, LONG } from "./block-copier.ts";
import { MatchFinder } from "./match-finder.ts";
import type { PageCodec } from "./page-codec.ts";
import { Scratch } from "./scratch.ts";

/** A block is compressed in fragments of this length, so that distances fit into 16 bits. */
const FRAGMENT = 1 << 16;

/**
 * Decompresses one block.
 * @param output as long as the contents can be
 * @returns bytes written; undefined when the block is damaged, cut, or does not fit
 */
export function unpackSnappy(input: Uint8Array, output: Uint8Array): number | undefined {
  const length = lengthOf(input);
  if (length === undefined || length.value > output.length) return undefined;
  const blocks = new BlockCopier(input, output.subarray(0, length.value));
  blocks.at = length.end;
  while (blocks.at < input.length) {
    const tag = input[blocks.at++]!;
    const done = (tag & 3) === 0 ? literal(input, blocks, tag) : copy(input, blocks, tag);
    if (!done) return undefined;
  }
  return blocks.to === length.value ? blocks.to : undefined;
}

/** The length of the contents in front: seven bits a byte, the lowest first, at most 32. */
function lengthOf(input: Uint8Array): { readonly value: number; readonly end: number } | undefined {
  let value = 0;
  for (let at = 0; at < 5; at++) {
    const byte = input[at];
    if (byte === undefined) return undefined;
    value += (byte & 0x7f) * 2 ** (7 * at);
    if (byte < 0x80) return { value, end: at + 1 };
  }
  return undefined;
}

/** LLLLLL00; from 60 on the length stands in one to four bytes behind. */
function literal(input: Uint8Array, blocks: BlockCopier, tag: number): boolean {
  const short = tag >> 2;
  if (short < 60) return blocks.literals(short + 1);
  const bytes = short - 59;
  const length = numberAt(input, blocks.at, bytes);
  blocks.at += bytes;
  return length !== undefined && blocks.literals(length + 1);
}

/** DDDLLL01 with eight bits of distance behind, LLLLLL10 with sixteen, LLLLLL11 with thirty-two. */
function copy(input: Uint8Array, blocks: BlockCopier, tag: number): boolean {
  const kind = tag & 3;
  const bytes = kind === 3 ? 4 : kind;
  const low = numberAt(input, blocks.at, bytes);
  blocks.at += bytes;
  if (low === undefined) return false;
  return kind === 1
    ? blocks.copy(((tag >> 5) << 8) | low, ((tag >> 2) & 7) + 4)
    : blocks.copy(low, (tag >> 2) + 1);
}

/** Little-endian; undefined where the input ends before. */
function numberAt(input: Uint8Array, at: number, bytes: number): number | undefined {
  if (at + bytes > input.length) return undefined;
  let value = 0;
  for (let i = bytes - 1; i >= 0; i--) value = value * 256 + input[at + i]!;
  return value;
}

/** What compresses blocks one after another. */
export class SnappyPacker {
  readonly #matches = new MatchFinder(FRAGMENT);

  /**
   * Compresses one block.
   * @param output at least `maxPackedSnappy(input.length)` bytes
   * @returns bytes written
   */
  pack(input: Uint8Array, output: Uint8Array): number {
    let to = 0;
    let rest = input.length;
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) output[to++] = (rest & 0x7f) | 0x80;
    output[to++] = rest;
    for (let at = 0; at < input.length; at += FRAGMENT) {
      to = this.#fragment(input.subarray(at, at + FRAGMENT), output, to);
    }
    return to;
  }

  #fragment(input: Uint8Array, output: Uint8Array, start: number): number {
    let to = start;
    const rest = this.#matches.find(input, (from, at, distance, length) => {
      to = literals(input, from, at, output, to);
      to = copies(distance, length, output, to);
    });
    return literals(input, rest, input.length, output, to);
  }
}

/** Both directions, for pages. */
export function ownSnappy(): PageCodec {
  const packer = new SnappyPacker();
  const scratch = new Scratch();
  return {
    unpack: unpackSnappy,
    pack: (input, output) =>
      scratch.to(output, packer.pack(input, scratch.of(maxPackedSnappy(input.length)))),
  };
}

/** Longest that a block of `size` bytes can become. */
export const maxPackedSnappy = (size: number): number => 32 + size + Math.floor(size / 6);

function literals(input: Uint8Array, from: number, end: number, output: Uint8Array, start: number): number {
  const length = end - from;
  if (length === 0) return start;
  let to = start;
  if (length <= 60) output[to++] = (length - 1) << 2;
  else if (length <= 0x100) {
    output[to++] = 60 << 2;
    output[to++] = length - 1;
  } else {
    output[to++] = 61 << 2;
    output[to++] = (length - 1) & 0xff;
    output[to++] = (length - 1) >> 8;
  }
  if (length > LONG) output.set(input.subarray(from, end), to);
  else for (let i = 0; i < length; i++) output[to + i] = input[from + i]!;
  return to + length;
}

/** A copy has 64 bytes at most, and one with an 8-bit length 4 to 11. */
function copies(distance: number, length: number, output: Uint8Array, start: number): number {
  let to = start;
  let rest = length;
  while (rest > 0) {
    // What is left must be long enough for a copy of its own.
    const part = rest > 64 && rest < 68 ? 60 : Math.min(rest, 64);
    if (part >= 4 && part <= 11 && distance < 2048) {
      output[to++] = 1 | ((part - 4) << 2) | ((distance >> 8) << 5);
      output[to++] = distance & 0xff;
    } else {
      output[to++] = 2 | ((part - 1) << 2);
      output[to++] = distance & 0xff;
      output[to++] = distance >> 8;
    }
    rest -= part;
  }
  return to;
}
