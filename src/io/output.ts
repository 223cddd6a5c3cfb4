import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  linkSync,
  openSync,
  renameSync,
  type Stats,
  statfsSync,
  statSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { IoError, UsageError } from "../core/errors.ts";
import { attempt, type FileIdentity } from "./file.ts";

/** Where a job writes its product: positional, gaps read as zeros. */
export interface Output {
  readonly name: string;
  /** Whether positions may be written in any order; a pipe takes them ascending only. */
  readonly seekable: boolean;
  write(bytes: Buffer, start: number, length: number, position: number): void;
  /** Makes the product complete under its final name; `size` is its length in bytes. */
  finish(size: number): void;
  /** Drops what was written; `keep` leaves it under its temporary name, which is returned. */
  abandon(keep: boolean): string | undefined;
}

export interface OutputOptions {
  readonly force?: boolean;
  /** Files being read: none of them may be overwritten, not even with `force`. */
  readonly inputs?: readonly FileIdentity[];
}

/**
 * A file that appears under its name only when it is whole: written as NAME.incomplete with mode 0600, synced, then
 * renamed. What is never written stays a hole.
 */
export class OutputFile implements Output {
  readonly name: string;
  readonly seekable = true;
  readonly #fd: number;
  readonly #force: boolean;
  #open = true;

  private constructor(name: string, fd: number, force: boolean) {
    this.name = name;
    this.#fd = fd;
    this.#force = force;
  }

  /**
   * @throws UsageError when the name is taken (without `force`), is an input, or is no regular file
   * @throws IoError when it cannot be created
   */
  static create(name: string, options: OutputOptions = {}): OutputFile {
    const { force = false, inputs = [] } = options;
    refuseToOverwrite(name, force, inputs);
    const temporary = temporaryName(name);
    if (force) removeQuietly(temporary);
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;
    if (statOf(temporary) !== undefined) {
      throw new UsageError(`${temporary} exists: another run is writing it, or one was killed`, {
        hint: "remove it, or pass --force to replace it",
      });
    }
    const fd = attempt(`cannot create ${temporary}`, () => openSync(temporary, flags, 0o600));
    unfinished.add(temporary);
    return new OutputFile(name, fd, force);
  }

