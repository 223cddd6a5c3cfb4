import { CorruptError, UnsupportedError } from "../../core/errors.ts";
import type { ByteSource } from "../../core/memory.ts";
import { WRONG_BYTES_HINT } from "../checksum.ts";
import { XxHash64 } from "../xxhash64.ts";
import {
  decodeFrameHeader,
  isSkippable,
  MAX_HEADER_SIZE,
  ZSTD_MAGIC,
  type ZstdFrameHeader,
} from "./header.ts";
import { History, type UnpackedBytes } from "./history.ts";
import { Input } from "./input.ts";
import { LiteralsDecoder } from "./literals.ts";
import { MAX_BLOCK_SIZE, SequencesDecoder } from "./sequences.ts";

/**
 * Unpacks a zstd stream (RFC 8878): any number of frames, skippable ones between them, windows of any size without
 * memory for them, checksums verified. Every complete block reaches the sink, also before an error.
 * @yields the offset in `source` of what comes next, after every block and frame
 * @returns whether the stream is whole: false when the source ends inside a frame
 * @throws CorruptError with the offset of the damaged block or frame
 * @throws UnsupportedError when it needs a dictionary
 */
export const unpackZstd = (source: ByteSource, sink: UnpackedBytes): Generator<number, boolean> =>
  new ZstdUnpacker().unpack(source, sink);

/** `unpackZstd` of one stream after another, in the same memory. */
export class ZstdUnpacker {
  readonly #input = new Input();
  readonly #frames = new FrameDecoder(this.#input);

  *unpack(source: ByteSource, sink: UnpackedBytes): Generator<number, boolean> {
    const input = this.#input;
    input.open(source);
    this.#frames.open(sink);
    while (input.have(1) > 0) {
      const next = nextFrame(input);
      if (next === "truncated") return false;
      if (next === "skipped") yield input.offset;
      else if (!(yield* this.#frames.frame(next))) return false;
    }
    return true;
  }
}

/** Reads a frame header, or skips a skippable frame. */
function nextFrame(input: Input): ZstdFrameHeader | "skipped" | "truncated" {
  const offset = input.offset;
  const have = input.have(MAX_HEADER_SIZE);
  if (have < 4) return "truncated";
  const magic = input.bytes.readUInt32LE(input.at);
  if (isSkippable(magic)) {
    return have >= 8 && input.skip(8 + input.bytes.readUInt32LE(input.at + 4)) ? "skipped" : "truncated";
  }
  if (magic !== ZSTD_MAGIC) throw damaged("no frame starts here", offset);
  const header = decodeFrameHeader(input.bytes.subarray(0, input.at + have), input.at);
  if (header === undefined) return "truncated";
  if (header.dictionary !== 0) {
    throw new UnsupportedError(`zstd: the stream needs dictionary ${header.dictionary}`, {
      hint: "unpack it with zstd -d -D DICTIONARY",
    });
  }
  input.at += header.length;
  return header;
}

class FrameDecoder {
  readonly #input: Input;
  readonly #history = new History();
  readonly #hash = new XxHash64();
  readonly #literalBytes = Buffer.allocUnsafeSlow(MAX_BLOCK_SIZE);
  readonly #literals = new LiteralsDecoder(this.#literalBytes);
  readonly #sequences: SequencesDecoder;

  constructor(input: Input) {
    this.#input = input;
    this.#sequences = new SequencesDecoder(input.bytes);
  }

  /** Start of a stream. */
  open(sink: UnpackedBytes): void {
    this.#history.open(sink);
  }

  /** Decodes the blocks and the checksum behind a frame header; false when the input ends before. */
  *frame(header: ZstdFrameHeader): Generator<number, boolean> {
    const input = this.#input;
    const maxBlock = Math.min(MAX_BLOCK_SIZE, header.windowSize);
    this.#literals.reset();
    this.#sequences.reset();
    this.#hash.reset();
    this.#history.startFrame();
    const started = this.#history.position;
    for (let last = false; !last; ) {
      const offset = input.offset;
      if (input.have(3) < 3) return false;
      const block = input.bytes.readUIntLE(input.at, 3);
      const stored = (block & 6) === 2 ? 1 : block >> 3;
      if (block >> 3 > maxBlock || (block & 6) === 6) throw damaged("a block header is invalid", offset);
      if (input.have(3 + stored) < 3 + stored) return false;
      input.at += 3;
      last = (block & 1) !== 0;
      this.#block((block >> 1) & 3, block >> 3, maxBlock, offset);
      input.at += stored;
      if (header.hasChecksum) this.#hash.update(this.#history.newest());
      this.#history.flush();
      yield input.offset;
    }
    const { contentSize } = header;
    if (contentSize !== undefined && this.#history.position - started !== contentSize) {
      throw damaged("a frame does not hold as many bytes as its header says", input.offset);
    }
    const whole = !header.hasChecksum || this.#checksum();
    yield input.offset;
    return whole;
  }

  #checksum(): boolean {
    const input = this.#input;
    if (input.have(4) < 4) return false;
    const stored = input.bytes.readUInt32LE(input.at);
    if (stored !== Number(this.#hash.digest() & 0xffff_ffffn)) {
      throw new CorruptError(
        "zstd: the checksum of a frame does not match: bytes unpacked from it are wrong",
        {
          where: { offset: input.offset },
          hint: WRONG_BYTES_HINT,
        },
      );
    }
    input.at += 4;
    return true;
  }

  #block(type: number, size: number, maxBlock: number, offset: number): void {
    const { bytes, at } = this.#input;
    this.#history.startBlock();
    if (type === 0) this.#history.literals(bytes, at, size);
    else if (type === 1) this.#history.fill(bytes[at]!, size);
    else {
      try {
        this.#compressed(at, at + size, maxBlock);
      } catch (error) {
        if (!(error instanceof CorruptError)) throw error;
        throw new CorruptError(error.message, { where: { offset } });
      }
    }
  }

  /** Literals and matches in turn; what literals are left over end the block. */
  #compressed(start: number, end: number, maxBlock: number): void {
    const history = this.#history;
    const literals = this.#literals.decode(this.#input.bytes, start, end);
    const count = this.#sequences.decode(literals.end, end);
    const { literalLength, matchLength, offset } = this.#sequences;
    let used = 0;
    let made = 0;
    for (let i = 0; i < count; i++) {
      const run = literalLength[i]!;
      const length = matchLength[i]!;
      made += run + length;
      if (used + run > literals.count || made > maxBlock) {
        throw new CorruptError("zstd: a block holds more than its size allows");
      }
      history.literals(this.#literalBytes, used, run);
      history.match(offset[i]!, length);
      used += run;
    }
    const rest = literals.count - used;
    if (made + rest > maxBlock) throw new CorruptError("zstd: a block holds more than its size allows");
    history.literals(this.#literalBytes, used, rest);
  }
}

const damaged = (what: string, offset: number): CorruptError =>
  new CorruptError(`zstd: ${what}`, { where: { offset } });
