import { Parser } from "binary-parser";
import type { ByteSource } from "../core/memory.ts";
import type { Range } from "../core/ranges.ts";

/** struct lime_mem_range_header (LiME `lime.h`); AVML has the same with a magic of its own (`src/image.rs`). */
export interface LimeHeader {
  readonly magic: string;
  readonly version: number;
  /** Physical addresses; undefined where they are none. */
  readonly range: Range | undefined;
}

export const LIME_HEADER_SIZE = 32;

/** Firmware and Linux split RAM into some dozen ranges. */
export const MAX_LIME_RANGES = 1 << 16;

const ADDRESS_END = 2n ** 52n;

const header = new Parser()
  .endianness("little")
  .string("magic", { length: 4, encoding: "latin1" })
  .uint32("version")
  .uint64("start")
  // The last byte of the range.
  .uint64("last");

/** The header at `offset`; undefined when the file ends before or inside it. */
export function readLimeHeader(source: ByteSource, offset: number): LimeHeader | undefined {
  const bytes = Buffer.alloc(LIME_HEADER_SIZE);
  if (source.read(offset, bytes) < bytes.length) return undefined;
  const { magic, version, start, last } = header.parse(bytes) as {
    magic: string;
    version: number;
    start: bigint;
    last: bigint;
  };
  const isRange = start <= last && last < ADDRESS_END;
  return { magic, version, range: isRange ? { start: Number(start), end: Number(last + 1n) } : undefined };
}
