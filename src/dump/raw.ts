import { alignDown, PAGE_SIZE } from "../core/address.ts";
import { CorruptError } from "../core/errors.ts";
import type { ByteSource, Extent, PageState, PhysicalMemory } from "../core/memory.ts";
import { rawExtent } from "../core/memory.ts";
import type { RamPiece } from "../core/ram-map.ts";
import { indexAtOrAbove, joinAscending, type Range } from "../core/ranges.ts";
import { hex } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { EM_X86_64 } from "../elf/constants.ts";
import type { MachineDump } from "./format.ts";

/** Physical memory whose pieces lie raw in a file; what the file ends before is absent. */
export class RawMemory implements PhysicalMemory {
  readonly ranges: readonly Range[];
  readonly #pieces: readonly RamPiece[];
  readonly #source: ByteSource;

  /** @param pieces page-aligned, ascending and disjoint; offsets need not be aligned */
  constructor(source: ByteSource, pieces: readonly RamPiece[]) {
    this.#source = source;
    this.#pieces = pieces;
    this.ranges = joinAscending(pieces);
  }

  extentAt(address: number, limit: number, holes = true): Extent {
    const piece = this.#pieces[indexAtOrAbove(this.#pieces, address)];
    if (piece === undefined || piece.start >= limit) return { start: address, end: limit, state: "absent" };
    if (piece.start > address) return { start: address, end: piece.start, state: "absent" };
    const end = Math.min(limit, piece.end);
    const offset = piece.offset + (address - piece.start);
    const there = alignDown(Math.max(0, this.#source.size - offset), PAGE_SIZE);
    if (there === 0) return { start: address, end, state: "absent" };
    return rawExtent(address, Math.min(end, address + there), this.#source, offset, holes);
  }

  readPage(address: number, target: Uint8Array): PageState {
    const page = alignDown(address, PAGE_SIZE);
    const { state, at } = this.extentAt(page, page + PAGE_SIZE, false);
    if (at === undefined) return state;
    return at.source.read(at.offset, target.subarray(0, PAGE_SIZE)) === PAGE_SIZE ? "present" : "absent";
  }
}

/**
 * Opens a raw image by the map that the user gives.
 * @throws CorruptError when the map says of nothing in the file what it is
 */
export function openRaw(source: ByteSource, map: readonly RamPiece[]): MachineDump {
  if (!map.some(({ offset }) => offset + PAGE_SIZE <= source.size)) {
    const begin = map[0] === undefined ? "is empty" : `begins at offset ${hex(map[0].offset)}`;
    throw new CorruptError(`the map ${begin}, and the image is ${source.size} bytes long`, {
      hint: "give START-END@OFFSET with the offset of START in the image",
    });
  }
  const end = map.reduce((last, { start, end, offset }) => Math.max(last, offset + (end - start)), 0);
  const warnings = end > source.size ? [cutImage(end, source.size)] : [];
  return { memory: new RawMemory(source, map), notes: [], cpus: [], machine: EM_X86_64, warnings };
}

const cutImage = (end: number, size: number): Warning => ({
  code: "DMP024",
  message: `the map has memory up to offset ${hex(end)}, and the image is ${size} bytes long: what it ends before is missing`,
});
