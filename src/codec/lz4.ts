/**
 * LZ4 blocks without a frame (lz4 doc/lz4_Block_format.md), as Linux's crypto API makes them with lz4 and lz4hc alike. A
 * block has no end mark and no length: it ends with the input, in literals.
 */

import { GrowingOutput, type Unpacked } from "./unpacked.ts";

const MIN_MATCH = 4;
/** A length of 15 in a token goes on in bytes, as long as they are 255. */
const MORE = 15;

/**
 * Unpacks one block that takes all of the input.
 * @param limit bytes of output at most
 */
export function unpackLz4(input: Uint8Array, limit: number): Unpacked {
  const output = new GrowingOutput(limit);
  let at = 0;
  /** The rest of a length; undefined where the input ends. */
  const extended = (nibble: number): number | undefined => {
    let length = nibble;
    for (let byte = nibble === MORE ? 255 : 0; byte === 255; length += byte) {
      if (at >= input.length) return undefined;
      byte = input[at++]!;
    }
    return length;
  };
  while (at < input.length) {
    const token = input[at++]!;
    const literals = extended(token >> 4);
    if (literals === undefined) return output.done(at, "cut");
    const there = Math.min(literals, input.length - at);
    if (!output.append(input, at, there)) return output.done(at, "full");
    at += there;
    if (there < literals) return output.done(at, "cut");
    if (at === input.length) return output.done(at, undefined);
    if (at + 2 > input.length) return output.done(input.length, "cut");
    const distance = input[at]! | (input[at + 1]! << 8);
    at += 2;
    if (distance === 0 || distance > output.length) return output.done(at, "damaged");
    const length = extended(token & MORE);
    if (length === undefined) return output.done(at, "cut");
    if (!output.repeat(distance, length + MIN_MATCH)) return output.done(at, "full");
  }
  return output.done(at, "cut");
}
