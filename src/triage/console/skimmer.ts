import { Headers } from "./headers.ts";
import { cleanPieces, copyUnpainted, DIRTY, LINE_LIMIT } from "./lines.ts";
import type { ConsoleLine } from "./prefix.ts";
import { Sight } from "./sight.ts";
import { NO_STAMP, type Stamp, stampAt } from "./stamps.ts";

/** Looks at the lines that may tell something, and hears of the others what time it is. */
export interface LineReader {
  /** Whether all lines have to be looked at, whatever is in them. */
  readonly isAttentive: boolean;
  /** Whether no logger's wrapper is known, so that a stamp at the beginning of a line is the kernel's. */
  readonly isPlain: boolean;
  /** Whether this boot has a time: before that a stamp behind something may be another's. */
  readonly isTimed: boolean;
  /**
   * A line that tells nothing but its time; false when it has to be looked at after all.
   * @param stamp its time is NaN without one
   */
  pass(number: number, stamp: Stamp, isLevelled: boolean): boolean;
  /**
   * @param before gives the line before it, as it was
   * @param isMoved whether the cursor was moved behind the line's beginning, so that no logger's wrapper stands before it
   * @returns what was made of it, where lines with the same header are taken apart in the same way
   */
  look(line: string, number: number, before: () => string, isMoved?: boolean): ConsoleLine | undefined;
}

/** Small pieces stay in the processor's cache. */
const PIECE = 2 ** 16;
const NEWLINE = 10;
const RETURN = 13;
const SPACE = 32;
const COLON = 58;
/** Longest name of a host. */
const MAX_HOST = 64;
const KERNEL = Buffer.from(" kernel: ");

/**
 * Splits a text into lines, of which at most LINE_LIMIT bytes count, and sees of most, without taking them apart, that
 * they tell nothing: they have no word of a signature, and a stamp where the lines before have it, or none.
 */
export class Skimmer {
  /** Lines so far, and those of them that were cut. */
  lines = 0;
  cut = 0;
  readonly #reader: LineReader;
  readonly #page = new Sight(LINE_LIMIT + PIECE + 16);
  /** A line without its colours. */
  readonly #unpainted = new Sight(LINE_LIMIT + 16);
  readonly #headers = new Headers();
  readonly #stamp: Stamp = { uptime: Number.NaN };
  /** Bytes of the page: a line that has not ended. */
  #filled = 0;
  #isCut = false;
  #isLevelled = false;
  /** The last line that is not empty: within the page, and when that is used anew. */
  #lastStart = 0;
  #lastEnd = 0;
  #lastNumber = 0;
  #lastText = "";
  /** The one before that, if it is within the page. */
  #beforeStart = 0;
  #beforeEnd = 0;

  constructor(reader: LineReader) {
    this.#reader = reader;
  }

