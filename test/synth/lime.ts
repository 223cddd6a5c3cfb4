/** LiME and AVML images, written from LiME's documentation and AVML's and snappy's of their formats; nothing of src/. */

export interface LimeRange {
  readonly start: number;
  readonly bytes: Uint8Array;
}

/** The header of a range; its last field is the last byte's address. */
export function limeHeader(
  start: number | bigint,
  last: number | bigint,
  magic = "EMiL",
  version = 1,
): Buffer {
  const header = Buffer.alloc(32);
  header.write(magic, 0, "latin1");
  header.writeUInt32LE(version, 4);
  header.writeBigUInt64LE(BigInt(start), 8);
  header.writeBigUInt64LE(BigInt(last), 16);
  return header;
}

export const buildLime = (ranges: readonly LimeRange[]): Buffer =>
  Buffer.concat(ranges.flatMap(({ start, bytes }) => [limeHeader(start, start + bytes.length - 1), bytes]));

/** A chunk of snappy's framing format: its kind, its length in three bytes, its contents. */
export function chunk(kind: number, ...contents: readonly Uint8Array[]): Buffer {
  const head = Buffer.alloc(4);
  head[0] = kind;
  const body = Buffer.concat(contents);
  head.writeUIntLE(body.length, 1, 3);
  return Buffer.concat([head, body]);
}

const checksum = (bytes: Uint8Array): Buffer => {
  const crc = crc32c(bytes);
  const result = Buffer.alloc(4);
  result.writeUInt32LE(((((crc >>> 15) | (crc << 17)) >>> 0) + 0xa282ead8) % 2 ** 32);
  return result;
};

/** Bit by bit, as RFC 3720 defines it. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

const STREAM_IDENTIFIER = chunk(0xff, Buffer.from("sNaPpY"));

/** A raw snappy block: one literal and, where the bytes are all the same, copies of the first. */
function snappyBlock(bytes: Uint8Array): Buffer {
  const length: number[] = [];
  let rest = bytes.length;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) length.push((rest % 0x80) + 0x80);
  length.push(rest);
  if (bytes.every((byte) => byte === bytes[0])) {
    const tags = [0, bytes[0]!];
    for (let left = bytes.length - 1; left > 0; left -= 64)
      tags.push(((Math.min(left, 64) - 1) << 2) | 2, 1, 0);
    return Buffer.from([...length, ...tags]);
  }
  const last = bytes.length - 1;
  return Buffer.concat([Buffer.from([...length, 61 << 2, last & 0xff, last >> 8]), bytes]);
}

export interface AvmlOptions {
  /** Bytes of memory a chunk; default 64 KiB. */
  readonly chunkSize?: number;
  /** Whether chunks are stored as they are where that is as short, as snappy's encoders do. */
  readonly raw?: boolean;
  /** Put between the chunks: readers have to skip it. */
  readonly padding?: Uint8Array;
}

export function avmlBlock({ start, bytes }: LimeRange, options: AvmlOptions = {}): Buffer {
  const { chunkSize = 65536, raw = true, padding } = options;
  const chunks: Buffer[] = [STREAM_IDENTIFIER];
  for (let at = 0; at < bytes.length; at += chunkSize) {
    const part = bytes.subarray(at, at + chunkSize);
    const packed = snappyBlock(part);
    const isRaw = raw && packed.length >= part.length;
    chunks.push(chunk(isRaw ? 1 : 0, checksum(part), isRaw ? part : packed));
    if (padding !== undefined && at + chunkSize < bytes.length) chunks.push(chunk(0xfe, padding));
  }
  const stream = Buffer.concat(chunks);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(stream.length));
  return Buffer.concat([limeHeader(start, start + bytes.length - 1, "AVML", 2), stream, length]);
}
