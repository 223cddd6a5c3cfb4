import { randomBytes } from "node:crypto";
import { closeSync, constants, ftruncateSync, openSync, readSync, unlinkSync, writeSync } from "node:fs";
import { join } from "node:path";
import { PAGE_SIZE } from "../core/address.ts";
import { isZero } from "../core/bytes.ts";
import { IoError } from "../core/errors.ts";
import type { Unpacking } from "../core/memory.ts";
import { bytesText } from "../core/text.ts";
import { attempt, FileSource } from "./file.ts";
import { freeSpaceFor } from "./output.ts";

const MiB = 1024 * 1024;
/** Free space is looked at every so many bytes written, and this much of it is left to others. */
const SPACE_CHECK_INTERVAL = 64 * MiB;
const SPACE_RESERVE = 64 * MiB;

export interface TemporaryOptions {
  /** Tried in this order until one lets a file be created. */
  readonly directories: readonly string[];
  /** Bytes free in a directory; undefined when unknown. Default: what the file system says. */
  readonly freeSpace?: (directory: string) => number | undefined;
}

/**
 * A private file without a name: created with mode 0600 and unlinked at once, so nothing is left behind however the
 * process ends. Pages of zeros are never written and stay holes.
 */
export class TemporaryFile {
  readonly directory: string;
  readonly #fd: number;
  readonly #freeSpace: () => number | undefined;
  #size = 0;
  #untilCheck = 0;

  private constructor(directory: string, fd: number, freeSpace: () => number | undefined) {
    this.directory = directory;
    this.#fd = fd;
    this.#freeSpace = freeSpace;
  }

  /**
   * @param expected bytes that will be written at the very least
   * @throws IoError when no directory can hold it
   */
  static create(options: TemporaryOptions, expected: number): TemporaryFile {
    const { directories, freeSpace = (directory) => freeSpaceFor(join(directory, "file")) } = options;
    let failure: unknown;
    for (const directory of directories) {
      try {
        requireSpace(directory, freeSpace(directory), expected, 0);
        return new TemporaryFile(directory, openUnlinked(directory), () => freeSpace(directory));
      } catch (error) {
        failure ??= error;
      }
    }
    throw failure ?? new IoError("there is no directory for temporary files", { hint: HINT });
  }

  get size(): number {
    return this.#size;
  }

  append(bytes: Buffer, start: number, end: number): void {
    let pending = start;
    for (let at = start; at < end; ) {
      const position = this.#size + (at - start);
      const piece = Math.min(end - at, PAGE_SIZE - (position % PAGE_SIZE));
      if (isZero(bytes, at, piece)) {
        this.#write(bytes, pending, at, this.#size + (pending - start));
        pending = at + piece;
      }
      at += piece;
    }
    this.#write(bytes, pending, end, this.#size + (pending - start));
    this.#size += end - start;
  }

  readBack(position: number, target: Buffer, start: number, end: number): void {
    let done = start;
    while (done < end) {
      const got = attempt(`cannot read back a temporary file in ${this.directory}`, () =>
        readSync(this.#fd, target, done, end - done, position + (done - start)),
      );
      // A hole at the end of the file is not yet part of it.
      if (got === 0) target.fill(0, done, end);
      done = got === 0 ? end : done + got;
    }
  }

  /** Turns it into a source called `name`, which owns the file from here on. */
  finish(name: string, unpacking: Unpacking): FileSource {
    attempt(`cannot write a temporary file in ${this.directory}`, () => ftruncateSync(this.#fd, this.#size));
    return new FileSource(name, this.#fd, this.#size, unpacking);
  }

  close(): void {
    closeSync(this.#fd);
  }

  #write(bytes: Buffer, start: number, end: number, position: number): void {
    if (end > start) this.#checkSpace(end - start);
    for (let at = start; at < end; ) {
      at += attempt(`cannot write a temporary file in ${this.directory}`, () =>
        writeSync(this.#fd, bytes, at, end - at, position + (at - start)),
      );
    }
  }

  #checkSpace(length: number): void {
    this.#untilCheck -= length;
    if (this.#untilCheck > 0) return;
    this.#untilCheck = SPACE_CHECK_INTERVAL;
    requireSpace(this.directory, this.#freeSpace(), length, this.#size);
  }
}

const HINT = "name a directory with room: --tmpdir DIR, or TMPDIR=DIR";

function requireSpace(directory: string, free: number | undefined, needed: number, unpacked: number): void {
  if (free === undefined || free >= needed + SPACE_RESERVE) return;
  const after = unpacked === 0 ? "" : ` after ${bytesText(unpacked)}`;
  throw new IoError(`not enough space in ${directory} to unpack${after}: ${bytesText(free)} free`, {
    hint: HINT,
  });
}

function openUnlinked(directory: string): number {
  const path = join(directory, `.guestcore-${randomBytes(8).toString("hex")}`);
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL;
  const fd = attempt(`cannot create a temporary file in ${directory}`, () => openSync(path, flags, 0o600));
  try {
    attempt(`cannot unlink ${path}`, () => unlinkSync(path));
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return fd;
}
