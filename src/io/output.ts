import {
  accessSync,
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  linkSync,
  lstatSync,
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
  /**
   * Waits until what was written is on its way and lets signals in meanwhile: who writes much to an output that has it
   * calls it every few megabytes.
   */
  drain?(): Promise<void>;
  /** Makes the product complete under its final name; `size` is its length in bytes. */
  finish(size: number): void | Promise<void>;
  /** Drops what was written; `keep` leaves it under its temporary name, which is returned. */
  abandon(keep: boolean): string | undefined;
}

export interface OutputOptions {
  readonly force?: boolean;
  /** Files being read: none of them may be overwritten, not even with `force`. */
  readonly inputs?: readonly FileIdentity[];
  /** The option that named the output, for hints; default `-o`. */
  readonly option?: string;
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
    const { force = false, inputs = [], option } = options;
    refuseToOverwrite(name, force, inputs, option);
    const temporary = temporaryName(name);
    if (force) removeQuietly(temporary);
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;
    const fd = attempt(`cannot create ${temporary}`, () => openSync(temporary, flags, 0o600), { file: name });
    const file = new OutputFile(name, fd, force);
    unfinished.add(file);
    return file;
  }

  write(bytes: Buffer, start: number, length: number, position: number): void {
    let done = 0;
    while (done < length) {
      done += this.#attempt("write", () =>
        writeSync(this.#fd, bytes, start + done, length - done, position + done),
      );
    }
  }

  finish(size: number): void {
    const temporary = temporaryName(this.name);
    this.#attempt("write", () => {
      ftruncateSync(this.#fd, size);
      fsyncSync(this.#fd);
    });
    if (!this.#isOurs(temporary)) {
      throw new UsageError(`another run with --force took over ${temporary}; what this one wrote is lost`, {
        hint: "let two runs write to two names",
      });
    }
    // Open until it has its name: what is open is known to be ours, and abandon() can remove it.
    this.#attempt(`rename ${temporary} to`, () => {
      if (this.#force) renameSync(temporary, this.name);
      else renameWithoutReplacing(temporary, this.name);
    });
    this.#close();
    countFinished();
    syncDirectory(dirname(this.name));
  }

  abandon(keep: boolean): string | undefined {
    const temporary = temporaryName(this.name);
    const ours = this.#isOurs(temporary);
    this.#close();
    if (keep && ours) return temporary;
    if (ours) removeQuietly(temporary);
    return undefined;
  }

  #attempt<T>(what: string, call: () => T): T {
    return attempt(`cannot ${what} ${this.name}`, call, { file: this.name });
  }

  /** Whether the temporary name still means the file that is open here. */
  #isOurs(temporary: string): boolean {
    if (!this.#open) return false;
    const named = linkStatOf(temporary);
    const { dev, ino } = fstatSync(this.#fd);
    return named !== undefined && named.dev === dev && named.ino === ino;
  }

  #close(): void {
    if (this.#open) closeSync(this.#fd);
    this.#open = false;
    unfinished.delete(this);
  }
}

/** Files of this process that are being written, for an exit that cannot wait for the job to clean up. */
const unfinished = new Set<OutputFile>();

/** Removes what is half written, where it still is this process's own. */
export function removeUnfinished(): void {
  for (const file of unfinished) {
    try {
      file.abandon(false);
    } catch {
      // The process ends; there is nobody left to do better.
    }
  }
}

let finished = 0;

/** How many products this process has made complete. */
export const finishedOutputs = (): number => finished;

/** One more is complete. */
export function countFinished(): void {
  finished++;
}

const temporaryName = (name: string): string => `${name}.incomplete`;

/**
 * Checks that an output may be written, before a job spends time on it; leaves nothing behind.
 * @param option the option that named the output, for hints
 * @throws UsageError, IoError as OutputFile.create does
 */
export function refuseToOverwrite(
  name: string,
  force: boolean,
  inputs: readonly FileIdentity[],
  option = "-o",
): void {
  const another = { hint: `give another name with ${option}` };
  if (name === "") {
    throw new UsageError("the name of the output is empty", { hint: `name one with ${option}` });
  }
  const stat = statOf(name);
  const isInput = (found: Stats | undefined) =>
    inputs.some(({ device, inode }) => device === found?.dev && inode === found.ino);
  if (isInput(stat)) throw new UsageError(`the output ${name} is an input`, another);
  const temporary = temporaryName(name);
  if (isInput(statOf(temporary))) {
    throw new UsageError(`${temporary}, where ${name} would be written, is an input`, another);
  }
  if (stat !== undefined && !stat.isFile()) {
    throw new UsageError(`the output ${name} is not a regular file`, another);
  }
  // A link is there even when it leads nowhere: neither rename nor creation would follow it.
  if (!force && linkStatOf(name) !== undefined) {
    throw new UsageError(`the output ${name} exists`, { hint: "pass --force to replace it" });
  }
  if (!force && linkStatOf(temporary) !== undefined) {
    throw new UsageError(`${temporary} exists: another run is writing it, or one was killed`, {
      hint: "remove it, or pass --force to replace it",
    });
  }
  checkFolder(name, option);
}

/** @throws IoError when no file can be created beside `name` */
function checkFolder(name: string, option: string): void {
  const folder = dirname(name);
  if (statOf(folder)?.isDirectory() !== true) {
    throw new IoError(`cannot create ${name}: there is no directory ${folder}`, {
      where: { file: name },
      hint: `create it first, or give another name with ${option}`,
    });
  }
  attempt(`cannot create ${name}`, () => accessSync(folder, constants.W_OK | constants.X_OK), { file: name });
}

const statOf = (name: string): Stats | undefined =>
  attempt(`cannot stat ${name}`, () => statSync(name, { throwIfNoEntry: false }), { file: name });

/** Of the name itself, not of what a link leads to. */
const linkStatOf = (name: string): Stats | undefined =>
  attempt(`cannot stat ${name}`, () => lstatSync(name, { throwIfNoEntry: false }), { file: name });

/** rename(2) replaces; link(2) does not. File systems without hard links get the weaker promise. */
function renameWithoutReplacing(from: string, to: string): void {
  try {
    linkSync(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST" || linkStatOf(to) !== undefined) {
      throw new UsageError(`the output ${to} appeared while it was being written`, {
        hint: "give another name, or pass --force to replace it",
      });
    }
    renameSync(from, to);
    return;
  }
  removeQuietly(from);
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

/** Bytes an unprivileged user can still write where `name` will be; undefined where the system does not tell. */
export function freeSpaceFor(name: string): number | undefined {
  try {
    const { bavail, bsize } = statfsSync(dirname(name));
    return bavail * bsize;
  } catch {
    return undefined;
  }
}
