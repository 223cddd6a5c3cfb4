import type { Pack, PageCodec, Unpack } from "../page-codec.ts";
import { addressOf, type Foreign, foreign } from "../shared-library.ts";

/** makedumpfile's: Z_BEST_SPEED. */
const LEVEL = 1;
const Z_FINISH = 4;
const Z_STREAM_END = 1;
/** The library compares only its first digit. */
const VERSION = "1";

/**
 * zlib, Node's own or the system's, with one stream for all blocks: to make one costs more than a block.
 * Undefined where it is not there.
 */
export function nativeZlib(): PageCodec | undefined {
  const zlib = foreign([null, "libz.so.1"], {
    startPacking: "int deflateInit_(void *stream, int level, const char *version, int size)",
    pack: "int deflate(void *stream, int flush)",
    resetPacking: "int deflateReset(void *stream)",
    startUnpacking: "int inflateInit_(void *stream, const char *version, int size)",
    unpack: "int inflate(void *stream, int flush)",
    resetUnpacking: "int inflateReset(void *stream)",
  });
  if (zlib === undefined) return undefined;
  const packer = new Stream(zlib.resetPacking, zlib.pack);
  const unpacker = new Stream(zlib.resetUnpacking, zlib.unpack);
  const started =
    zlib.startPacking(packer.bytes, LEVEL, VERSION, STREAM_SIZE) === 0 &&
    zlib.startUnpacking(unpacker.bytes, VERSION, STREAM_SIZE) === 0;
  if (!started) return undefined;
  const pack: Pack = (input, output) => packer.run(input, output);
  const unpack: Unpack = (input, output) => unpacker.run(input, output);
  return { pack, unpack };
}

/** sizeof(z_stream) where `long` has 64 bits. The library compares it, and with it where the fields are. */
const STREAM_SIZE = 112;
const NEXT_IN = 0;
const AVAILABLE_IN = 8;
const NEXT_OUT = 24;
const AVAILABLE_OUT = 32;
const TOTAL_OUT = 40;

/** A z_stream that reads from and writes to memory of its own: it keeps pointers from one call to the next. */
class Stream {
  readonly bytes = Buffer.alloc(STREAM_SIZE);
  readonly #fields = new DataView(this.bytes.buffer, this.bytes.byteOffset);
  readonly #reset: Foreign;
  readonly #step: Foreign;
  #input = Buffer.alloc(0);
  #output = Buffer.alloc(0);
  #inputAt = 0n;
  #outputAt = 0n;

  constructor(reset: Foreign, step: Foreign) {
    this.#reset = reset;
    this.#step = step;
  }

  /** Gives it a whole block; undefined unless all of it fits into the output. */
  run(input: Buffer, output: Buffer): number | undefined {
    this.#grow(input.length, output.length);
    if (this.#reset(this.bytes) !== 0) return undefined;
    this.#input.set(input);
    const fields = this.#fields;
    fields.setBigUint64(NEXT_IN, this.#inputAt, true);
    fields.setUint32(AVAILABLE_IN, input.length, true);
    fields.setBigUint64(NEXT_OUT, this.#outputAt, true);
    fields.setUint32(AVAILABLE_OUT, output.length, true);
    if (this.#step(this.bytes, Z_FINISH) !== Z_STREAM_END) return undefined;
    const size = Number(fields.getBigUint64(TOTAL_OUT, true));
    return this.#output.copy(output, 0, 0, size);
  }

  #grow(inputSize: number, outputSize: number): void {
    if (inputSize > this.#input.length) {
      this.#input = Buffer.allocUnsafeSlow(inputSize);
      this.#inputAt = addressOf(this.#input);
    }
    if (outputSize > this.#output.length) {
      this.#output = Buffer.allocUnsafeSlow(outputSize);
      this.#outputAt = addressOf(this.#output);
    }
  }
}
