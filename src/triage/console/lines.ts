/** What a line keeps; the rest of a longer one is passed over. printk's own limit is 1024 for one record. */
export const LINE_LIMIT = 4096;

/**
 * Receives each line: characters `start` to `end` of `text`, one byte a character, without its line break.
 * `isWhole`: it lies in one piece of the input, and `text` is that piece.
 */
export type LineSink = (text: string, start: number, end: number, isWhole: boolean) => void;

/** Splits text into lines; keeps at most LINE_LIMIT bytes of the one that has not ended. */
export class LineSplitter {
  /** Lines that were cut. */
  cut = 0;
  readonly #sink: LineSink;
  #rest = "";
  #restIsCut = false;

  constructor(sink: LineSink) {
    this.#sink = sink;
  }

  push(text: string): void {
    let start = 0;
    for (let end = text.indexOf("\n"); end !== -1; end = text.indexOf("\n", start)) {
      if (this.#rest !== "") this.#finish(text.slice(start, end));
      else this.#line(text, start, end);
      start = end + 1;
    }
    if (start < text.length) this.#keep(text.slice(start, start + LINE_LIMIT), text.length - start);
  }

  /** Gives the last line, if it had no line break. */
  end(): void {
    if (this.#rest !== "") this.#finish("");
  }

  #line(text: string, start: number, end: number): void {
    if (end - start > LINE_LIMIT) this.cut++;
    this.#sink(text, start, Math.min(end, start + LINE_LIMIT), true);
  }

  /** @param length of what `text` is the beginning of */
  #keep(text: string, length: number): void {
    const room = LINE_LIMIT - this.#rest.length;
    if (length > room) this.#restIsCut = true;
    this.#rest += text.slice(0, room);
  }

  #finish(text: string): void {
    this.#keep(text, text.length);
    const line = this.#rest;
    if (this.#restIsCut) this.cut++;
    this.#rest = "";
    this.#restIsCut = false;
    this.#sink(line, 0, line.length, false);
  }
}

/** Whether bytes need cleaning: escapes, NULs, backspaces, and carriage returns inside a line. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters to clean away
export const DIRTY = /[\x00\x08\x1b]|\r[^\r\n]/;

/** ECMA-48 control sequences that move the cursor or clear: what follows stands elsewhere, on a line of its own. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control sequences begin with one
const MOVES = /\x1b(?:\[[0-9;?=]{0,32}[HJfABEF]|c)/g;
/** All other control sequences: CSI, OSC, and those of two characters. Bounded, so that none can make it slow. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control sequences begin with one
const SEQUENCES = /\x1b(?:\[[0-?]{0,64}[ -/]{0,8}[@-~]|\][^\x07\x1b]{0,256}(?:\x07|\x1b\\)|[ -/]{0,4}[0-~])/g;
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters to clean away
const CONTROLS = /[\x00\x08\x1b]/g;

/** A dirty line as a terminal would have shown it, in the pieces that its carriage returns and cursor moves make. */
export const cleanPieces = (line: string): string[] =>
  line
    .replace(MOVES, "\r")
    .replace(SEQUENCES, "")
    .replace(CONTROLS, "")
    .split("\r")
    .filter((piece) => piece !== "");
