import { closeSync, constants, fstatSync, openSync, readSync, type Stats, statSync } from "node:fs";
import { GuestcoreError, IoError, UnsupportedError, type Where } from "../core/errors.ts";
import type { ByteSource, SourceExtent, Unpacking } from "../core/memory.ts";
import { sizeByReading } from "./block-device.ts";
import { holeAt } from "./holes.ts";

/** Opening a FIFO must not wait for a writer, where no signal would be heard. */
const OPEN_FLAGS = constants.O_RDONLY | constants.O_NONBLOCK;

/** Linux reads at most 0x7ffff000 bytes a call. */
const MAX_READ = 1 << 30;

/** What identifies a file whatever its name: two paths with equal device and inode are one file. */
export interface FileIdentity {
  readonly device: number;
  readonly inode: number;
}

/** A regular file or a block device, opened for positional reads. */
export class FileSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly unpacking: Unpacking | undefined;
  readonly #fd: number;
  readonly #sparse: boolean;

  constructor(name: string, fd: number, size: number, unpacking?: Unpacking) {
    this.name = name;
    this.unpacking = unpacking;
    this.#fd = fd;
    this.size = size;
    const stat = fstatSync(fd);
    this.#sparse = stat.isFile() && stat.blocks * 512 < size;
  }

  /** @throws IoError when it cannot be opened; UnsupportedError for a directory, pipe, terminal or socket */
  static open(path: string): FileSource {
    const where = { file: path };
    const fd = attempt(`cannot open ${path}`, () => openSync(path, OPEN_FLAGS), where);
    try {
      const stat = attempt(`cannot stat ${path}`, () => fstatSync(fd), where);
      const size = sizeOf(path, fd, stat);
      if (size === undefined) {
        throw new UnsupportedError("not a regular file", {
          where,
          hint: stat.isFIFO()
            ? `a dump is read at random: name "-" and redirect the pipe, which saves it first: - < ${path}`
            : undefined,
        });
      }
      return new FileSource(path, fd, size);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  read(offset: number, target: Uint8Array): number {
    let done = 0;
    while (done < target.length) {
      const length = Math.min(target.length - done, MAX_READ);
      const got = attempt(
        `cannot read ${this.name} at offset ${offset + done}`,
        () => readSync(this.#fd, target, done, length, offset + done),
        { file: this.name, offset: offset + done },
      );
      if (got === 0) break;
      done += got;
    }
    return done;
  }

  extent(offset: number, limit: number): SourceExtent | undefined {
    return this.#sparse ? holeAt(this.#fd, offset, Math.min(limit, this.size)) : undefined;
  }

  get isRegular(): boolean {
    return fstatSync(this.#fd).isFile();
  }

  identity(): FileIdentity {
    const { dev, ino } = fstatSync(this.#fd);
    return { device: dev, inode: ino };
  }

  /** Bytes the file occupies on disk; less than `size` when it is sparse. */
  sizeOnDisk(): number {
    const stat = fstatSync(this.#fd);
    return stat.isFile() ? stat.blocks * 512 : this.size;
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/** Bytes of a file that can be read at random; undefined for what cannot. */
export function sizeOf(name: string, fd: number, stat: Stats): number | undefined {
  if (stat.isFile()) return stat.size;
  if (!stat.isBlockDevice()) return undefined;
  const byte = Buffer.alloc(1);
  return attempt(
    `cannot read ${name}`,
    () => sizeByReading((offset) => readSync(fd, byte, 0, 1, offset) === 1),
    { file: name },
  );
}

/** Identities of those of the named files that exist. */
export const identitiesOf = (paths: readonly string[]): FileIdentity[] =>
  paths.flatMap((path) => {
    const stat = attempt(`cannot stat ${path}`, () => statSync(path, { throwIfNoEntry: false }), {
      file: path,
    });
    return stat === undefined ? [] : [{ device: stat.dev, inode: stat.ino }];
  });

/** The files that this process's standard output and error go to and that had nothing in them before. */
export const outputIdentities = (): FileIdentity[] =>
  [1, 2].flatMap((fd) => {
    try {
      const stat = fstatSync(fd);
      return stat.isFile() && stat.size === 0 ? [{ device: stat.dev, inode: stat.ino }] : [];
    } catch {
      // A closed one is none.
      return [];
    }
  });

/**
 * Runs a file-system call and turns its failure into an IoError with the same meaning.
 * @param what what cannot be done, with the name of the file
 * @param where the file again, where it is one that a user named
 */
export function attempt<T>(what: string, call: () => T, where?: Where): T {
  try {
    return call();
  } catch (cause) {
    if (cause instanceof GuestcoreError) throw cause;
    const { code, message } = cause as NodeJS.ErrnoException;
    const reason = reasons[code ?? ""] ?? code ?? message;
    throw new IoError(`${what}: ${reason}`, { cause, ...(where === undefined ? {} : { where }) });
  }
}

const reasons: Readonly<Record<string, string>> = {
  ENOENT: "no such file",
  EEXIST: "it exists",
  ENAMETOOLONG: "the name is too long",
  EACCES: "permission denied",
  EPERM: "operation not permitted",
  EISDIR: "is a directory",
  ENOTDIR: "a part of the path is not a directory",
  ENOSPC: "no space left on device",
  EDQUOT: "disk quota exceeded",
  EFBIG: "file too large for this file system",
  EROFS: "read-only file system",
  EIO: "input/output error",
  EMFILE: "too many open files",
};