  /** The last line that is not empty, and its number; 0 when there is none. */
  get last(): { readonly text: string; readonly number: number } {
    return { text: this.#lastText, number: this.#lastNumber };
  }

  push(bytes: Uint8Array): void {
    for (let start = 0; start < bytes.length; start += PIECE)
      this.#push(bytes.subarray(start, start + PIECE));
  }

  /** Gives the last line, if it had no line break. */
  end(): void {
    if (this.#filled > 0) this.#push(Uint8Array.of(NEWLINE));
  }

  #push(bytes: Uint8Array): void {
    const { bytes: page } = this.#page;
    let piece = bytes;
    if (this.#isCut) {
      const end = bytes.indexOf(NEWLINE);
      if (end < 0) return;
      piece = bytes.subarray(end);
      this.#isCut = false;
      this.cut++;
    }
    page.set(piece, this.#filled);
    const last = piece.lastIndexOf(NEWLINE);
    const until = this.#filled + last + 1;
    this.#filled += piece.length;
    if (last >= 0) {
      this.#skim(until);
      page.copyWithin(0, until, this.#filled);
      this.#filled -= until;
    }
    if (this.#filled > LINE_LIMIT) {
      this.#filled = LINE_LIMIT;
      this.#isCut = true;
    }
  }

  /** @param until where a line begins */
  #skim(until: number): void {
    const before = this.#lastNumber;
    this.#lastStart = this.#lastEnd = 0;
    for (let start = 0; start < until; ) start = this.#line(start) + 1;
    if (this.#lastNumber > before) this.#lastText = this.#page.text(this.#lastStart, this.#lastEnd);
  }

  /** @returns where the line ends */
  #line(start: number): number {
    this.lines++;
    const page = this.#page;
    const { bytes } = page;
    if (this.#reader.isAttentive) {
      const end = bytes.indexOf(NEWLINE, start);
      const last = this.#lastOf(start, end);
      if (last > start) this.#look(start, last);
      return end;
    }
    const message = this.#messageOf(page, start);
    const end = page.endOf(message === NO_STAMP ? start : message, message !== NO_STAMP);
    const last = this.#lastOf(start, end);
    if (last === start) return end;
    if (page.dirt < last) {
      if (!this.#isPaint(start, last)) this.#look(start, last);
    } else if (!this.#isDull(page, start, message, last)) {
      const parsed = this.#look(start, last);
      if (page.hasStamp && parsed !== undefined) this.#headers.learn(page.text(start, last), parsed);
    }
    return end;
  }

  /** Where a message begins before which there is what the kernel and loggers put there, or NO_STAMP. */
  #messageOf({ bytes }: Sight, start: number): number {
    const reader = this.#reader;
    this.#isLevelled = false;
    const message = reader.isPlain ? stampAt(bytes, start, this.#stamp) : NO_STAMP;
    if (message !== NO_STAMP && namesHost(bytes, message)) return NO_STAMP;
    if (message !== NO_STAMP || !reader.isTimed) return message;
    const behind = this.#headers.messageAt(bytes, start, this.#stamp);
    if (behind !== NO_STAMP) this.#isLevelled = this.#headers.isLevelled;
    return behind;
  }

  /** Whether a line, through which `endOf` went, tells nothing but its time. */
  #isDull(page: Sight, start: number, message: number, last: number): boolean {
    // Behind a stamp that ends the line there is no message.
    if (page.hasStamp || message > last) return false;
    if (message === NO_STAMP) this.#stamp.uptime = Number.NaN;
    const tells = message === NO_STAMP ? page.hasWord(start, last) : page.tells(message);
    return !tells && this.#reader.pass(this.lines, this.#stamp, this.#isLevelled);
  }

  /** Whether a line tells nothing and is dirty of colours alone. */
  #isPaint(start: number, last: number): boolean {
    const page = this.#unpainted;
    const length = copyUnpainted(this.#page.bytes, start, last, page.bytes);
    if (length <= 0) return false;
    page.bytes[length] = NEWLINE;
    const message = this.#messageOf(page, 0);
    page.endOf(message === NO_STAMP ? 0 : message, message !== NO_STAMP);
    return this.#isDull(page, 0, message, length);
  }

  #look(start: number, last: number): ConsoleLine | undefined {
    const line = this.#page.text(start, last);
    if (!DIRTY.test(line)) return this.#reader.look(line, this.lines, this.#before);
    let before = this.#before;
    for (const [index, piece] of cleanPieces(line).entries()) {
      this.#reader.look(piece, this.lines, before, index > 0);
      before = () => piece;
    }
    return undefined;
  }

  #before = (): string => {
    const isHere = this.#beforeEnd > 0;
    const line = isHere ? this.#page.text(this.#beforeStart, this.#beforeEnd) : this.#lastText;
    return cleanPieces(line).at(-1) ?? "";
  };

  /** Where a line ends without what stands behind its last word; what lies beyond the limit does not count. */
  #lastOf(start: number, end: number): number {
    const { bytes } = this.#page;
    let last = end;
    if (end - start > LINE_LIMIT) {
      this.cut++;
      last = start + LINE_LIMIT;
    }
    while (last > start && (bytes[last - 1] === RETURN || bytes[last - 1] === SPACE)) last--;
    if (last > start) {
      this.#beforeStart = this.#lastStart;
      this.#beforeEnd = this.#lastEnd;
      this.#lastStart = start;
      this.#lastEnd = last;
      this.#lastNumber = this.lines;
    }
    return last;
  }
}

/** Whether `host kernel: ` stands there, as journalctl has it behind the kernel's stamp. */
function namesHost(bytes: Uint8Array, message: number): boolean {
  let at = message;
  while (bytes[at]! > SPACE && at - message <= MAX_HOST) at++;
  if (bytes[at + KERNEL.length - 2] !== COLON) return false;
  return KERNEL.every((byte, index) => bytes[at + index] === byte);
}
