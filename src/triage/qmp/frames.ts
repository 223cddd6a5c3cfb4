import { JsonScan, type Step } from "./json-scan.ts";

/** A JSON object somewhere in a text. */
export interface JsonPiece {
  readonly kind: "json";
  readonly text: string;
  /** What stands before it on the line it begins on, other objects left out; at most {@link HEAD_LIMIT} bytes. */
  readonly head: string;
  /** Line it begins on, from 1. */
  readonly line: number;
}

/** A line that is not JSON alone. */
export interface TextPiece {
  readonly kind: "text";
  /** What is outside of the JSON objects of the line. */
  readonly text: string;
  /** All of the line, at most {@link RAW_LIMIT} bytes: a QEMU command line has JSON in it. */
  readonly raw: string;
  readonly line: number;
}

/** A JSON object that is cut off, wrong, too deep or too long. */
export interface DamagedPiece {
  readonly kind: "damaged";
  readonly reason: "cut" | "syntax" | "deep" | "long";
  readonly line: number;
}

export type Piece = JsonPiece | TextPiece | DamagedPiece;

/** A longer object is passed over: query-qmp-schema, the longest answer there is, takes 300 KiB. */
export const JSON_LIMIT = 2 ** 21;
const HEAD_LIMIT = 1024;
const TEXT_LIMIT = 4096;
/** A command line of libvirt with many disks takes 20 KiB. */
const RAW_LIMIT = 2 ** 17;

const NEWLINE = 0x0a;
const BRACE = 0x7b;
const BACKSLASH = 0x5c;
const QUOTE = 0x22;

/**
 * Finds JSON objects and lines in a stream of bytes: one object a line, several, pretty-printed ones over many lines,
 * and objects in the C strings of strace (`"{\"event\": …}\r\n"`). Each byte is looked at once; memory is bounded.
 */
export class FrameReader {
  readonly #emit: (piece: Piece) => void;
  readonly #scan = new JsonScan();
  readonly #json = new Bag(JSON_LIMIT);
  readonly #head = new Bag(HEAD_LIMIT);
  readonly #text = new Bag(TEXT_LIMIT);
  readonly #raw = new Bag(RAW_LIMIT);
  #mode: "text" | "json" | "escaped" = "text";
  #line = 1;
  #startLine = 1;
  #escape = false;

  constructor(emit: (piece: Piece) => void) {
    this.#emit = emit;
  }

  push(bytes: Uint8Array): void {
    const { length } = bytes;
    let from = 0;
    while (from < length)
      from = this.#mode === "text" ? this.#readText(bytes, from) : this.#readJson(bytes, from);
  }

  end(): void {
    if (this.#mode !== "text" && this.#scan.begun) this.#damaged("cut");
    this.#mode = "text";
    this.#endLine();
  }

  /** Takes text up to a line end or a brace. @returns where it went on to */
  #readText(bytes: Uint8Array, from: number): number {
    let end = from;
    while (end < bytes.length && bytes[end] !== NEWLINE && bytes[end] !== BRACE) end++;
    this.#outside(bytes, from, end);
    if (end === bytes.length) return end;
    if (bytes[end] === NEWLINE) {
      this.#endLine();
      this.#line++;
      return end + 1;
    }
    this.#mode = "json";
    this.#startLine = this.#line;
    this.#json.clear();
    this.#scan.reset();
    this.#scan.step(BRACE);
    this.#json.add(bytes, end, end + 1);
    this.#raw.add(bytes, end, end + 1);
    return end + 1;
  }

