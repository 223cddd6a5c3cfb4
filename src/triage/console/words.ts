import { LANDMARKS } from "./landmarks.ts";
import { SIGNATURES } from "./signatures/index.ts";

/**
 * Finds, in bytes, the words that a line has to have if it is to tell anything. Bytes are compared four at a time, where
 * they lie at an address that four divides: a word of seven bytes or more has four such bytes wherever it begins. Of
 * shorter words two bytes at an even address are enough.
 */

/** What a word that is there means. */
export interface Word {
  readonly bytes: Buffer;
  /**
   * `start`: only a text that begins with it may tell something; `inside`: any line with it may; `look`: a line with it is
   * looked at where it is not known where its text begins.
   */
  readonly kind: "start" | "inside" | "look";
}

/** A word, and where in it some of its bytes are. */
export interface Piece {
  readonly word: Word;
  readonly offset: number;
}

/** Shorter words have no four bytes at an address that four divides. */
const LONG = 7;
/** Spreads the bits of four bytes over the upper half. */
const SPREAD = 0x9e3779b1;

/**
 * A bit for each upper half of a spread quad, set where it may be of a word: of one that counts in any line, and of any. They
 * are small enough for the processor's nearest cache.
 */
export const INSIDE = new Int32Array(2 ** 11);
export const ANY = new Int32Array(2 ** 11);
/** A bit for each pair of bytes, set where it is of a short word. */
const PAIRS = new Int32Array(2 ** 11);
/** A shift takes the lowest five bits of the slot. */
export const isMarked = (table: Int32Array, quad: number): boolean => {
  const slot = Math.imul(quad, SPREAD) >>> 16;
  return (table[slot >>> 5]! & (1 << slot)) !== 0;
};

export const isPairMarked = (pair: number): boolean => (PAIRS[pair >>> 5]! & (1 << pair)) !== 0;

function mark(table: Int32Array, quad: number): void {
  const slot = Math.imul(quad, SPREAD) >>> 16;
  table[slot >>> 5]! |= 1 << slot;
}

/** Of which words four bytes may be. */
export const BY_QUAD = new Map<number, Piece[]>();
export const BY_PAIR = new Map<number, Piece[]>();

function allWords(): Word[] {
  const kinds = new Map<string, Word["kind"]>();
  for (const { starts = [] } of SIGNATURES) for (const start of starts) kinds.set(start, "start");
  for (const { starts } of LANDMARKS) for (const start of starts) kinds.set(start, "look");
  for (const { contains } of SIGNATURES) if (contains !== undefined) kinds.set(contains, "inside");
  return [...kinds].map(([text, kind]) => ({ bytes: Buffer.from(text, "latin1"), kind }));
}

/** How often a byte is met in logs, roughly. */
function frequency(byte: number): number {
  const char = String.fromCharCode(byte);
  if (char === " ") return 12;
  if (/[a-z]/.test(char)) return "etaoinsr".includes(char) ? 8 : 3;
  return /[0-9=:.-]/.test(char) ? 5 : 1;
}

/** Of the places in a word that an address of each remainder may have, the one with the rarest bytes. */
function rarest(bytes: Buffer, width: number): number[] {
  const best: number[] = [];
  const least: number[] = [];
  for (let offset = 0; offset + width <= bytes.length; offset++) {
    const cost = bytes
      .subarray(offset, offset + width)
      .reduce((product, byte) => product * frequency(byte), 1);
    if (cost < (least[offset % width] ?? Number.POSITIVE_INFINITY)) {
      best[offset % width] = offset;
      least[offset % width] = cost;
    }
  }
  return best;
}

const scratch = Buffer.alloc(4);
const quadOf = new Int32Array(scratch.buffer, scratch.byteOffset, 1);
const pairOf = new Uint16Array(scratch.buffer, scratch.byteOffset, 1);
for (const word of allWords()) {
  const isLong = word.bytes.length >= LONG;
  for (const offset of rarest(word.bytes, isLong ? 4 : 2)) {
    word.bytes.copy(scratch, 0, offset);
    const key = isLong ? quadOf[0]! : pairOf[0]!;
    if (isLong) mark(ANY, key);
    else PAIRS[key >>> 5]! |= 1 << key;
    if (word.kind === "inside") mark(INSIDE, key);
    const pieces = isLong ? BY_QUAD : BY_PAIR;
    pieces.set(key, [...(pieces.get(key) ?? []), { word, offset }]);
  }
}
