import { u64be } from "../core/bytes.ts";
import { CorruptError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";

const WINDOW = 2 ** 20;

/** A migration stream ended where more had to come. */
export class StreamEnd extends CorruptError {}

/** Reads a migration stream forward, through a window on it. All numbers are big endian. */
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
    if (this.atEnd) return this.#window.subarray(0, 0);
    if (this.position < this.#start || this.position + length > this.#end) this.#move();
    const at = this.position - this.#start;
    return this.#window.subarray(at, Math.min(at + length, this.#end - this.#start));
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
      this.#move();
      if (this.position + length > this.#end) throw this.#ended();
    }
    const at = this.position - this.#start;
    this.position += length;
    return at;
  }

  #move(): void {
    this.#start = this.position;
    this.#end = this.position + this.#source.read(this.position, this.#window);
  }

  #ended(): StreamEnd {
    return new StreamEnd("the migration stream ends in the middle", { where: { offset: this.size } });
  }
}
