/**
 * 842, the compression of IBM's POWER processors as Linux has it in software (Linux lib/842/842.h): bits from the highest
 * down; every 5-bit operation yields 8 bytes, of data or of indices to earlier output; a CRC ends the stream.
 */

import { GrowingOutput, type Unpacked } from "./unpacked.ts";

/** Operations 0 to 0x19 by what makes up their 8 bytes: d literals, i bytes found by an index. */
const TEMPLATES: readonly string[] = [
  ...["d8", "d4d2i2", "d4i2d2", "d4i2i2", "d4i4", "d2i2d4", "d2i2d2i2", "d2i2i2d2", "d2i2i2i2", "d2i2i4"],
  ...["i2d2d4", "i2d4i2", "i2d2i2d2", "i2d2i2i2", "i2d2i4", "i2i2d4", "i2i2d2i2", "i2i2i2d2", "i2i2i2i2"],
  ...["i2i2i4", "i4d4", "i4d2i2", "i4i2d2", "i4i2i2", "i4i4", "i8"],
];
const STEPS = TEMPLATES.map((template) =>
  [...template.matchAll(/([di])(\d)/g)].map(([, kind, size]) => ({
    index: kind === "i",
    size: Number(size),
  })),
);
/** The last 8 bytes again, 6 bits of how often but once. */
const REPEAT = 0x1b;
const ZEROS = 0x1c;
/** 3 bits of length, and so many bytes: what is left below 8. */
const SHORT_DATA = 0x1d;
/** 32 bits of CRC-32 follow, the bits of each byte taken from the highest down. */
const END = 0x1e;
/** Bits of an index to units of 2, 4 and 8 bytes; it reaches back over a ring of that many units. */
const INDEX_BITS: Readonly<Record<number, number>> = { 2: 8, 4: 9, 8: 8 };
const EIGHT_ZEROS = new Uint8Array(8);

/**
 * Unpacks one stream.
 * @param limit bytes of output at most
 */
export function unpack842(input: Uint8Array, limit: number): Unpacked {
  const bits = new ForwardBits(input);
  const output = new GrowingOutput(limit);
  const end = (fault: Unpacked["fault"]) => output.done(bits.bytesRead, bits.over ? "cut" : fault);
  for (;;) {
    const operation = bits.read(5);
    if (bits.over) return end("cut");
    if (operation === END) {
      const crc = bits.read(16) * 0x1_0000 + bits.read(16);
      return end(crc === crc32(output.bytes.subarray(0, output.length)) ? undefined : "damaged");
    }
    const fault = step(operation, bits, output);
    if (fault !== undefined) return end(fault);
  }
}

function step(operation: number, bits: ForwardBits, output: GrowingOutput): Unpacked["fault"] {
  if (operation === REPEAT) {
    const count = bits.read(6) + 1;
    if (bits.over || output.length < 8) return "damaged";
    return output.repeat(8, 8 * count) ? undefined : "full";
  }
  if (operation === ZEROS) return output.append(EIGHT_ZEROS, 0, 8) ? undefined : "full";
  if (operation === SHORT_DATA) return literals(bits.read(3), bits, output);
  const steps = STEPS[operation];
  if (steps === undefined) return "damaged";
  // Indices count from the last whole operation.
  const total = output.length - (output.length % 8);
  for (const { index, size } of steps) {
    const fault = index ? indexed(size, total, bits, output) : literals(size, bits, output);
    if (fault !== undefined) return fault;
  }
  return undefined;
}

function literals(count: number, bits: ForwardBits, output: GrowingOutput): Unpacked["fault"] {
  for (let i = 0; i < count; i++) {
    const byte = bits.read(8);
    if (bits.over) return "cut";
    if (!output.append(Uint8Array.of(byte), 0, 1)) return "full";
  }
  return undefined;
}

/** Where an index points, as Linux lib/842/842_decompress.c __do_index() has it. */
function indexed(size: number, total: number, bits: ForwardBits, output: GrowingOutput): Unpacked["fault"] {
  const width = INDEX_BITS[size]!;
  const ring = size << width;
  let offset = bits.read(width) * size;
  if (bits.over) return "cut";
  if (total > ring) {
    const section = total - (total % ring);
    offset += offset >= total - section ? section - ring : section;
  }
  if (offset + size > total) return "damaged";
  return output.repeat(output.length - offset, size) ? undefined : "full";
}

/** Bits from the highest of each byte down. */
class ForwardBits {
  readonly #bytes: Uint8Array;
  #bit = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** Whether more was read than there is. */
  get over(): boolean {
    return this.#bit > this.#bytes.length * 8;
  }

  get bytesRead(): number {
    return Math.min(this.#bytes.length, (this.#bit + 7) >> 3);
  }

  /** The next `count` bits, at most 16; zeros behind the end. */
  read(count: number): number {
    const at = this.#bit >> 3;
    const word =
      ((this.#bytes[at] ?? 0) << 16) | ((this.#bytes[at + 1] ?? 0) << 8) | (this.#bytes[at + 2] ?? 0);
    const value = (word >> (24 - (this.#bit & 7) - count)) & ((1 << count) - 1);
    this.#bit += count;
    return value;
  }
}

/** CRC-32 of polynomial 0x04c11db7, high bits first, from 0 and not inverted (Linux lib/crc32.c crc32_be). */
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 24;
  for (let i = 0; i < 8; i++) crc = (crc << 1) ^ (crc < 0 ? 0x04c1_1db7 : 0);
  return crc >>> 0;
});

function crc32(bytes: Uint8Array): number {
  let crc = 0;
  for (const byte of bytes) crc = ((crc << 8) ^ CRC_TABLE[(crc >>> 24) ^ byte]!) >>> 0;
  return crc;
}
