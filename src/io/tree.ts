import { closeSync, constants, fstatSync, openSync, readdirSync, readSync, statSync } from "node:fs";
import { join } from "node:path";
import { parseTar } from "nanotar";
import { alignUp } from "../core/address.ts";
import { latin1 } from "../core/bytes.ts";
import { CorruptError, UnsupportedError } from "../core/errors.ts";
import { attempt } from "./file.ts";

/** Path relative to the top, with slashes → contents as Latin-1. */
export type FileTree = ReadonlyMap<string, string>;

/** A saved sysfs tree has some hundred files of a few bytes each. */
const MAX_ENTRIES = 4096;
const MAX_FILE = 64 * 1024;
const MAX_DEPTH = 16;
export const MAX_TAR_BYTES = 16 * 2 ** 20;

const TOO_MANY = `not a tree of small files: it has more than ${MAX_ENTRIES} entries`;
const HINT = "name the folder that holds the fields, not one far above it";

/** Whether a path names a directory; a link to one counts. */
export const isDirectory = (path: string): boolean =>
  attempt(`cannot stat ${path}`, () => statSync(path, { throwIfNoEntry: false }))?.isDirectory() === true;

/**
 * Reads a directory of small files and those below it. Links and devices are passed over.
 * @throws UnsupportedError when there are more than 4096 entries, or one is over 64 KiB; IoError
 */
export function readTree(directory: string): FileTree {
  const files = new Map<string, string>();
  let entries = 0;
  const visit = (prefix: string, depth: number): void => {
    const path = join(directory, prefix);
    const listed = attempt(`cannot list ${path}`, () => readdirSync(path, { withFileTypes: true }));
    for (const entry of listed.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      if (++entries > MAX_ENTRIES) throw new UnsupportedError(TOO_MANY, { hint: HINT });
      const name = `${prefix}${entry.name}`;
      if (entry.isDirectory() && depth < MAX_DEPTH) visit(`${name}/`, depth + 1);
      else if (entry.isFile()) files.set(name, readSmall(join(directory, name)));
    }
  };
  visit("", 0);
  return files;
}

/** Files in sysfs claim 4096 bytes and have fewer: reading to the end tells. */
function readSmall(path: string): string {
  const flags = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW;
  const fd = attempt(`cannot open ${path}`, () => openSync(path, flags));
  try {
    const most = Math.min(fstatSync(fd).size, MAX_FILE) + 1;
    const bytes = Buffer.alloc(most);
    let done = 0;
    for (;;) {
      const got = attempt(`cannot read ${path}`, () => readSync(fd, bytes, done, most - done, null));
      done += got;
      if (got === 0 || done === most) break;
    }
    if (done > MAX_FILE) throw tooLarge(path);
    return latin1(bytes.subarray(0, done));
  } finally {
    closeSync(fd);
  }
}

const tooLarge = (path: string): UnsupportedError =>
  new UnsupportedError(`not a tree of small files: ${path} is larger than ${MAX_FILE} bytes`, { hint: HINT });

/** A header block of tar (POSIX.1-2017 pax, "ustar Interchange Format") and where its fields are. */
const BLOCK = 512;
const SIZE = { at: 124, length: 12 };
const CHECKSUM = { at: 148, length: 8 };
const TYPE = 156;
/** pax headers: "x" for the next entry, "g" for all that follow; "L" and "K" are GNU's long names. */
const EXTENDED = new Set(["x", "g", "L", "K", "N"]);
const MAX_EXTENDED = 4096;

/** Whether bytes begin with a tar header: its checksum is right. */
export const isTar = (bytes: Uint8Array): boolean => bytes.length >= BLOCK && hasChecksum(bytes, 0);

/**
 * Reads a tar archive of small files; links and devices are passed over.
 * @param bytes at most MAX_TAR_BYTES
 * @throws CorruptError when it is damaged; UnsupportedError beyond the bounds of `readTree`
 */
export function readTar(bytes: Uint8Array): FileTree {
  checkHeaders(bytes);
  // nanotar reads the buffer behind a view from its start.
  const entries = parseTar(bytes.slice().buffer);
  const files = new Map<string, string>();
  for (const { name, type, data } of entries) {
    if (type !== "file") continue;
    files.set(name.replace(/^(\.?\/)+/, ""), data === undefined ? "" : latin1(data));
  }
  return files;
}

/** nanotar takes every size as it stands: a negative one would make it go round in circles. */
function checkHeaders(bytes: Uint8Array): void {
  if (bytes.length > MAX_TAR_BYTES) throw new UnsupportedError("too large for the tar of a sysfs tree");
  let globals = 0;
  for (let at = 0, entries = 0; at + BLOCK <= bytes.length && bytes[at] !== 0; entries++) {
    const where = { offset: at };
    if (entries >= MAX_ENTRIES) throw new UnsupportedError(TOO_MANY, { where, hint: HINT });
    if (!hasChecksum(bytes, at)) throw new CorruptError("the checksum of a tar header is wrong", { where });
    const size = octal(bytes, at + SIZE.at, SIZE.length);
    if (size === undefined || at + BLOCK + size > bytes.length) {
      throw new CorruptError("a tar entry reaches beyond the end of the archive", { where });
    }
    const type = String.fromCharCode(bytes[at + TYPE]!);
    if (type === "g") globals++;
    if (size > (EXTENDED.has(type) ? MAX_EXTENDED : MAX_FILE) || globals > 1) {
      throw new UnsupportedError("a tar entry is too large for a file of sysfs", { where, hint: HINT });
    }
    at += BLOCK + alignUp(size, BLOCK);
  }
}

/** The sum of a header's bytes, its own checksum taken for spaces. */
function hasChecksum(bytes: Uint8Array, at: number): boolean {
  let sum = 0;
  for (let i = 0; i < BLOCK; i++) {
    const inside = i >= CHECKSUM.at && i < CHECKSUM.at + CHECKSUM.length;
    sum += inside ? 0x20 : bytes[at + i]!;
  }
  return octal(bytes, at + CHECKSUM.at, CHECKSUM.length) === sum;
}

/** An octal number as tar writes it; undefined for anything else. */
function octal(bytes: Uint8Array, at: number, length: number): number | undefined {
  const [, digits] = /^ *([0-7]+)[ \0]*$/.exec(latin1(bytes.subarray(at, at + length))) ?? [];
  return digits === undefined ? undefined : Number.parseInt(digits, 8);
}
