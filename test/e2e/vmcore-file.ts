import { closeSync, fstatSync, openSync, readSync } from "node:fs";

/** A PT_LOAD. */
interface Load {
  readonly offset: number;
  readonly vaddr: bigint;
  readonly paddr: number;
  readonly filesz: number;
  readonly memsz: number;
}

interface Note {
  readonly name: string;
  readonly type: number;
  readonly desc: Buffer;
}

/** A file that shows physical memory. */
interface MemoryFile {
  readonly loads: readonly Load[];
  /** Fills `target` with the bytes of the file at `offset`; bytes after its end are zero. */
  read(target: Buffer, offset: number): void;
}

function readFully(fd: number, target: Buffer, offset: number): void {
  let done = 0;
  while (done < target.length) {
    const count = readSync(fd, target, done, target.length - done, offset + done);
    if (count === 0) break;
    done += count;
  }
  target.fill(0, done);
}

/** A raw image: its byte N is the byte at physical address N. */
export class RawImage implements MemoryFile {
  readonly loads: readonly Load[];
  readonly #fd: number;

  constructor(path: string) {
    this.#fd = openSync(path, "r");
    const { size } = fstatSync(this.#fd);
    this.loads = [{ offset: 0, vaddr: 0n, paddr: 0, filesz: size, memsz: size }];
  }

  read(target: Buffer, offset: number): void {
    readFully(this.#fd, target, offset);
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/**
 * A reader of ELF64 vmcores that shares nothing with the program under test: QEMU's dumps and our output are judged
 * by the same few lines.
 */
export class VmcoreFile implements MemoryFile {
  readonly path: string;
  readonly ehsize: number;
  readonly phoff: number;
  readonly machine: number;
  readonly sections: number;
  /** p_type of every program header, in the order of the file. */
  readonly types: readonly number[];
  readonly loads: readonly Load[];
  readonly notes: readonly Note[];
  readonly size: number;
  readonly bytesOnDisk: number;
  readonly #fd: number;

  constructor(path: string) {
    this.path = path;
    this.#fd = openSync(path, "r");
    const { size, blocks } = fstatSync(this.#fd);
    this.size = size;
    this.bytesOnDisk = blocks * 512;
    const header = this.#bytes(0, 64);
    if (header.toString("latin1", 0, 6) !== "\x7fELF\x02\x01")
      throw new Error(`${path} is not a little-endian ELF64`);
    this.machine = header.readUInt16LE(18);
    this.phoff = Number(header.readBigUInt64LE(32));
    this.ehsize = header.readUInt16LE(52);
    this.sections = header.readUInt16LE(60);
    const count = header.readUInt16LE(56);
    const headers = Array.from({ length: count }, (_, index) => this.#bytes(this.phoff + 56 * index, 56));
    this.types = headers.map((bytes) => bytes.readUInt32LE(0));
    const decoded = headers.map((bytes) => ({
      type: bytes.readUInt32LE(0),
      offset: Number(bytes.readBigUInt64LE(8)),
      vaddr: bytes.readBigUInt64LE(16),
      paddr: Number(bytes.readBigUInt64LE(24)),
      filesz: Number(bytes.readBigUInt64LE(32)),
      memsz: Number(bytes.readBigUInt64LE(40)),
    }));
    this.loads = decoded.filter(({ type }) => type === 1);
    this.notes = decoded
      .filter(({ type }) => type === 4)
      .flatMap(({ offset, filesz }) => readNotes(this.#bytes(offset, filesz)));
  }

  /** The notes of one owner, in order. */
  named(name: string): Note[] {
    return this.notes.filter((note) => note.name === name);
  }

  /** The page at a physical address; undefined when no segment holds it. */
  page(address: number): Buffer | undefined {
    const load = this.loads.find(
      ({ paddr, filesz }) => address >= paddr && address + pageSize <= paddr + filesz,
    );
    return load === undefined ? undefined : this.#bytes(load.offset + (address - load.paddr), pageSize);
  }

  read(target: Buffer, offset: number): void {
    readFully(this.#fd, target, offset);
  }

  close(): void {
    closeSync(this.#fd);
  }

  #bytes(offset: number, length: number): Buffer {
    const bytes = Buffer.alloc(length);
    this.read(bytes, offset);
    return bytes;
  }
}

function readNotes(bytes: Buffer): Note[] {
  const notes: Note[] = [];
  const aligned = (size: number) => Math.ceil(size / 4) * 4;
  for (let at = 0; at + 12 <= bytes.length; ) {
    const nameSize = bytes.readUInt32LE(at);
    const descSize = bytes.readUInt32LE(at + 4);
    const descAt = at + 12 + aligned(nameSize);
    const name = bytes.toString("latin1", at + 12, at + 12 + Math.max(0, nameSize - 1));
    notes.push({ name, type: bytes.readUInt32LE(at + 8), desc: bytes.subarray(descAt, descAt + descSize) });
    at = descAt + aligned(descSize);
  }
  return notes;
}

const pageSize = 4096;
const blockSize = 1 << 20;
const zeroPage = Buffer.alloc(pageSize);

interface MemoryComparison {
  /** Pages of the truth, and how many of them are zero. */
  readonly pages: number;
  readonly zero: number;
  /** Comparisons of a page: one for each segment of the file that shows it. */
  readonly compared: number;
  /** Physical addresses of pages that differ; the first sixteen. */
  readonly different: readonly number[];
  /** Physical addresses of pages of the truth that no segment of the file has; the first sixteen. */
  readonly absent: readonly number[];
  /** Ranges the file has beyond the truth. */
  readonly beyond: readonly Extent[];
}

/** Compares physical memory page by page, through every segment of `file` that shows a page. */
export function compareMemory(truth: VmcoreFile, file: MemoryFile): MemoryComparison {
  const different: number[] = [];
  let [pages, zero, compared] = [0, 0, 0];
  const expected = Buffer.alloc(blockSize);
  const found = Buffer.alloc(blockSize);
  for (const { paddr, filesz, offset } of truth.loads) {
    for (let done = 0; done < filesz; done += blockSize) {
      const block = expected.subarray(0, Math.min(blockSize, filesz - done));
      truth.read(block, offset + done);
      for (let page = 0; page < block.length; page += pageSize, pages++) {
        if (samePage(block, zeroPage, page, 0)) zero++;
      }
      const address = paddr + done;
      for (const load of file.loads) {
        const start = Math.max(address, load.paddr);
        const end = Math.min(address + block.length, load.paddr + load.filesz);
        if (start >= end) continue;
        const shown = found.subarray(0, end - start);
        file.read(shown, load.offset + start - load.paddr);
        compared += shown.length / pageSize;
        if (block.compare(shown, 0, shown.length, start - address, end - address) === 0) continue;
        for (let page = 0; page < shown.length && different.length < 16; page += pageSize) {
          if (!samePage(block, shown, start - address + page, page)) different.push(start + page);
        }
      }
    }
  }
  const inTruth = merged(truth.loads);
  const inFile = merged(file.loads);
  const absent: number[] = [];
  for (const { start, end } of without(inTruth, inFile)) {
    for (let page = start; page < end && absent.length < 16; page += pageSize) absent.push(page);
  }
  return { pages, zero, compared, different, absent, beyond: without(inFile, inTruth) };
}

const samePage = (left: Buffer, right: Buffer, leftAt: number, rightAt: number): boolean =>
  left.compare(right, rightAt, rightAt + pageSize, leftAt, leftAt + pageSize) === 0;

interface Extent {
  start: number;
  end: number;
}

function merged(loads: readonly Load[]): Extent[] {
  const result: Extent[] = [];
  const extents = loads.map(({ paddr, filesz }) => ({ start: paddr, end: paddr + filesz }));
  for (const { start, end } of extents.sort((left, right) => left.start - right.start)) {
    const last = result.at(-1);
    if (last !== undefined && start <= last.end) last.end = Math.max(last.end, end);
    else if (end > start) result.push({ start, end });
  }
  return result;
}

/** What `extents` have that `others` do not; both merged. */
function without(extents: readonly Extent[], others: readonly Extent[]): Extent[] {
  const result: Extent[] = [];
  for (const extent of extents) {
    let start = extent.start;
    for (const other of others) {
      if (other.end <= start || other.start >= extent.end) continue;
      if (other.start > start) result.push({ start, end: other.start });
      start = Math.max(start, other.end);
    }
    if (start < extent.end) result.push({ start, end: extent.end });
  }
  return result;
}
