import { u64, viewOf } from "../../core/bytes.ts";
import { CorruptError } from "../../core/errors.ts";

export const ZSTD_MAGIC = 0xfd2fb528;
/** Skippable frames: the low four bits are free (RFC 8878 §3.1.2). */
export const isSkippable = (magic: number): boolean => magic >= 0x184d2a50 && magic <= 0x184d2a5f;

export const MAX_HEADER_SIZE = 18;

/** Frame header (RFC 8878 §3.1.1.1). */
export interface ZstdFrameHeader {
  readonly windowSize: number;
  /** Bytes the frame unpacks to, where the header says so. */
  readonly contentSize: number | undefined;
  readonly hasChecksum: boolean;
  readonly dictionary: number;
  /** Bytes of the header, magic included. */
  readonly length: number;
}

/**
 * Decodes the frame header at `start`; the magic is already checked.
 * @returns undefined when `bytes` ends inside it
 * @throws CorruptError when the reserved bit is set
 */
export function decodeFrameHeader(bytes: Uint8Array, start: number): ZstdFrameHeader | undefined {
  const view = viewOf(bytes);
  if (start + 5 > bytes.length) return undefined;
  const descriptor = bytes[start + 4]!;
  const singleSegment = (descriptor & 0x20) !== 0;
  const dictionarySize = [0, 1, 2, 4][descriptor & 3]!;
  const sizeFlag = descriptor >> 6;
  const sizeBytes = sizeFlag === 0 ? Number(singleSegment) : 1 << sizeFlag;
  const dictionaryAt = start + 5 + Number(!singleSegment);
  const sizeAt = dictionaryAt + dictionarySize;
  if (sizeAt + sizeBytes > bytes.length) return undefined;
  if ((descriptor & 8) !== 0) throw new CorruptError("zstd: the reserved bit of a frame header is set");
  const readSize: Record<number, () => number> = {
    1: () => view.getUint8(sizeAt),
    2: () => view.getUint16(sizeAt, true) + 256,
    4: () => view.getUint32(sizeAt, true),
    8: () => u64(view, sizeAt),
  };
  const contentSize = readSize[sizeBytes]?.();
  let dictionary = 0;
  for (let i = dictionarySize - 1; i >= 0; i--) dictionary = dictionary * 256 + bytes[dictionaryAt + i]!;
  const window = bytes[start + 5]!;
  return {
    windowSize: singleSegment ? contentSize! : 2 ** (10 + (window >> 3)) * (1 + (window & 7) / 8),
    contentSize,
    hasChecksum: (descriptor & 4) !== 0,
    dictionary,
    length: sizeAt + sizeBytes - start,
  };
}
