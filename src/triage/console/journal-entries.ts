import { isWanted, type JournalFields, textOfField } from "./journal.ts";

/** An entry that ended: what it has, and the line of its message among those it took. */
export interface Entry {
  readonly fields: JournalFields;
  /** Lines it took, the last one without what ended it. */
  readonly lines: number;
  /** Which of them has the message, from 0. */
  readonly at: number;
}

/** `Thu 2026-11-26 01:02:03.123456 UTC [s=…`, of `journalctl -o verbose`. */
const VERBOSE = /^[A-Z][a-z]{2} \d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})? \S{1,8} \[s=[0-9a-f]{8,32};/;
const VERBOSE_FIELD = /^ {4}([A-Z_][A-Z0-9_]{0,63})=(.*)$/;
/** systemd docs/JOURNAL_EXPORT_FORMATS.md */
const EXPORT = /^__CURSOR=s=/;
const EXPORT_FIELD = /^([A-Z_][A-Z0-9_]{0,63})=(.*)$/;
const EXPORT_BINARY = /^[A-Z_][A-Z0-9_]{0,63}$/;
/** `journalctl -o json-pretty`. */
const PRETTY = /^\s{1,16}"(?:__CURSOR|__REALTIME_TIMESTAMP|_BOOT_ID|MESSAGE|_TRANSPORT|PRIORITY)"\s{0,4}: ?/;
const PRETTY_FIELD = /^\s{1,16}"([A-Z_][A-Z0-9_]{0,63})"\s{0,4}: ?(.*?),?\r?$/;

type Form = "verbose" | "export" | "pretty";

const LENGTH = 8;
/** Of a field's text. */
const MAX_TEXT = 2 ** 16;
/** systemd src/shared/journal-importer.h: DATA_SIZE_MAX. What claims to be longer is no field. */
const MAX_DATA = 768 * 2 ** 20;
/** Of an entry that has more, the lines behind it are numbered too low. */
const MAX_LINES = 2 ** 20;

/** Entries of the journal that take several lines each: of the forms export, verbose and json-pretty. */
export class JournalEntries {
  #form: Form | undefined;
  #fields: JournalFields = {};
  #lines = 0;
  #at = 0;
  /** A field of the export form that has its length in front: its name, and bytes that are still to come, -1 before. */
  #binary: { readonly name: string; left: number } | undefined;

  get isOpen(): boolean {
    return this.#form !== undefined;
  }

  /** Whether what comes next are bytes, not lines. */
  get isBinary(): boolean {
    return this.#binary !== undefined;
  }

  /**
   * Takes a line.
   * @returns whether it is part of an entry; `ended`: the one that ended with it, or before it
   */
  line(line: string): { readonly isPart: boolean; readonly ended: Entry | undefined } {
    if (VERBOSE.test(line)) return this.#begins("verbose");
    if (this.#form !== "export" && EXPORT.test(line)) return this.#begins("export");
    if (this.#form === undefined && PRETTY.test(line)) {
      const begun = this.#begins("pretty");
      this.#prettyField(line);
      return begun;
    }
    if (this.#form === undefined) return { isPart: false, ended: undefined };
    const isPart = this.#part(line);
    if (isPart === "yes") {
      this.#lines++;
      return { isPart: true, ended: undefined };
    }
    const ended = this.end();
    return { isPart: isPart === "last", ended };
  }

  /** Takes bytes of a field with a length. @returns how many */
  binary(text: string, from: number): number {
    const binary = this.#binary!;
    let at = from;
    if (binary.left < 0) {
      if (text.length - from < LENGTH) return 0;
      const length = Buffer.from(text.slice(from, from + LENGTH), "latin1").readBigUInt64LE();
      if (length > MAX_DATA) {
        this.#binary = undefined;
        return 0;
      }
      // A line break ends it.
      binary.left = Number(length) + 1;
      at += LENGTH;
    }
    const end = Math.min(text.length, at + binary.left);
    const bytes = text.slice(at, end);
    binary.left -= bytes.length;
    if (isWanted(binary.name)) this.#append(binary.name, bytes);
    this.#lines += breaksIn(text.slice(from, end));
    if (binary.left === 0) {
      this.#binary = undefined;
      const { name } = binary;
      if (isWanted(name)) this.#fields[name] = this.#fields[name]?.replace(/\n$/, "");
    }
    return end - from;
  }

  /** Gives the entry that is open. */
  end(): Entry | undefined {
    if (this.#form === undefined) return undefined;
    const entry = {
      fields: this.#fields,
      lines: Math.min(this.#lines, MAX_LINES),
      at: Math.min(this.#at, MAX_LINES),
    };
    this.#form = undefined;
    this.#fields = {};
    this.#binary = undefined;
    return entry;
  }

  #begins(form: Form): { readonly isPart: true; readonly ended: Entry | undefined } {
    const ended = this.end();
    this.#form = form;
    this.#lines = 1;
    this.#at = 0;
    return { isPart: true, ended };
  }

  /** Whether a line goes on with the entry; `last`: it ends it, and is its own. */
  #part(line: string): "yes" | "last" | "no" {
    if (this.#form === "pretty") {
      if (/^\},?\s{0,4}$/.test(line)) return "last";
      this.#prettyField(line);
      return /^\s/.test(line) ? "yes" : "no";
    }
    if (this.#form === "export") {
      if (line === "") return "last";
      const field = EXPORT_FIELD.exec(line);
      if (field !== null) this.#keep(field[1]!, field[2]!);
      else if (EXPORT_BINARY.test(line)) {
        this.#binary = { name: line, left: -1 };
        if (line === "MESSAGE") this.#at = this.#lines;
      } else return "no";
      return "yes";
    }
    const field = VERBOSE_FIELD.exec(line);
    if (field !== null) this.#keep(field[1]!, field[2]!);
    return field !== null || line.startsWith("        ") ? "yes" : "no";
  }

  #prettyField(line: string): void {
    const [, name, value] = PRETTY_FIELD.exec(line) ?? [];
    if (name === undefined || !isWanted(name)) return;
    try {
      const text = textOfField(JSON.parse(Buffer.from(value!, "latin1").toString()));
      if (text !== undefined) this.#keep(name, text);
    } catch {
      // Damaged, or an array over several lines: the entry is without this field.
    }
  }

  #keep(name: string, text: string): void {
    if (!isWanted(name)) return;
    if (name === "MESSAGE") this.#at = this.#lines;
    this.#fields[name] = text.slice(0, MAX_TEXT);
  }

  #append(name: keyof JournalFields, text: string): void {
    const before = this.#fields[name] ?? "";
    this.#fields[name] = before + text.slice(0, Math.max(0, MAX_TEXT - before.length));
  }
}

function breaksIn(text: string): number {
  let breaks = 0;
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) breaks++;
  return breaks;
}
