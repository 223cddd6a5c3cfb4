import { alignDown } from "../core/address.ts";
import type { ByteSource } from "../core/memory.ts";

const WINDOW = 256 * 1024;

/** Reads small pieces of a source through a window on it, which moves on: for readers that go forward. */
export class CachedSource {
  readonly #source: ByteSource;
  readonly #window = Buffer.allocUnsafeSlow(WINDOW);
  #start = 0;
  #length = 0;

  constructor(source: ByteSource) {
    this.#source = source;
  }

  /** As `ByteSource.read`, of at most 64 KiB. */
  read(offset: number, target: Uint8Array): number {
    if (offset < this.#start || offset + target.length > this.#start + this.#length) this.#move(offset);
    const from = offset - this.#start;
    const got = Math.max(0, Math.min(target.length, this.#length - from));
    target.set(this.#window.subarray(from, from + got));
    return got;
  }

  #move(offset: number): void {
    this.#start = alignDown(offset, 4096);
    this.#length = this.#source.read(this.#start, this.#window);
  }
}
