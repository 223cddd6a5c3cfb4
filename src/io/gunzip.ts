import { crc32, createInflateRaw, type InflateRaw } from "node:zlib";
import { CorruptError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";

const INPUT_SIZE = 64 * 1024;
const OUTPUT_SIZE = 128 * 1024;
/** FEXTRA, FNAME and FCOMMENT together may make a header no longer than this. */
const MAX_HEADER = 128 * 1024;
const TRAILER_SIZE = 8;

/** ID1, ID2, and CM = deflate. */
const START = Buffer.from([0x1f, 0x8b, 8]);
const FHCRC = 2;
const FEXTRA = 4;
const FNAME = 8;
const FCOMMENT = 16;
const RESERVED_FLAGS = 0xe0;

/** Receives what was unpacked. */
interface Sink {
  append(bytes: Buffer, start: number, end: number): void;
}

/**
 * Unpacks a gzip file (RFC 1952): any number of members, zero padding behind the last, CRC-32 and length verified.
 * What was decoded before an error has reached the sink.
 * @yields the offset in `source` reached so far
 * @returns whether the stream is whole: false when the source ends inside a member
 * @throws CorruptError with the offset of the damage
 */
export async function* unpackGzip(source: ByteSource, sink: Sink): AsyncGenerator<number, boolean> {
  for (let offset = 0; offset < source.size; ) {
    if (offset > 0 && isPadding(source, offset)) return true;
    const start = memberData(source, offset);
    if (start === undefined) return false;
    const member = yield* inflateMember(source, start, sink);
    const trailer = Buffer.alloc(TRAILER_SIZE);
    if (member === undefined || source.read(member.end, trailer) < TRAILER_SIZE) return false;
    if (trailer.readUInt32LE(0) !== member.crc || trailer.readUInt32LE(4) !== member.length % 2 ** 32) {
      throw new CorruptError(
        "gzip: the checksum of a member does not match: bytes unpacked from it are wrong",
        {
          where: { offset: member.end },
        },
      );
    }
    offset = member.end + TRAILER_SIZE;
    yield offset;
  }
  return true;
}

/** Whether only zeros follow, as tapes and block devices leave them; looks at 64 KiB. */
function isPadding(source: ByteSource, offset: number): boolean {
  const bytes = Buffer.alloc(INPUT_SIZE);
  return bytes.subarray(0, source.read(offset, bytes)).every((byte) => byte === 0);
}

/** Offset of the deflate data of the member at `offset`; undefined when the source ends inside its header. */
function memberData(source: ByteSource, offset: number): number | undefined {
  const bytes = Buffer.alloc(MAX_HEADER);
  const length = source.read(offset, bytes);
  const flags = bytes[3]!;
  const known = Math.min(length, START.length);
  if (bytes.compare(START, 0, known, 0, known) !== 0 || (flags & RESERVED_FLAGS) !== 0) {
    throw new CorruptError("gzip: no member starts here", { where: { offset } });
  }
  if (length < 10) return undefined;
  let at = 10;
  if ((flags & FEXTRA) !== 0) at += 2 + (at + 2 <= length ? bytes.readUInt16LE(at) : 0);
  for (const flag of [FNAME, FCOMMENT]) {
    if ((flags & flag) === 0) continue;
    const nul = bytes.subarray(0, length).indexOf(0, at);
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
  source: ByteSource,
  start: number,
  sink: Sink,
): AsyncGenerator<number, Member | undefined> {
  const inflater = new Inflater(sink);
  const input = Buffer.alloc(INPUT_SIZE);
  try {
    for (let offset = start; ; ) {
      const got = source.read(offset, input);
      if (got === 0) return undefined;
      const outcome = await inflater.write(input.subarray(0, got)).catch((error: unknown) => {
        if (!isDataError(error)) throw error;
        throw new CorruptError("gzip: the deflate stream is damaged", { where: { offset } });
      });
      if (outcome === "end") {
        return { end: start + inflater.consumed, crc: inflater.crc, length: inflater.length };
      }
      offset += got;
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
