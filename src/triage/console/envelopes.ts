import { DOCUMENT_HEAD, DocumentText, documentStart } from "./document.ts";
import { type Entry, JournalEntries } from "./journal-entries.ts";
import { dated, PartialLines } from "./partial-lines.ts";
import { type LogRecord, ofJournal, recordOf } from "./records.ts";

/** A log that has no record among its first bytes has none. */
const LOOKED_AT = 2 ** 16;
/** Longest record: docker splits lines at 16 KiB, and JSON may take six bytes for one of them. */
const RECORD_LIMIT = 2 ** 17;
/** docker's copier: what fills its buffer goes on in the next record. */
const DOCKER_BUFFER = 16_384;
/** Boots of a journal that are told apart. */
const MAX_BOOTS = 1024;

/**
 * Takes a console out of what loggers wrapped it in: records of JSON, of the journal in any form, of containers; one document
 * that has all of it. Every line break of the input stays one, so that lines keep their numbers; those inside of a record are
 * carriage returns. Of a document lines are those of the text in it. A log without a record among its first bytes is given
 * back as it is.
 */
export class Envelopes {
  #mode: "begin" | "looking" | "records" | "document" | "plain" = "begin";
  #rest = "";
  #looked = 0;
  #lines = 0;
  readonly #document = new DocumentText();
  readonly #entries = new JournalEntries();
  readonly #partial = new PartialLines();
  /** Whether records end in line breaks here: those that do not go on in the next. */
  #isSplit = false;
  readonly #known = new Set<string>();
  #boots: number[] = [];

  /** Whether what comes is given back as it is. */
  get isPlain(): boolean {
    return this.#mode === "plain";
  }

  /** Lines, from 1, that begin another boot by the journal's word: of the text that was given back last. */
  get boots(): readonly number[] {
    return this.#boots;
  }

  /** Whether there are records of a journal. */
  get isJournal(): boolean {
    return this.#known.size > 0;
  }

  /** @param text one byte a character */
  push(text: string): string {
    if (this.#boots.length > 0) this.#boots = [];
    if (this.#mode === "plain") return text;
    if (this.#mode === "document") return this.#document.push(text);
    this.#rest += text;
    return this.#mode === "begin" ? this.#begin(false) : this.#take();
  }

  end(): string {
    const first = this.#mode === "begin" ? this.#begin(true) : this.push("");
    if (this.#mode === "document") return first + this.#document.end();
    const last = this.#rest === "" ? "" : this.#line(this.#rest, "");
    this.#rest = "";
    const entry = this.#entries.end();
    return [first + last + (entry === undefined ? "" : this.#entry(entry)), this.#partial.end()]
      .filter((text) => text !== "")
      .join("\r");
  }

  #begin(isAll: boolean): string {
    const rest = this.#rest;
    if (!isAll && (rest === "" || (/^\s{0,16}\{/.test(rest) && rest.length < DOCUMENT_HEAD))) return "";
    const start = documentStart(rest);
    if (start >= 0) {
      this.#mode = "document";
      this.#rest = "";
      return this.#document.push(rest.slice(start));
    }
    this.#mode = "looking";
    return this.#take();
  }

  /** Gives what is whole of the lines that came. */
  #take(): string {
    let out = "";
    let at = 0;
    while (!this.isPlain) {
      if (this.#entries.isBinary) {
        at += this.#entries.binary(this.#rest, at);
        if (this.#entries.isBinary) break;
      }
      const end = this.#rest.indexOf("\n", at);
      if (end < 0) break;
      out += this.#line(this.#rest.slice(at, end), "\n");
      at = end + 1;
    }
    this.#rest = this.#rest.slice(at);
    if (this.#rest.length > RECORD_LIMIT && !this.#entries.isBinary) {
      if (this.#mode === "looking") this.#mode = "plain";
      else this.#rest = this.#rest.slice(0, RECORD_LIMIT);
    }
    if (!this.isPlain) return out;
    out += this.#rest;
    this.#rest = "";
    return out;
  }

  /** What a line gives, and its line break: now, or with the entry that it is part of. */
  #line(raw: string, ending: string): string {
    const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
    const { isPart, ended } = this.#entries.line(line);
    const before = ended === undefined ? "" : this.#entry(ended);
    if (isPart) {
      this.#mode = "records";
      if (this.#entries.isOpen) return before;
      this.#lines++;
      return before + ending;
    }
    this.#lines++;
    const record = recordOf(line);
    if (record !== undefined) {
      this.#mode = "records";
      return before + this.#record(record) + ending;
    }
    if (this.#mode === "looking") {
      this.#looked += raw.length + 1;
      if (this.#looked >= LOOKED_AT) this.#mode = "plain";
    }
    return before + raw + ending;
  }

  #record({ text, time, stream, isPartial, boot }: LogRecord): string {
    this.#turn(boot, this.#lines);
    const whole = inOneLine(text);
    if (stream === undefined) return dated(whole, time);
    if (isPartial === false) this.#isSplit = true;
    const goesOn = isPartial ?? (this.#isSplit || text.length >= DOCKER_BUFFER);
    return this.#partial.add(stream, whole, goesOn, time);
  }

  /** The lines of an entry: empty, but for that of its message. */
  #entry({ fields, lines, at }: Entry): string {
    const record = ofJournal(fields);
    this.#turn(record?.boot, this.#lines + at + 1);
    this.#lines += lines;
    const text = record === undefined ? "" : dated(inOneLine(record.text), record.time);
    return `${"\n".repeat(at)}${text}${"\n".repeat(lines - at)}`;
  }

  /** Notes where a journal goes on with another boot. */
  #turn(boot: string | undefined, line: number): void {
    if (boot === undefined || this.#known.has(boot) || this.#known.size >= MAX_BOOTS) return;
    this.#known.add(boot);
    if (this.#known.size > 1) this.#boots.push(line);
  }
}

/** Line breaks inside of a record as carriage returns: what comes out has the lines of what went in. */
const inOneLine = (text: string): string =>
  text.includes("\n") ? text.trimEnd().replace(/\r?\n/g, "\r") : text;

/** The beginning of a log out of what a logger wrapped it in. */
export function unwrapped(text: string): string {
  const envelopes = new Envelopes();
  return envelopes.push(text) + envelopes.end();
}
