import { beginsSignature, mayBegin } from "./matcher.ts";
import { mayEndStamp } from "./stamps.ts";
import { ANY, BY_PAIR, BY_QUAD, INSIDE, isMarked, isPairMarked, type Piece } from "./words.ts";

const NEWLINE = 10;
const RETURN = 13;
const ESCAPE = 27;
const CLOSE = 93;
/** Four bytes at once: the highest bit of one below a space is set when SPACES are taken from them, of a `]` likewise. */
const SPACES = 0x20202020;
const CLOSES = 0x5d5d5d5d;
const ONES = 0x01010101;
const HIGHEST = 0x80808080 | 0;
/** Behind all places of a page. */
const NOWHERE = 2 ** 30;
/** Places that are remembered where a text that tells something may begin. */
const MAX_STARTS = 8;

/** Bytes of text, and what is seen of a line in them on the way to its end. Used for lines by the million. */
export class Sight {
  readonly bytes: Buffer;
  readonly quads: Int32Array;
  readonly pairs: Uint16Array;
  /** The first byte to clean away. */
  dirt = NOWHERE;
  /** Whether something is there that may be a stamp. */
  hasStamp = false;
  /** Whether it has a word for which it is looked at whatever else is there. */
  mustLook = false;
  /** Where words are that a text that tells something begins with, and how many. */
  readonly starts = new Uint32Array(MAX_STARTS);
  count = 0;

  /** @param size a multiple of four */
  constructor(size: number) {
    this.bytes = Buffer.alloc(size);
    this.quads = new Int32Array(this.bytes.buffer, this.bytes.byteOffset, size / 4);
    this.pairs = new Uint16Array(this.bytes.buffer, this.bytes.byteOffset, size / 2);
  }

  /** What lies between two places, one byte a character. */
  text(start: number, end: number): string {
    return this.bytes.toString("latin1", start, end);
  }

  /**
   * Finds where a line ends of which all before `from` is known; behind it there has to be a line break.
   * @param isStamped whether a stamp ends there, so that its text is known to begin there
   */
  endOf(from: number, isStamped: boolean): number {
    const { bytes, quads } = this;
    const words = isStamped ? INSIDE : ANY;
    this.dirt = NOWHERE;
    this.hasStamp = false;
    this.mustLook = false;
    this.count = 0;
    for (let index = from >> 2; ; index++) {
      const quad = quads[index]!;
      if (isMarked(words, quad)) this.take(BY_QUAD.get(quad), 4 * index, from);
      const close = quad ^ CLOSES;
      const marks = (((quad - SPACES) & ~quad) | ((close - ONES) & ~close)) & HIGHEST;
      if (marks === 0) continue;
      const until = 4 * index + 4;
      for (let at = Math.max(from, 4 * index); at < until; at++) {
        const byte = bytes[at]!;
        if (byte === NEWLINE) return at;
        if (byte === CLOSE) this.hasStamp ||= mayEndStamp(bytes, at);
        // NUL and backspace are the others.
        else if ((byte === 0 || byte === 8 || byte === ESCAPE || byte === RETURN) && at < this.dirt)
          this.dirt = at;
      }
    }
  }

  /** Whether a text that begins at `message`, behind a stamp, may tell something. */
  tells(message: number): boolean {
    return this.mustLook || mayBegin(this.bytes, message);
  }

  /** Whether a text that tells something may begin anywhere in a line, all of which was seen. */
  hasWord(start: number, end: number): boolean {
    const { pairs } = this;
    for (let index = start >> 1; index < end >> 1; index++) {
      const pair = pairs[index]!;
      if (isPairMarked(pair)) this.take(BY_PAIR.get(pair), 2 * index, start);
    }
    if (this.mustLook) return true;
    for (let i = 0; i < this.count; i++) if (beginsSignature(this.text(this.starts[i]!, end))) return true;
    return false;
  }

  /** Looks which words some bytes are of that begin at `from` or behind it. */
  take(pieces: readonly Piece[] | undefined, at: number, from: number): void {
    for (const { word, offset } of pieces ?? []) {
      const begin = at - offset;
      if (begin < from || !isAt(word.bytes, this.bytes, begin)) continue;
      if (word.kind !== "start" || this.count === MAX_STARTS) this.mustLook = true;
      else this.starts[this.count++] = begin;
    }
  }
}

function isAt(word: Buffer, bytes: Buffer, begin: number): boolean {
  for (let i = 0; i < word.length; i++) if (bytes[begin + i] !== word[i]) return false;
  return true;
}
