import { FLAT_SIGNATURE } from "./flattened.ts";
import type { Output } from "./output.ts";

const HEADER_SIZE = 4096;
const TYPE = 1n;
const VERSION = 1n;
const END = 0xff;

/**
 * A file written as the flattened stream of it (`FlattenedSource`): positions in any order, though what it goes to, a pipe
 * perhaps, takes bytes in order only. One write is one record.
 */
export class FlatOutput implements Output {
  readonly seekable = true;
  readonly #stream: Output;
  readonly #record = Buffer.alloc(16);
  #at = 0;
  /** Length of the file that the records so far make. */
  #size = 0;

  constructor(stream: Output) {
    this.#stream = stream;
    const header = Buffer.alloc(HEADER_SIZE);
    header.write(FLAT_SIGNATURE, "latin1");
    header.writeBigInt64BE(TYPE, 16);
    header.writeBigInt64BE(VERSION, 24);
    this.#append(header, 0, header.length);
  }

  get name(): string {
    return this.#stream.name;
  }

  /** Bytes of the stream until now. */
  get length(): number {
    return this.#at;
  }

  write(bytes: Buffer, start: number, length: number, position: number): void {
    if (length === 0) return;
    this.#record.writeBigInt64BE(BigInt(position), 0);
    this.#record.writeBigInt64BE(BigInt(length), 8);
    this.#append(this.#record, 0, this.#record.length);
    this.#append(bytes, start, length);
    this.#size = Math.max(this.#size, position + length);
  }

  async drain(): Promise<void> {
    await this.#stream.drain?.();
  }

  async finish(size: number): Promise<void> {
    // A hole at the end of the file has no record that tells of it.
    if (size > this.#size) this.write(Buffer.alloc(1), 0, 1, size - 1);
    this.#append(this.#record.fill(END), 0, this.#record.length);
    await this.#stream.finish(this.#at);
  }

  abandon(keep: boolean): string | undefined {
    return this.#stream.abandon(keep);
  }

  #append(bytes: Buffer, start: number, length: number): void {
    this.#stream.write(bytes, start, length, this.#at);
    this.#at += length;
  }
}
