import { CorruptError } from "../../core/errors.ts";
import { highestBit } from "./bits.ts";

/** Decoding table of one Finite State Entropy alphabet: per state a symbol, and how to get to the next state. */
export interface FseTable {
  readonly accuracyLog: number;
  readonly symbol: Uint8Array;
  readonly bitCount: Uint8Array;
  readonly baseline: Uint16Array;
}

/** Table that always yields one symbol (RFC 8878 §3.1.1.3.2.1, RLE_Mode). */
export const rleTable = (symbol: number): FseTable => ({
  accuracyLog: 0,
  symbol: Uint8Array.of(symbol),
  bitCount: new Uint8Array(1),
  baseline: new Uint16Array(1),
});

/**
 * Spreads normalised probabilities over the states (RFC 8878 §4.1.1).
 * @param counts per symbol its share of 2^accuracyLog states; -1 is "less than one"
 */
export function fseTable(counts: readonly number[], accuracyLog: number): FseTable {
  const size = 1 << accuracyLog;
  const symbol = new Uint8Array(size);
  const bitCount = new Uint8Array(size);
  const baseline = new Uint16Array(size);
  const next = new Uint16Array(counts.length);
  let high = size;
  for (let s = 0; s < counts.length; s++) {
    const count = counts[s]!;
    if (count === -1) symbol[--high] = s;
    next[s] = count === -1 ? 1 : count;
  }
  const step = (size >> 1) + (size >> 3) + 3;
  let position = 0;
  for (let s = 0; s < counts.length; s++) {
    for (let i = 0; i < counts[s]!; i++) {
      symbol[position] = s;
      do position = (position + step) & (size - 1);
      while (position >= high);
    }
  }
  for (let state = 0; state < size; state++) {
    const share = next[symbol[state]!]!++;
    const bits = accuracyLog - highestBit(share);
    bitCount[state] = bits;
    baseline[state] = (share << bits) - size;
  }
  return { accuracyLog, symbol, bitCount, baseline };
}

/**
 * Decodes a table description (RFC 8878 §4.1.1) that starts at `start` and must end before `end`.
 * @param symbols number of symbols of the alphabet
 * @returns the table and the offset behind its description
 * @throws CorruptError
 */
export function readFseTable(
  bytes: Uint8Array,
  start: number,
  end: number,
  maxAccuracyLog: number,
  symbols: number,
): { readonly table: FseTable; readonly end: number } {
  const accuracyLog = (bytes[start]! & 15) + 5;
  if (start >= end || accuracyLog > maxAccuracyLog) throw damaged();
  const counts: number[] = [];
  let bit = start * 8 + 4;
  const peek = (count: number): number => {
    const at = bit >> 3;
    const word = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16);
    return (word >> (bit & 7)) & ((1 << count) - 1);
  };
  let remaining = 1 << accuracyLog;
  while (remaining > 0 && counts.length < symbols) {
    const bits = highestBit(remaining + 1) + 1;
    // Values below `short` take one bit less.
    const short = (1 << bits) - 1 - (remaining + 1);
    let value = peek(bits - 1);
    if (value < short) bit += bits - 1;
    else {
      value = peek(bits);
      if (value >= 1 << (bits - 1)) value -= short;
      bit += bits;
    }
    counts.push(value - 1);
    remaining -= Math.abs(value - 1);
    if (value !== 1) continue;
    for (let zeros = 3; zeros === 3; ) {
      zeros = peek(2);
      bit += 2;
      for (let i = 0; i < zeros; i++) counts.push(0);
      if (counts.length > symbols) throw damaged();
    }
  }
  const behind = (bit + 7) >> 3;
  if (remaining !== 0 || behind > end) throw damaged();
  return { table: fseTable(counts, accuracyLog), end: behind };
}

const damaged = (): CorruptError => new CorruptError("zstd: an FSE table is invalid");
