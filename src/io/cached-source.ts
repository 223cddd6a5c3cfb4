import { alignDown, alignUp } from "../core/address.ts";
import type { ByteSource } from "../core/memory.ts";

const WINDOW = 256 * 1024;
const BLOCK = 4096;
/** Up to this a byte loop beats a call. */
const SHORT = 32;

/**
 * Reads small pieces of a source through a window on it, which moves on. It takes in no more than it must where it
 * jumps, and twice as much each time the reader goes forward: scattered reads cost little, and runs few system calls.
 */
export class CachedSource {
  readonly #source: ByteSource;
  #window = Buffer.alloc(0);
  #start = 0;
  #length = 0;

  constructor(source: ByteSource) {
    this.#source = source;
  }

  /** As `ByteSource.read`, of at most 64 KiB. */
  read(offset: number, target: Uint8Array): number {
    if (offset < this.#start || offset + target.length > this.#start + this.#length) {
      this.#move(offset, target.length);
    }
    const from = offset - this.#start;
    const got = Math.max(0, Math.min(target.length, this.#length - from));
    if (got > SHORT) this.#window.copy(target, 0, from, from + got);
    else for (let i = 0; i < got; i++) target[i] = this.#window[from + i]!;
    return got;
  }

  #move(offset: number, length: number): void {
    const end = this.#start + this.#length;
    // What is skipped on the way, as what is excluded between two pages, is no jump while it is less than the window.
    const forward = offset >= this.#start && offset < end + this.#length;
    const wanted = forward ? 2 * this.#length : 0;
    this.#start = alignDown(offset, BLOCK);
    const needed = alignUp(offset + length, BLOCK) - this.#start;
    const size = Math.min(WINDOW, Math.max(needed, wanted));
    if (size > this.#window.length) this.#window = Buffer.allocUnsafeSlow(size);
    this.#length = this.#source.read(this.#start, this.#window.subarray(0, size));
  }
}
