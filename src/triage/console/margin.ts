/** A stamp of printk, and before it what somebody puts before lines: indentation, a mail's or a comment's mark, a number. */
const MARGINAL =
  /^(?:\s{1,40}|\s{0,40}(?:(?:[>|#*]|\/\/)\s{0,8}){1,4}|\s{0,12}\d{1,8}(?: ?[:|]\s{0,8}|\s{1,8}))(?=\[ {0,6}\d{1,8}\.\d{6}\])/;
/** How the first line of a log with a margin begins. */
const MARK = /^(?:[\s>|#*]|\/\/|\d{1,8}(?: ?[:|]|\s))/;
/** So many lines of the kernel have it. */
const ENOUGH = 8;
/** Lines before the first of the kernel that are kept to be compared. */
const MAX_FIRST = 32;
/** When so many lines have passed, none is looked for. */
export const MAX_LINES = 1000;

/**
 * What stands before every line of a log from its first on: all of it was pasted into a mail, a comment, a list or a block of
 * code. Where other lines have none, the ones that have it are a quotation.
 */
export class Margin {
  /** Whether the lines to come may show one. */
  isPossible = true;
  readonly #shapeOf: (prefix: string) => string;
  readonly #first: string[] = [];
  #source: string | undefined;
  #shape = MARGINAL;
  #lines = 0;
  #count = 0;

  constructor(shapeOf: (prefix: string) => string) {
    this.#shapeOf = shapeOf;
  }

  /** Whether lines so far have one. */
  get isSeen(): boolean {
    return this.isPossible && this.#source !== undefined;
  }

  /** @returns the margin's shape, once enough lines have shown it */
  take(line: string): string | undefined {
    if (!this.isPossible || line.trim() === "") return undefined;
    this.isPossible = this.#fits(line);
    if (!this.isPossible || this.#count < ENOUGH) return undefined;
    this.isPossible = false;
    return this.#source;
  }

  #fits(line: string): boolean {
    if (++this.#lines > MAX_LINES || (this.#lines === 1 && !MARK.test(line))) return false;
    if (this.#source === undefined) {
      const [margin] = MARGINAL.exec(line) ?? [];
      if (margin === undefined) {
        if (this.#first.length < MAX_FIRST) this.#first.push(line);
        return true;
      }
      // Numbers fill the room before them.
      this.#source = this.#shapeOf(margin).replace(/^\^ \{1,/, "^ {0,");
      this.#shape = new RegExp(this.#source);
    }
    if (![...this.#first, line].every((one) => this.#shape.test(one))) return false;
    this.#first.length = 0;
    if (MARGINAL.test(line)) this.#count++;
    return true;
  }
}
