import { GuestcoreError } from "../../core/errors.ts";
import type { ByteSource } from "../../core/memory.ts";
import type { PageCodec } from "../page-codec.ts";
import { ZstdUnpacker } from "./unpack.ts";

const NOTHING: Buffer = Buffer.alloc(0);

/** zstd frames by our own decoder; there is no encoder. */
export function ownZstd(): Pick<PageCodec, "unpack"> {
  const block = new Block();
  return { unpack: (input, output) => block.unpack(input, output) };
}

/** What the decoder reads and where it writes: both in memory. */
class Block implements ByteSource {
  readonly name = "";
  readonly #unpacker = new ZstdUnpacker();
  #input = NOTHING;
  #output = NOTHING;
  #size = 0;

  get size(): number {
    return this.#input.length;
  }

  read(offset: number, target: Uint8Array): number {
    return this.#input.copy(target, 0, offset, offset + target.length);
  }

  append(bytes: Buffer, start: number, end: number): void {
    bytes.copy(this.#output, this.#size, start, end);
    this.#size += end - start;
  }

  readBack(position: number, target: Buffer, start: number, end: number): void {
    this.#output.copy(target, start, position, position + (end - start));
  }

  unpack(input: Buffer, output: Buffer): number | undefined {
    this.#input = input;
    this.#output = output;
    this.#size = 0;
    try {
      return this.#run() ? this.#size : undefined;
    } catch (error) {
      if (error instanceof GuestcoreError) return undefined;
      throw error;
    } finally {
      this.#input = NOTHING;
      this.#output = NOTHING;
    }
  }

  #run(): boolean {
    if (this.#input.length === 0) return false;
    const steps = this.#unpacker.unpack(this, this);
    for (let step = steps.next(); ; step = steps.next()) {
      // A bomb ends at its first block that does not fit.
      if (this.#size > this.#output.length) return false;
      if (step.done === true) return step.value;
    }
  }
}
