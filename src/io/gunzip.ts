import { crc32, createInflateRaw, type InflateRaw } from "node:zlib";
import { WRONG_BYTES_HINT } from "../codec/checksum.ts";
import { CorruptError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";

const INPUT_SIZE = 64 * 1024;
const OUTPUT_SIZE = 128 * 1024;
/** FEXTRA, FNAME and FCOMMENT together may make a header no longer than this. */
const MAX_HEADER = 128 * 1024;
const TRAILER_SIZE = 8;
const PADDING_SIZE = 64 * 1024;

/** ID1, ID2, and CM = deflate. */
const START = Buffer.from([0x1f, 0x8b, 8]);
const FHCRC = 2;
const FEXTRA = 4;
const FNAME = 8;
const FCOMMENT = 16;
const OPTIONAL_FIELDS = FHCRC | FEXTRA | FNAME | FCOMMENT;
const RESERVED_FLAGS = 0xe0;

/** Receives what was unpacked. */
interface Sink {
  append(bytes: Buffer, start: number, end: number): void;
}

/**
 * Unpacks a gzip file (RFC 1952): any number of members, zero padding behind the last, CRC-32 and length verified.
 * What was decoded before an error has reached the sink.
 * @param inputSize bytes unpacked at most between two yields: a thousand times as many come out of them
 * @yields the offset in `source` reached so far
 * @returns whether the stream is whole: false when the source ends inside a member
 * @throws CorruptError with the offset of the damage
 */
export async function* unpackGzip(
  source: ByteSource,
  sink: Sink,
  inputSize = INPUT_SIZE,
): AsyncGenerator<number, boolean> {
  const input = new Lookahead(source);
  for (let offset = 0; offset < source.size; ) {
    if (offset > 0 && isPadding(input, offset)) return true;
    const start = memberData(input, offset);
    if (start === undefined) return false;
    const member = yield* inflateMember(input, start, sink, inputSize);
    if (member === undefined) return false;
    const trailer = input.at(member.end, TRAILER_SIZE);
    if (trailer.length < TRAILER_SIZE) return false;
    if (trailer.readUInt32LE(0) !== member.crc || trailer.readUInt32LE(4) !== member.length % 2 ** 32) {
      throw new CorruptError(
        "gzip: the checksum of a member does not match: bytes unpacked from it are wrong",
        {
          where: { offset: member.end },
          hint: WRONG_BYTES_HINT,
        },
      );
    }
    offset = member.end + TRAILER_SIZE;
    yield offset;
  }
  return true;
}

/** What lies ahead in the source, in one buffer for all members: there may be one every 20 bytes. */
class Lookahead {
  readonly #source: ByteSource;
  readonly #bytes = Buffer.alloc(MAX_HEADER);
  #start = 0;
  #end = 0;

  constructor(source: ByteSource) {
    this.#source = source;
  }

  /** All that is buffered from `offset` on, at least `needed` bytes but at the end of the source; until the next call. */
  from(offset: number, needed: number): Buffer {
    const enough = Math.min(offset + needed, this.#source.size);
    if (offset < this.#start || enough > this.#end) {
      this.#start = offset;
      this.#end = offset + this.#source.read(offset, this.#bytes);
    }
    return this.#bytes.subarray(offset - this.#start, Math.max(offset, this.#end) - this.#start);
  }

  /** `length` bytes at `offset`; fewer only at the end of the source. */
  at(offset: number, length: number): Buffer {
    return this.from(offset, length).subarray(0, length);
  }
}

/** Whether only zeros follow, as tapes and block devices leave them; looks at 64 KiB. */
const isPadding = (input: Lookahead, offset: number): boolean =>
  input.at(offset, 1)[0] === 0 && input.at(offset, PADDING_SIZE).every((byte) => byte === 0);

/** Offset of the deflate data of the member at `offset`; undefined when the source ends inside its header. */
function memberData(input: Lookahead, offset: number): number | undefined {
  const start = input.at(offset, 10);
  const flags = start[3] ?? 0;
  const known = Math.min(start.length, START.length);
  if (start.compare(START, 0, known, 0, known) !== 0 || (flags & RESERVED_FLAGS) !== 0) {
    throw new CorruptError("gzip: no member starts here", { where: { offset } });
  }
  if (start.length < 10) return undefined;
  if ((flags & OPTIONAL_FIELDS) === 0) return offset + 10;
  const bytes = input.at(offset, MAX_HEADER);
  const { length } = bytes;
  let at = 10;
  if ((flags & FEXTRA) !== 0) at += 2 + (at + 2 <= length ? bytes.readUInt16LE(at) : 0);
  for (const flag of [FNAME, FCOMMENT]) {
    if ((flags & flag) === 0) continue;
    const nul = bytes.indexOf(0, at);
    at = nul < 0 ? length : nul + 1;
  }
  if ((flags & FHCRC) !== 0) at += 2;
  if (at < length) return offset + at;
  if (length < MAX_HEADER) return undefined;
  throw new CorruptError("gzip: the header of a member is too long", { where: { offset } });
}

interface Member {
  /** Offset of the trailer. */
  readonly end: number;
  readonly crc: number;
  readonly length: number;
}

/** Inflates one member; undefined when the source ends first. */
async function* inflateMember(
  input: Lookahead,
  start: number,
  sink: Sink,
  inputSize: number,
): AsyncGenerator<number, Member | undefined> {
  const inflater = new Inflater(sink);
  try {
    for (let offset = start; ; ) {
      const bytes = input.from(offset, 1).subarray(0, inputSize);
      if (bytes.length === 0) return undefined;
      const outcome = await inflater.write(bytes).catch((error: unknown) => {
        if (!isDataError(error)) throw error;
        throw new CorruptError("gzip: the deflate stream is damaged", { where: { offset } });
      });
      if (outcome === "end") {
        return { end: start + inflater.consumed, crc: inflater.crc, length: inflater.length };
      }
      offset += bytes.length;
      yield offset;
    }
  } finally {
    inflater.close();
  }
}

const isDataError = (error: unknown): boolean =>
  ["Z_DATA_ERROR", "Z_BUF_ERROR", "Z_NEED_DICT"].includes((error as NodeJS.ErrnoException).code ?? "");

/** A raw inflate stream driven one chunk at a time. */
class Inflater {
  crc = 0;
  length = 0;
  readonly #stream: InflateRaw = createInflateRaw({ chunkSize: OUTPUT_SIZE });
  #settle: { resolve(outcome: "more" | "end"): void; reject(error: unknown): void } | undefined;

  constructor(sink: Sink) {
    this.#stream.on("error", (error) => this.#settle?.reject(error));
    this.#stream.on("end", () => this.#settle?.resolve("end"));
    this.#stream.on("data", (bytes: Buffer) => {
      try {
        sink.append(bytes, 0, bytes.length);
      } catch (error) {
        // Thrown here it would go to nobody.
        this.#settle?.reject(error);
      }
      this.crc = crc32(bytes, this.crc);
      this.length += bytes.length;
    });
  }

  /** Bytes of input used so far; behind the end of the stream nothing is. */
  get consumed(): number {
    return this.#stream.bytesWritten;
  }

  /** Inflates a whole chunk; `end` when the stream ended in it. */
  write(chunk: Buffer): Promise<"more" | "end"> {
    return new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
      this.#stream.write(chunk, () => resolve("more"));
    });
  }

  close(): void {
    this.#settle = undefined;
    this.#stream.destroy();
  }
}
