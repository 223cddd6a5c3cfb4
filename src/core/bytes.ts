/** Little-endian 64-bit reads that stay exact and fast (`DataView`, no `Buffer.readBigUInt64LE` in loops). */

const TWO_32 = 0x1_0000_0000;

export const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/**
 * Unsigned 64-bit little-endian field as `number`. Values of 2^53 and above come back as `Infinity`: larger than
 * any address, size or offset, so a plain bounds check rejects them.
 */
export function u64(view: DataView, offset: number, littleEndian = true): number {
  const high = view.getUint32(littleEndian ? offset + 4 : offset, littleEndian);
  const low = view.getUint32(littleEndian ? offset : offset + 4, littleEndian);
  return high < 0x20_0000 ? high * TWO_32 + low : Number.POSITIVE_INFINITY;
}

/** `u64` of a big-endian field. */
export function u64be(bytes: Buffer, offset: number): number {
  const high = bytes.readUInt32BE(offset);
  return high < 0x20_0000 ? high * TWO_32 + bytes.readUInt32BE(offset + 4) : Number.POSITIVE_INFINITY;
}

export const u64big = (view: DataView, offset: number): bigint => view.getBigUint64(offset, true);

/** Bytes up to the first NUL, at most `limit` of them, as Latin-1 text; `undefined` when no NUL is found. */
export function cString(bytes: Uint8Array, offset: number, limit: number): string | undefined {
  const end = Math.min(bytes.length, offset + limit);
  for (let i = offset; i < end; i++) {
    if (bytes[i] === 0) return latin1(bytes.subarray(offset, i));
  }
  return undefined;
}

export const latin1 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");

const ZEROS = Buffer.alloc(4096);

/** Whether `length` (at most 4096) bytes at `offset` are all zero; a memcmp, not a loop. */
export const isZero = (bytes: Buffer, offset: number, length: number): boolean =>
  bytes.compare(ZEROS, 0, length, offset, offset + length) === 0;
