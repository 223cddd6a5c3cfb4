import { Margin } from "./margin.ts";
import { isQuoted, parseLine } from "./prefix.ts";

/** A stamp of printk behind anything. */
const STAMP = /\[ {0,6}\d{1,8}\.\d{6}\]/;
const MAX_WRAPPER = 160;
/** So many lines in one shape make it that of the log. */
const ENOUGH = 3;
const MAX_SHAPES = 8;
/**
 * Prefixes that end or begin as quotations do, and are a logger's where more lines have them: `machine # ` of NixOS' tests,
 * `2026-11-20 10:00:00,123 - INFO - ` of Python's logging, `vm kernel - - - ` of RFC 5424, `    a_test.go:45: ` of go test.
 */
const MARKED = /(?:[\w)\]](?: [-#*+]){1,4}|^\s{1,40}[\w./-]{1,80}:\d{1,6}:) $/;
const ENOUGH_MARKED = 8;
/** A host's stamp that looks as the kernel's, and the kernel's behind it: `[ 5000.123456] [    0.000000] `, with a name between. */
const HOST_STAMP = /^\[ {0,8}\d{1,10}\.\d{1,9}\] ?(?:[\w.-]{1,40}(?::| \|) )?(?=\[ {0,6}\d{1,8}\.\d{6}\])/;
const HOST_SHAPE = "^\\[ {0,8}\\d{1,10}\\.\\d{1,9}\\] ?(?:[\\w.-]{1,40}(?::| \\|) (?=\\[))?";
/** The kernel's first words right behind the only stamp. */
const BANNER = /^(?:\[ {0,6}\d{1,8}\.\d{6}\] )?Linux version \d/;
/** Lines with a stamp of their own that firmware may have written before: behind more it is the kernel's. */
const FIRMWARE_LINES = 200;

/**
 * The shape of what stands before a stamp: numbers and gaps may differ, all else is the same line after line. What it ends in
 * is the message's, but for as many spaces as there were.
 */
function shapeOf(prefix: string): string {
  const body = prefix.trimEnd();
  const parts = body.match(/\d+| +|[^\d ]+/g) ?? [];
  const source = parts.map((part) => {
    if (/^\d/.test(part)) return "\\d{1,20}";
    return part[0] === " " ? " {1,40}" : part.replace(/[.*+?^${}()|[\]\\/-]/g, "\\$&");
  });
  const gap = prefix.length - body.length;
  return `^${source.join("")}${gap === 0 ? "" : `(?:[ \\t]{${gap}}|$)`}`;
}

/**
 * Learns what a logger puts before every line, whatever logger that is: `vm1-1  | `, `guest: `, a date and a level. It is
 * learned of lines with the kernel's stamp, in a log that has none without it.
 */
export class Wrappers {
  readonly #counts = new Map<string, number>();
  readonly #known: RegExp[] = [];
  readonly #margin = new Margin(shapeOf);
  #hasMargin = false;
  #bare = 0;
  #hasBanner = false;

  /** Whether lines of the kernel stand by themselves in this log. */
  get isBare(): boolean {
    return this.#bare > 0;
  }

  /** How many wrappers were learned. */
  get count(): number {
    return this.#known.length;
  }

  /** Whether every line has to be looked at, for it may have what the others have. */
  get isWatchful(): boolean {
    return this.#margin.isPossible;
  }

  /** Whether the wrapper that is known is a margin: then no line is without it. */
  get hasMargin(): boolean {
    return this.#hasMargin;
  }

  /** A line has no margin: those that had one were a quotation. */
  dropMargin(): void {
    this.#hasMargin = false;
    this.#known.length = 0;
    this.bare();
  }

  /** Says that the kernel speaks without a wrapper here. */
  bare(): void {
    if (this.#known.length === 0) this.#bare++;
  }

  /** How much of a line is a wrapper that is known. */
  lengthOf(line: string): number {
    for (const shape of this.#known) {
      const found = shape.exec(line);
      if (found !== null) return found[0].length;
    }
    return 0;
  }

  /**
   * Looks at a line for a wrapper: `maybe` when it has what may be one, `learned` when it has been seen often enough.
   * @param isMoved whether the cursor was moved before it: the kernel may speak there though its lines have a wrapper
   */
  learn(line: string, isMoved: boolean): "none" | "maybe" | "learned" {
    const margin = isMoved ? undefined : this.#margin.take(line);
    if (margin !== undefined) {
      this.#hasMargin = true;
      return this.#know(margin);
    }
    const found = this.#look(line, isMoved);
    return found === "none" && this.#margin.isSeen ? "maybe" : found;
  }

  #look(line: string, isMoved: boolean): "none" | "maybe" | "learned" {
    if (!this.#hasBanner && this.#bare < FIRMWARE_LINES && HOST_STAMP.test(line))
      return this.#count(HOST_SHAPE);
    this.#hasBanner ||= BANNER.test(line);
    if (this.isBare) return "none";
    const at = line.search(STAMP);
    // In a wrapper no stamp inside a line counts that the kernel's own prefixes do not explain.
    if (parseLine(line, 0, Number.POSITIVE_INFINITY).uptime !== undefined || /^Linux version \d/.test(line)) {
      if (!isMoved) this.bare();
      return "none";
    }
    if (at <= 0 || at > MAX_WRAPPER) return "none";
    const prefix = line.slice(0, at);
    if (!/[A-Za-z0-9]/.test(prefix)) return "none";
    if (!isQuoted(prefix)) return this.#count(shapeOf(prefix));
    return MARKED.test(prefix) ? this.#count(shapeOf(prefix), ENOUGH_MARKED) : "none";
  }

  #count(shape: string, enough = ENOUGH): "none" | "maybe" | "learned" {
    const count = (this.#counts.get(shape) ?? 0) + 1;
    if (count === 1 && this.#counts.size >= MAX_SHAPES) return "none";
    this.#counts.set(shape, count);
    return count < enough ? "maybe" : this.#know(shape);
  }

  #know(shape: string): "learned" {
    this.#known.push(new RegExp(shape));
    return "learned";
  }
}
