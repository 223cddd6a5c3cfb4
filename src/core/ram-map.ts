import { PAGE_SIZE } from "./address.ts";
import { UsageError } from "./errors.ts";
import type { Range } from "./ranges.ts";
import { hex } from "./text.ts";

/** Bytes of a raw image: the machine's memory in [start, end) lies in the file from `offset` on. */
export interface RamPiece extends Range {
  readonly offset: number;
}

const PIECE = /^(0x[0-9a-f]+|\d+)-(0x[0-9a-f]+|\d+)(?:@(0x[0-9a-f]+|\d+))?$/i;
const LIMIT = 2 ** 52;

/**
 * Reads pieces of a raw image as the user writes them: START-END@OFFSET, numbers decimal or 0x…; without @OFFSET a
 * piece follows the one before it in the image, the first begins it.
 * @returns ascending and disjoint
 * @throws UsageError for what is no such piece, is not made of whole pages, or overlaps another
 */
export function parseRamMap(texts: readonly string[]): RamPiece[] {
  let next = 0;
  const pieces = texts.map((text): RamPiece => {
    const match = PIECE.exec(text);
    if (match === null) throw badPiece(text, "it is no START-END@OFFSET");
    const [start, end] = [Number(match[1]), Number(match[2])];
    const offset = match[3] === undefined ? next : Number(match[3]);
    if (!(start < end && end <= LIMIT)) throw badPiece(text, "START is below END, END at most 2^52");
    if (start % PAGE_SIZE !== 0 || end % PAGE_SIZE !== 0)
      throw badPiece(text, "it is not made of whole pages");
    if (!Number.isSafeInteger(offset)) throw badPiece(text, "the offset is beyond any file");
    next = offset + (end - start);
    return { start, end, offset };
  });
  pieces.sort((a, b) => a.start - b.start);
  for (const [i, { start }] of pieces.entries()) {
    if (i > 0 && pieces[i - 1]!.end > start) {
      throw new UsageError(`two pieces of --map hold the memory at ${hex(start)}`);
    }
  }
  return pieces;
}

const badPiece = (text: string, reason: string): UsageError =>
  new UsageError(`--map ${text}: ${reason}`, {
    hint: "an example: --map 0x0-0xc0000000@0 --map 0x100000000-0x140000000",
  });
