import type { ByteSource } from "../../core/memory.ts";
import { BIT_STREAM_MARGIN } from "./bits.ts";

const INPUT_SIZE = 512 * 1024;

/** A stretch of the input in memory, with the margins that bit streams need. */
export class Input {
  readonly bytes = Buffer.alloc(BIT_STREAM_MARGIN + INPUT_SIZE + BIT_STREAM_MARGIN);
  /** Index of the next byte. */
  at = BIT_STREAM_MARGIN;
  #source: ByteSource | undefined;
  #end = BIT_STREAM_MARGIN;
  #next = 0;

  /** Goes to the start of a source. */
  open(source: ByteSource): void {
    this.#source = source;
    this.#next = 0;
    this.at = BIT_STREAM_MARGIN;
    this.#end = BIT_STREAM_MARGIN;
  }

  /** Offset in the source of the next byte. */
  get offset(): number {
    return this.#next - (this.#end - this.at);
  }

  /** How many of the next `count` bytes there are; fewer only at the end of the source. */
  have(count: number): number {
    if (this.#end - this.at < count) this.#refill();
    return Math.min(count, this.#end - this.at);
  }

  /** @returns false when the source ends before */
  skip(count: number): boolean {
    const target = this.offset + count;
    if (target > (this.#source?.size ?? 0)) return false;
    if (count <= this.#end - this.at) {
      this.at += count;
      return true;
    }
    this.at = BIT_STREAM_MARGIN;
    this.#end = BIT_STREAM_MARGIN;
    this.#next = target;
    return true;
  }

  #refill(): void {
    this.bytes.copyWithin(BIT_STREAM_MARGIN, this.at, this.#end);
    this.#end -= this.at - BIT_STREAM_MARGIN;
    this.at = BIT_STREAM_MARGIN;
    const room = this.bytes.subarray(this.#end, BIT_STREAM_MARGIN + INPUT_SIZE);
    const got = this.#source?.read(this.#next, room) ?? 0;
    this.#end += got;
    this.#next += got;
  }
}