  #outside(bytes: Uint8Array, from: number, end: number): void {
    this.#head.add(bytes, from, end);
    this.#text.add(bytes, from, end);
    this.#raw.add(bytes, from, end);
  }

  #readJson(bytes: Uint8Array, from: number): number {
    if (this.#mode === "json" && !this.#scan.begun && bytes[from] === BACKSLASH) {
      this.#mode = "escaped";
      this.#escape = false;
    }
    return this.#mode === "escaped" ? this.#readEscaped(bytes, from) : this.#readPlain(bytes, from);
  }

  #readPlain(bytes: Uint8Array, from: number): number {
    let at = from;
    let step: Step = "more";
    for (; at < bytes.length; at++) {
      const byte = bytes[at]!;
      if (byte === BACKSLASH && !this.#scan.begun) break;
      step = this.#scan.step(byte);
      if (step !== "more") break;
      if (byte === NEWLINE) this.#line++;
    }
    const end = step === "done" ? at + 1 : at;
    this.#json.add(bytes, from, end);
    this.#raw.add(bytes, from, end);
    if (step !== "more") this.#finish(cutAt(step, bytes[at]!));
    return end;
  }

  /** The same in a C string, whose escapes are undone; its closing quote ends the object. */
  #readEscaped(bytes: Uint8Array, from: number): number {
    for (let at = from; at < bytes.length; at++) {
      const byte = bytes[at]!;
      if (!this.#escape && byte === BACKSLASH) {
        this.#escape = true;
        continue;
      }
      if (!this.#escape && (byte === QUOTE || byte === NEWLINE)) {
        this.#finish("cut");
        return at;
      }
      const plain = this.#escape ? unescaped(byte) : byte;
      this.#escape = false;
      const step = this.#scan.step(plain);
      this.#json.addByte(plain);
      if (step === "more") continue;
      this.#finish(step);
      return at + 1;
    }
    return bytes.length;
  }

  #finish(step: "done" | DamagedPiece["reason"]): void {
    this.#mode = "text";
    if (step !== "done") {
      if (this.#scan.begun) this.#damaged(step);
      else this.#text.addBag(this.#json);
      return;
    }
    if (this.#json.over) this.#damaged("long");
    else {
      this.#emit({
        kind: "json",
        text: this.#json.text(),
        head: this.#head.text(),
        line: this.#startLine,
      });
    }
    // What follows on the object's last line belongs to that line, not to the one it began on.
    if (this.#line !== this.#startLine) this.#clearLine();
  }

  #damaged(reason: DamagedPiece["reason"]): void {
    this.#emit({ kind: "damaged", reason, line: this.#startLine });
    if (this.#line !== this.#startLine) this.#clearLine();
  }

  #endLine(): void {
    const text = this.#text.text();
    if (text.trim() !== "") {
      this.#emit({ kind: "text", text, raw: this.#raw.text(), line: this.#line });
    }
    this.#clearLine();
  }

  #clearLine(): void {
    this.#head.clear();
    this.#text.clear();
    this.#raw.clear();
  }
}

/** A line end, or the next message, where the object goes on: it was cut off. */
const cutAt = (step: Exclude<Step, "more">, byte: number): Exclude<Step, "more"> | "cut" =>
  step === "syntax" && (byte === NEWLINE || byte === BRACE) ? "cut" : step;

const ESCAPES: Readonly<Record<number, number>> = { 110: 0x20, 114: 0x20, 116: 0x20 };
/** A line end inside JSON is white space, and outside of strings only. */
const unescaped = (byte: number): number => ESCAPES[byte] ?? byte;

/** Bytes up to a limit; what is beyond is counted only. */
class Bag {
  readonly #limit: number;
  #bytes = Buffer.alloc(256);
  #size = 0;
  over = false;

  constructor(limit: number) {
    this.#limit = limit;
  }

  add(bytes: Uint8Array, from: number, end: number): void {
    const kept = Math.min(end - from, this.#limit - this.#size);
    if (kept < end - from) this.over = true;
    if (kept <= 0) return;
    const size = this.#size + kept;
    if (size > this.#bytes.length) {
      const larger = Buffer.alloc(Math.min(this.#limit, Math.max(size, 2 * this.#bytes.length)));
      this.#bytes.copy(larger, 0, 0, this.#size);
      this.#bytes = larger;
    }
    // A view of a few bytes costs more than they do.
    if (kept < 24) for (let i = 0; i < kept; i++) this.#bytes[this.#size + i] = bytes[from + i]!;
    else this.#bytes.set(bytes.subarray(from, from + kept), this.#size);
    this.#size = size;
  }

  addByte(byte: number): void {
    if (this.#size < this.#bytes.length) this.#bytes[this.#size++] = byte;
    else this.add(Uint8Array.of(byte), 0, 1);
  }

  addBag(other: Bag): void {
    this.add(other.#bytes, 0, other.#size);
  }

  clear(): void {
    this.#size = 0;
    this.over = false;
  }

  text(): string {
    return this.#bytes.toString("utf8", 0, this.#size);
  }
}
