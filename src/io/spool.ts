import { GuestcoreError } from "../core/errors.ts";
import { TemporaryFile } from "./temporary.ts";

const PIECE = 2 ** 20;

/** Text that is kept until what stands before it is known: in a file without a name, where there is room for one. */
export class Spool {
  readonly #directories: readonly string[];
  #waiting: string[] = [];
  #length = 0;
  #file: TemporaryFile | undefined;
  /** What no file could be made for. */
  readonly #kept: Buffer[] = [];

  constructor(directories: readonly string[]) {
    this.#directories = directories;
  }

  add(text: string): void {
    this.#waiting.push(text);
    this.#length += text.length;
    if (this.#length >= PIECE) this.#flush();
  }

  /** All of it, in order. A piece is good until the next is asked for. */
  *pieces(): Generator<Buffer> {
    const file = this.#file;
    if (file !== undefined) {
      const buffer = Buffer.alloc(PIECE);
      for (let at = 0; at < file.size; at += PIECE) {
        const size = Math.min(PIECE, file.size - at);
        file.readBack(at, buffer, 0, size);
        yield buffer.subarray(0, size);
      }
    }
    yield* this.#kept;
    yield Buffer.from(this.#waiting.join(""));
  }

  close(): void {
    this.#file?.close();
    this.#file = undefined;
  }

  #flush(): void {
    const bytes = Buffer.from(this.#waiting.join(""));
    this.#waiting = [];
    this.#length = 0;
    // What is behind what was kept is kept as well.
    if (this.#kept.length > 0 || !this.#append(bytes)) this.#kept.push(bytes);
  }

  #append(bytes: Buffer): boolean {
    try {
      this.#file ??= TemporaryFile.create({ directories: this.#directories }, bytes.length);
      this.#file.append(bytes, 0, bytes.length);
      return true;
    } catch (error) {
      if (!(error instanceof GuestcoreError)) throw error;
      return false;
    }
  }
}
