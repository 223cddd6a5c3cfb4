/** Bytes of JSON's grammar. */
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const NEWLINE = 0x0a;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;
const COLON = 0x3a;
const COMMA = 0x2c;

/** Deeper nesting is refused: QMP's deepest answer, query-qmp-schema, has 6 levels. */
export const MAX_DEPTH = 64;

export type Step = "more" | "done" | "syntax" | "deep";

type Expected = "value" | "value-or-end" | "key" | "key-or-end" | "colon" | "comma-or-end";

/**
 * Finds the end of one JSON object byte by byte, strictly enough that text which only looks like one ends at its first
 * wrong byte: a message that was cut off does not swallow what comes after it. JSON.parse is the judge of the rest.
 */
export class JsonScan {
  readonly #stack = new Uint8Array(MAX_DEPTH);
  #depth = 0;
  #expected: Expected = "value";
  #string: "key" | "value" | undefined;
  #escaped = false;
  #scalar = false;
  #last = 0;
  #lines = 0;

  /** Begins anew; the first byte stepped over is the opening brace. */
  reset(): void {
    this.#depth = 0;
    this.#expected = "value";
    this.#string = undefined;
    this.#escaped = false;
    this.#scalar = false;
    this.#last = 0;
    this.#lines = 0;
  }

  /** Whether the object's first key has begun: before that a brace is no more than a brace. */
  get begun(): boolean {
    return this.#depth > 1 || this.#expected !== "key-or-end" || this.#string !== undefined;
  }

  step(byte: number): Step {
    const last = this.#last;
    this.#last = byte;
    if (this.#string !== undefined) return this.#inString(byte);
    if (byte === NEWLINE) this.#lines++;
    if (this.#scalar) {
      if (isScalar(byte)) return "more";
      this.#scalar = false;
      this.#expected = "comma-or-end";
    }
    if (byte === 0x20 || byte === NEWLINE || byte === 0x0d || byte === 0x09) return "more";
    // An object in the first column of a later line is a new message: the one before it was cut off.
    if (byte === OPEN_OBJECT && last === NEWLINE && this.#lines > 0 && this.#inObject) return "syntax";
    return this.#structural(byte);
  }

  get #inObject(): boolean {
    return this.#depth > 0 && this.#stack[this.#depth - 1] === OPEN_OBJECT;
  }

  #inString(byte: number): Step {
    if (this.#escaped) this.#escaped = false;
    else if (byte === BACKSLASH) this.#escaped = true;
    else if (byte === QUOTE) {
      this.#expected = this.#string === "key" ? "colon" : "comma-or-end";
      this.#string = undefined;
    }
    // A control character, a line end most of all, cannot be in a string.
    return byte < 0x20 ? "syntax" : "more";
  }

  #structural(byte: number): Step {
    switch (byte) {
      case OPEN_OBJECT:
      case OPEN_ARRAY:
        return this.#wantsValue ? this.#open(byte) : "syntax";
      case CLOSE_OBJECT:
      case CLOSE_ARRAY:
        return this.#close(byte);
      case QUOTE:
        return this.#beginString();
      case COLON:
        return this.#move("colon", "value");
      case COMMA:
        return this.#move("comma-or-end", this.#inObject ? "key" : "value");
      default:
        if (!this.#wantsValue || !isScalar(byte) || this.#depth === 0) return "syntax";
        this.#scalar = true;
        return "more";
    }
  }

  get #wantsValue(): boolean {
    return this.#expected === "value" || this.#expected === "value-or-end";
  }

  #open(byte: number): Step {
    if (this.#depth === MAX_DEPTH) return "deep";
    this.#stack[this.#depth++] = byte;
    this.#expected = byte === OPEN_OBJECT ? "key-or-end" : "value-or-end";
    return "more";
  }

  #close(byte: number): Step {
    const opener = byte === CLOSE_OBJECT ? OPEN_OBJECT : OPEN_ARRAY;
    const empty = byte === CLOSE_OBJECT ? "key-or-end" : "value-or-end";
    if (this.#depth === 0 || this.#stack[this.#depth - 1] !== opener) return "syntax";
    if (this.#expected !== "comma-or-end" && this.#expected !== empty) return "syntax";
    this.#depth--;
    this.#expected = "comma-or-end";
    return this.#depth === 0 ? "done" : "more";
  }

  #beginString(): Step {
    if (this.#expected === "key" || this.#expected === "key-or-end") this.#string = "key";
    else if (this.#wantsValue) this.#string = "value";
    else return "syntax";
    return "more";
  }

  #move(from: Expected, to: Expected): Step {
    if (this.#expected !== from) return "syntax";
    this.#expected = to;
    return "more";
  }
}

/** Digits, letters of true, false and null, and the rest of a number. */
const isScalar = (byte: number): boolean =>
  (byte >= 0x30 && byte <= 0x39) ||
  (byte >= 0x61 && byte <= 0x7a) ||
  byte === 0x2d ||
  byte === 0x2b ||
  byte === 0x2e ||
  byte === 0x45;
