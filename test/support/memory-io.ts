import type { JobContext } from "../../src/core/job.ts";
import type { ByteSource } from "../../src/core/memory.ts";
import type { Output } from "../../src/io/output.ts";

/** A file that lives in memory. */
export class MemorySource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array, name = "memory") {
    this.name = name;
    this.#bytes = bytes;
    this.size = bytes.length;
  }

  read(offset: number, target: Uint8Array): number {
    const part = this.#bytes.subarray(offset, offset + target.length);
    target.set(part);
    return part.length;
  }
}

/** An output that lives in memory, and says what became of it. */
export class MemoryOutput implements Output {
  readonly name = "memory";
  readonly seekable: boolean;
  bytes: Buffer = Buffer.alloc(0);
  finished = false;

  constructor(seekable = true) {
    this.seekable = seekable;
  }

  write(bytes: Buffer, start: number, length: number, position: number): void {
    this.#grow(position + length);
    bytes.copy(this.bytes, position, start, start + length);
  }

  finish(size: number): void {
    this.#grow(size);
    this.bytes = this.bytes.subarray(0, size);
    this.finished = true;
  }

  abandon(): undefined {
    this.bytes = Buffer.alloc(0);
  }

  #grow(size: number): void {
    if (size <= this.bytes.length) return;
    const larger = Buffer.alloc(size);
    this.bytes.copy(larger);
    this.bytes = larger;
  }
}

/** Surroundings of a job that shows nothing and is never interrupted. */
export const quiet: JobContext = {
  progress: { start: () => {}, update: () => {}, finish: () => {} },
  warn: () => {},
  checkpoint: () => Promise.resolve(),
  temporaryDirectories: ["/tmp"],
};