  write(bytes: Buffer, start: number, length: number, position: number): void {
    let done = 0;
    while (done < length) {
      done += attempt(`cannot write ${this.name}`, () =>
        writeSync(this.#fd, bytes, start + done, length - done, position + done),
      );
    }
  }

  finish(size: number): void {
    const temporary = temporaryName(this.name);
    attempt(`cannot write ${this.name}`, () => {
      ftruncateSync(this.#fd, size);
      fsyncSync(this.#fd);
    });
    if (!this.#isOurs(temporary)) {
      throw new UsageError(`another run with --force took over ${temporary}; what this one wrote is lost`, {
        hint: "let two runs write to two names",
      });
    }
    this.#close();
    attempt(`cannot rename ${temporary} to ${this.name}`, () => {
      if (this.#force) renameSync(temporary, this.name);
      else renameWithoutReplacing(temporary, this.name);
    });
    unfinished.delete(temporary);
    syncDirectory(dirname(this.name));
  }

  abandon(keep: boolean): string | undefined {
    const temporary = temporaryName(this.name);
    const ours = this.#isOurs(temporary);
    this.#close();
    unfinished.delete(temporary);
    if (keep && ours) return temporary;
    if (ours) removeQuietly(temporary);
    return undefined;
  }

  /** Whether the temporary name still means the file that is open here. */
  #isOurs(temporary: string): boolean {
    if (!this.#open) return false;
    const named = statOf(temporary);
    const { dev, ino } = fstatSync(this.#fd);
    return named !== undefined && named.dev === dev && named.ino === ino;
  }

  #close(): void {
    if (this.#open) closeSync(this.#fd);
    this.#open = false;
  }
}

/** Temporary files of this process, for an exit that cannot wait for the job to clean up. */
const unfinished = new Set<string>();

export function removeUnfinished(): void {
  for (const name of unfinished) removeQuietly(name);
  unfinished.clear();
}

const temporaryName = (name: string): string => `${name}.incomplete`;

/**
 * Checks that an output may be written, before a job spends time on it.
 * @throws UsageError as OutputFile.create does
 */
export function refuseToOverwrite(name: string, force: boolean, inputs: readonly FileIdentity[]): void {
  if (name === "") throw new UsageError("the name of the output is empty", { hint: "name one with -o OUT" });
  const isInput = (stat: Stats) =>
    inputs.some(({ device, inode }) => device === stat.dev && inode === stat.ino);
  const temporary = statOf(temporaryName(name));
  if (temporary !== undefined && isInput(temporary)) {
    throw new UsageError(`${temporaryName(name)}, where ${name} would be written, is an input`, {
      hint: "give another name with -o",
    });
  }
  const stat = statOf(name);
  if (stat === undefined) return;
  if (isInput(stat)) {
    throw new UsageError(`the output ${name} is an input`, { hint: "give another name with -o" });
  }
  if (!stat.isFile()) throw new UsageError(`the output ${name} is not a regular file`);
  if (!force) throw new UsageError(`the output ${name} exists`, { hint: "pass --force to replace it" });
}

const statOf = (name: string): Stats | undefined =>
  attempt(`cannot stat ${name}`, () => statSync(name, { throwIfNoEntry: false }));

/** rename(2) replaces; link(2) does not. File systems without hard links get the weaker promise. */
function renameWithoutReplacing(from: string, to: string): void {
  try {
    linkSync(from, to);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST") throw new UsageError(`the output ${to} appeared while it was being written`);
    renameSync(from, to);
    return;
  }
  unlinkSync(from);
}

function removeQuietly(name: string): void {
  try {
    unlinkSync(name);
  } catch {
    // It is not there, or a second attempt would fail the same way.
  }
}

/** Makes the new name durable; file systems that cannot sync a directory have nothing to make durable. */
function syncDirectory(name: string): void {
  try {
    const fd = openSync(name, "r");
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  } catch {
    // The product itself is synced.
  }
}

/**
 * Standard output as a product: what has been written cannot be taken back, and gaps are sent as zeros.
 * @throws IoError with cause EPIPE when the reader went away
 */
export class OutputStream implements Output {
  readonly name = "standard output";
  readonly seekable = false;
  readonly #fd: number;
  #position = 0;

  constructor(fd: number) {
    this.#fd = fd;
  }

  write(bytes: Buffer, start: number, length: number, position: number): void {
    this.#fill(position);
    this.#send(bytes, start, length);
  }

  finish(size: number): void {
    this.#fill(size);
  }

  abandon(): undefined {
    return undefined;
  }

  #fill(position: number): void {
    if (position < this.#position) throw new IoError("standard output cannot be written out of order");
    while (this.#position < position) this.#send(ZEROS, 0, Math.min(ZEROS.length, position - this.#position));
  }

  #send(bytes: Buffer, start: number, length: number): void {
    let done = 0;
    while (done < length) {
      try {
        done += writeSync(this.#fd, bytes, start + done, length - done);
      } catch (cause) {
        // A pipe that another process made non-blocking.
        if ((cause as NodeJS.ErrnoException).code !== "EAGAIN") {
          throw new IoError("cannot write to standard output", { cause });
        }
        Atomics.wait(WAIT, 0, 0, 5);
      }
    }
    this.#position += length;
  }
}

const ZEROS = Buffer.alloc(1 << 20);
const WAIT = new Int32Array(new SharedArrayBuffer(4));

/** Bytes an unprivileged user can still write where `name` will be; undefined where the system does not tell. */
export function freeSpaceFor(name: string): number | undefined {
  try {
    const { bavail, bsize } = statfsSync(dirname(name));
    return bavail * bsize;
  } catch {
    return undefined;
  }
}
