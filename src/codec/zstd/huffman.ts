import { CorruptError } from "../../core/errors.ts";
import { BackwardBits, highestBit } from "./bits.ts";
import { readFseTable } from "./fse.ts";

const MAX_BITS = 11;

/** Decoding table of literals: indexed by the next `maxBits` bits, `length << 8 | symbol`. */
export interface HuffmanTable {
  readonly maxBits: number;
  readonly entries: Uint16Array;
}

/**
 * Decodes a Huffman tree description (RFC 8878 §4.2.1) in bytes [start, end).
 * @returns the table and the offset behind its description
 * @throws CorruptError
 */
export function readHuffmanTable(
  bytes: Uint8Array,
  start: number,
  end: number,
): { readonly table: HuffmanTable; readonly end: number } {
  const header = bytes[start]!;
  const length = header < 128 ? header : (header - 126) >> 1;
  const behind = start + 1 + length;
  if (start >= end || behind > end) throw damaged();
  const weights =
    header < 128
      ? compressedWeights(bytes, start + 1, behind)
      : directWeights(bytes, start + 1, header - 127);
  return { table: tableOf(weights), end: behind };
}

const directWeights = (bytes: Uint8Array, start: number, count: number): number[] =>
  Array.from({ length: count }, (_, i) => {
    const pair = bytes[start + (i >> 1)]!;
    return i % 2 === 0 ? pair >> 4 : pair & 15;
  });

/** Weights coded by two interleaved FSE states; the stream ends where a state cannot be refilled. */
function compressedWeights(bytes: Uint8Array, start: number, end: number): number[] {
  const { table, end: streamStart } = readFseTable(bytes, start, end, 6, MAX_BITS + 1);
  const bits = new BackwardBits(bytes);
  if (!bits.open(streamStart, end)) throw damaged();
  const weights: number[] = [];
  let state = bits.read(table.accuracyLog);
  let other = bits.read(table.accuracyLog);
  if (bits.left < 0) throw damaged();
  while (weights.length < 255) {
    weights.push(table.symbol[state]!);
    const count = table.bitCount[state]!;
    if (bits.left < count) {
      weights.push(table.symbol[other]!);
      return weights;
    }
    const refilled = table.baseline[state]! + bits.read(count);
    state = other;
    other = refilled;
  }
  throw damaged();
}

/** The weight of the last symbol is left out: it is what completes a power of two. */
function tableOf(weights: number[]): HuffmanTable {
  if (weights.length > 255) throw damaged();
  let sum = 0;
  for (const weight of weights) {
    if (weight > MAX_BITS) throw damaged();
    sum += weight === 0 ? 0 : 1 << (weight - 1);
  }
  if (sum === 0) throw damaged();
  const maxBits = highestBit(sum) + 1;
  const rest = (1 << maxBits) - sum;
  if (maxBits > MAX_BITS || (rest & (rest - 1)) !== 0) throw damaged();
  const all = [...weights, highestBit(rest) + 1];
  return { maxBits, entries: entriesOf(all, maxBits) };
}

/** Codes are given out by weight, the longest code first, and by symbol within a weight. */
function entriesOf(weights: readonly number[], maxBits: number): Uint16Array {
  const entries = new Uint16Array(1 << maxBits);
  const next = new Uint16Array(MAX_BITS + 2);
  for (const weight of weights) if (weight > 0) next[weight + 1]! += 1 << (weight - 1);
  for (let weight = 1; weight <= MAX_BITS; weight++) next[weight + 1]! += next[weight]!;
  for (let symbol = 0; symbol < weights.length; symbol++) {
    const weight = weights[symbol]!;
    if (weight === 0) continue;
    const entry = ((maxBits + 1 - weight) << 8) | symbol;
    const end = next[weight]! + (1 << (weight - 1));
    for (let at = next[weight]!; at < end; at++) entries[at] = entry;
    next[weight] = end;
  }
  return entries;
}

/**
 * Decodes one Huffman stream in bytes [start, end) of `bytes` (with the margin of BackwardBits) into
 * target[from, to).
 * @throws CorruptError when it does not hold exactly that many symbols
 */
export function decodeHuffman(
  table: HuffmanTable,
  bytes: Buffer,
  view: DataView,
  start: number,
  end: number,
  target: Uint8Array,
  from: number,
  to: number,
): void {
  const { maxBits, entries } = table;
  const last = end > start ? bytes[end - 1]! : 0;
  if (last === 0) throw damaged();
  const mask = (1 << maxBits) - 1;
  let left = (end - start) * 8 - Math.clz32(last) + 23;
  let at = from;
  // Two symbols a load: 25 bits are certain in each, 22 the most two symbols take.
  while (left >= 25 && at + 1 < to) {
    const low = left - 25;
    const word = view.getUint32(start + (low >> 3), true) >>> (low & 7);
    const first = entries[(word >>> (25 - maxBits)) & mask]!;
    const used = first >> 8;
    const second = entries[(word >>> (25 - maxBits - used)) & mask]!;
    target[at] = first;
    target[at + 1] = second;
    at += 2;
    left -= used + (second >> 8);
  }
  while (at < to && left > 0) {
    // Bits before the start of the stream read as zeros.
    const low = Math.max(0, left - maxBits);
    const word = (view.getUint32(start + (low >> 3), true) >>> (low & 7)) & ((1 << (left - low)) - 1);
    const entry = entries[word << (maxBits - (left - low))]!;
    target[at++] = entry;
    left -= entry >> 8;
  }
  if (left !== 0 || at !== to) throw damaged();
}

const damaged = (): CorruptError => new CorruptError("zstd: a Huffman table or stream is invalid");
