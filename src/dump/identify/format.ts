import type { ByteSource } from "../../core/memory.ts";

/** What the header of a file says, by label; text in it is as the file has it. */
export type Facts = Readonly<Record<string, string | number | boolean>>;

/** What a file is, from a few kilobytes of it. */
export interface Identification {
  /** Name of the format, stable: part of the JSON output. */
  readonly format: string;
  /** One line in the words of file(1), safe for a terminal. */
  readonly phrase: string;
  readonly facts: Facts;
  /** Whether guestcore reads the format; ELF and compressed files are looked into further. */
  readonly readable: boolean;
  /** False where no magic number says so. */
  readonly certain: boolean;
  /** What to do with it: a command that can be pasted, its reason behind `#`; or a sentence. */
  readonly advice: string;
}

/** The start of a file, and the rest for headers that point further. */
export interface Head {
  readonly source: ByteSource;
  /** The first HEAD_SIZE bytes, or all there are. */
  readonly bytes: Buffer;
  /** The file's name as a word for a shell. */
  readonly file: string;
}

/** Enough for every magic number, the one of a sadump media backup at 4096 being the last. */
export const HEAD_SIZE = 8192;

/** One line of the table: how a format is known, and what its header tells. */
export interface Format {
  readonly name: string;
  readonly matches: (head: Head) => boolean;
  readonly describe: (head: Head) => Description;
}

export interface Description {
  readonly phrase: string;
  readonly facts?: Facts;
  readonly readable?: boolean;
  readonly certain?: boolean;
  readonly advice: string;
}

/** Matches files that have these bytes at `offset`; a string stands for its Latin-1 bytes. */
export function magic(expected: string | readonly number[], offset = 0): Format["matches"] {
  const bytes = typeof expected === "string" ? Buffer.from(expected, "latin1") : Buffer.from(expected);
  return ({ bytes: head }) =>
    head.length >= offset + bytes.length &&
    head.compare(bytes, 0, bytes.length, offset, offset + bytes.length) === 0;
}

/** Latin-1 text of a fixed field up to its first NUL. */
export function field(bytes: Buffer, offset: number, length: number): string {
  const text = bytes.toString("latin1", offset, Math.min(bytes.length, offset + length));
  const end = text.indexOf("\0");
  return end < 0 ? text : text.slice(0, end);
}

/** Reads up to `length` bytes at `offset`; fewer at the end of the file, none beyond it. */
export function readAt({ source }: Head, offset: number, length: number): Buffer {
  if (!(offset < source.size)) return Buffer.alloc(0);
  const bytes = Buffer.alloc(length);
  return bytes.subarray(0, source.read(offset, bytes));
}

/** Drops facts that are empty, unknown or beyond exact numbers. */
export const known = (facts: Readonly<Record<string, Facts[string] | undefined>>): Facts =>
  Object.fromEntries(
    Object.entries(facts).filter(([, value]) => !(value === undefined || value === "" || value === Infinity)),
  ) as Facts;
