import { u64be } from "../core/bytes.ts";
import { CorruptError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";

const WINDOW = 2 ** 20;
const BLOCK = 4096;

/** A migration stream ended where more had to come. */
export class StreamEnd extends CorruptError {}

/**
 * Reads a migration stream forward, through a window on it that is small where it jumps, and grows where it goes on.
 * All numbers are big endian.
 */
export class StreamReader {
  /** Offset in the source of what is read next; it may be moved forward. */
  position: number;
  readonly size: number;
  readonly #source: ByteSource;
  readonly #window = Buffer.allocUnsafeSlow(WINDOW);
  #start = 0;
  #end = 0;

  constructor(source: ByteSource, position: number) {
    this.#source = source;
    this.size = source.size;
    this.position = position;
  }

  get atEnd(): boolean {
    return this.position >= this.size;
  }

  /** @throws StreamEnd when the stream ends before, as do all of these */
  u8(): number {
    return this.#window.readUInt8(this.#take(1));
  }

  u16(): number {
    return this.#window.readUInt16BE(this.#take(2));
  }

  u32(): number {
    return this.#window.readUInt32BE(this.#take(4));
  }

  /** 2^53 and more reads as `Infinity`. */
  u64(): number {
    return u64be(this.#window, this.#take(8));
  }

  /** Latin-1 text behind its length in a byte. */
  text(): string {
    const length = this.u8();
    const at = this.#take(length);
    return this.#window.toString("latin1", at, at + length);
  }

  /** A copy of the next bytes, at most 64 KiB. */
  bytes(length: number): Buffer {
    const at = this.#take(length);
    return Buffer.from(this.#window.subarray(at, at + length));
  }

  /** The byte that `u8` would give; undefined at the end. */
  peek(ahead = 0): number | undefined {
    const bytes = this.lookAhead(ahead + 1);
    return bytes[ahead];
  }

  /** The bytes that come next, fewer at the end of the stream, until the next call. */
  lookAhead(length: number): Buffer {
    return this.lookFar(length).subarray(0, length);
  }

  /** As `lookAhead`, and what else happens to be at hand. */
  lookFar(least: number): Buffer {
    if (this.atEnd) return this.#window.subarray(0, 0);
    if (this.position < this.#start || this.position + least > this.#end) this.#move(least);
    return this.#window.subarray(this.position - this.#start, this.#end - this.#start);
  }

  /** Passes over bytes that must all be there. */
  skip(length: number): void {
    if (this.position + length > this.size) throw this.#ended();
    this.position += length;
  }

  /** Index in the window of the next bytes, which are passed. */
  #take(length: number): number {
    if (this.position < this.#start || this.position + length > this.#end) {
      if (this.position + length > this.size) throw this.#ended();
      this.#move(length);
      if (this.position + length > this.#end) throw this.#ended();
    }
    const at = this.position - this.#start;
    this.position += length;
    return at;
  }

  #move(least: number): void {
    const before = this.#end - this.#start;
    // A page that is skipped on the way is no jump.
    const goesOn = this.position >= this.#start && this.position <= this.#end + before;
    const size = Math.min(WINDOW, Math.max(BLOCK, least, goesOn ? 2 * before : 0));
    this.#start = this.position;
    this.#end = this.position + this.#source.read(this.position, this.#window.subarray(0, size));
  }

  #ended(): StreamEnd {
    return new StreamEnd("the migration stream ends in the middle", { where: { offset: this.size } });
  }
}
