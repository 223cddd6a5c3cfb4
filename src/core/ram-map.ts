import { alignDown, PAGE_SIZE } from "./address.ts";
import { UsageError } from "./errors.ts";
import { isLayoutName, RAM_LAYOUTS, type RamLayoutName } from "./ram-layouts.ts";
import { type Range, sizeOf } from "./ranges.ts";
import { hex } from "./text.ts";

/** Bytes of a raw image: the machine's memory in [start, end) lies in the file from `offset` on. */
export interface RamPiece extends Range {
  readonly offset: number;
}

/** What a raw image is a map of: pieces, by the layout of a kind of machine, or by a file that describes the machine. */
export type RamMap =
  | { readonly pieces: readonly RamPiece[] }
  | { readonly layout: RamLayoutName }
  | { readonly description: string };

const PIECE = /^(0x[0-9a-f]+|\d+)-(0x[0-9a-f]+|\d+)(?:@(0x[0-9a-f]+|\d+))?$/i;
const LIMIT = 2 ** 52;

/**
 * Reads what the user says of a raw image: pieces START-END@OFFSET, numbers decimal or 0x…, where without @OFFSET a piece
 * follows the one before it in the image and the first begins it; or, alone, the name of a layout or of a JSON file.
 * @param texts at least one
 * @throws UsageError for what is none of these, pieces that are not made of whole pages, or overlap
 */
export function parseRamMap(texts: readonly string[]): RamMap {
  const other = texts.find((text) => !PIECE.test(text));
  if (other === undefined) return { pieces: parsePieces(texts) };
  const isFile = isDescription(other);
  if (!isFile && !isLayoutName(other)) throw badPiece(other, "it is no START-END@OFFSET");
  if (texts.length > 1) throw new UsageError(`--map ${other} says where all of the memory is: give no other`);
  return isLayoutName(other) ? { layout: other } : { description: other };
}

/** Whether a map is the name of a file. */
export const isDescription = (text: string): boolean => /\.json$/i.test(text);

function parsePieces(texts: readonly string[]): RamPiece[] {
  let next = 0;
  const pieces = texts.map((text): RamPiece => {
    const match = PIECE.exec(text)!;
    const [start, end] = [Number(match[1]), Number(match[2])];
    const offset = match[3] === undefined ? next : Number(match[3]);
    if (!(start < end && end <= LIMIT)) throw badPiece(text, "START is below END, END at most 2^52");
    if (start % PAGE_SIZE !== 0 || end % PAGE_SIZE !== 0)
      throw badPiece(text, "it is not made of whole pages");
    if (!Number.isSafeInteger(offset)) throw badPiece(text, "the offset is beyond any file");
    next = offset + (end - start);
    return { start, end, offset };
  });
  return ascending(pieces);
}

/** @throws UsageError when pieces overlap */
function ascending(pieces: RamPiece[]): RamPiece[] {
  pieces.sort((a, b) => a.start - b.start);
  for (const [i, { start }] of pieces.entries()) {
    if (i > 0 && pieces[i - 1]!.end > start) {
      throw new UsageError(`two pieces of --map hold the memory at ${hex(start)}`);
    }
  }
  return pieces;
}

/**
 * The pieces of an image that holds all of a machine's RAM in one piece, as the machine's layout splits it.
 * @param size of the image in bytes
 * @throws UsageError for more RAM than the layout is known for
 */
export function layoutPieces(layout: RamLayoutName, size: number): RamPiece[] {
  const ram = alignDown(size, PAGE_SIZE);
  const pieces: RamPiece[] = [];
  let [start, offset] = [0, 0];
  for (const hole of RAM_LAYOUTS[layout].holes(ram)) {
    const end = Math.min(hole.start, start + (ram - offset));
    if (end > start) pieces.push({ start, end, offset });
    offset += Math.max(0, end - start);
    start = hole.end;
  }
  if (ram > offset) pieces.push({ start, end: start + (ram - offset), offset });
  const { limit } = RAM_LAYOUTS[layout];
  const end = pieces.at(-1)?.end ?? 0;
  if (end > limit) {
    throw new UsageError(`--map ${layout}: where RAM beyond ${hex(limit)} lies depends on the host`, {
      hint: "give pieces, as QEMU's info mtree -f lists them: --map START-END@OFFSET",
    });
  }
  return pieces;
}

/**
 * Pieces that follow each other in the image in this order, ascending by address.
 * @throws UsageError when they overlap
 */
export function consecutive(ranges: readonly Range[]): RamPiece[] {
  let next = 0;
  return ascending(
    ranges.map((range) => {
      const offset = next;
      next += sizeOf(range);
      return { ...range, offset };
    }),
  );
}

const badPiece = (text: string, reason: string): UsageError =>
  new UsageError(`--map ${text}: ${reason}`, {
    hint: "an example: --map 0x0-0xc0000000@0 --map 0x100000000-0x140000000; or --map q35, --map state.json",
  });
