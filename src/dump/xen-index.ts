import { PAGE_SIZE } from "../core/address.ts";
import { viewOf } from "../core/bytes.ts";
import { UnsupportedError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import type { RamPiece } from "../core/ram-map.ts";
import { overlay, totalSize } from "../core/ranges.ts";
import type { DumpFiles } from "./format.ts";

/** Entries read at a time: 1 MiB. */
const BATCH = 1 << 17;
/** A domain's memory is in some dozen pieces; one that gave back some of it page by page has more. */
const MAX_PIECES = 1 << 17;
/** No machine has memory there: 2^52 bytes. */
const PFN_END = 2 ** 40;
/** All ones. */
const NO_PAGE = 2 ** 64;

/** Joins pages that follow each other in memory and in the file: memory is by pieces, not by pages. */
class Pieces {
  readonly list: RamPiece[] = [];
  readonly #offset: number;
  /** The run of page frames that is not in the list yet: its first, its end, the position of its first page. */
  #first = 0;
  #end = 0;
  #position = 0;

  /** @param offset of the first page's bytes */
  constructor(offset: number) {
    this.#offset = offset;
  }

  /** Takes the page frame of the page at a position of the file. */
  add(pfn: number, position: number): void {
    if (pfn === this.#end && position - this.#position === pfn - this.#first && pfn > this.#first) {
      this.#end++;
      return;
    }
    this.flush();
    [this.#first, this.#end, this.#position] = [pfn, pfn + 1, position];
  }

  flush(): void {
    const [first, end] = [this.#first, this.#end];
    if (end === first) return;
    if (this.list.length === MAX_PIECES) {
      throw new UnsupportedError(`the domain's memory is in more than ${MAX_PIECES} pieces`);
    }
    const offset = this.#offset + this.#position * PAGE_SIZE;
    this.list.push({ start: first * PAGE_SIZE, end: end * PAGE_SIZE, offset });
    this.#end = first;
  }

  /** Ascending and disjoint; of a page that is there twice the first in the file counts. */
  laid(): RamPiece[] {
    this.flush();
    return overlay(
      this.list,
      () => 0,
      ({ start: from, offset }, start, end) => ({ start, end, offset: offset + (start - from) }),
    );
  }
}

/** Where the table of page frames is in the file, and what it is a table of. */
export interface FrameTable {
  readonly offset: number;
  readonly count: number;
  /** Bytes an entry. */
  readonly width: 4 | 8;
  /** Offset of the first page's bytes. */
  readonly pages: number;
  /** Whether an entry tells the page frame; otherwise its position does, and the entry only whether it is there. */
  readonly tells: boolean;
}

/** What a table of page frames tells. */
export interface FramePieces {
  readonly pieces: readonly RamPiece[];
  /** Entries that the file ends before. */
  readonly lost: number;
  /** Pages of which another one came before. */
  readonly twice: number;
  /** Entries that no machine's memory has. */
  readonly impossible: number;
}

/**
 * Reads the table once and keeps runs: it has 8 bytes for each page of the domain's, in no order that could be relied on
 * (Xen docs/misc/dump-core-format.txt). All ones stand for no page.
 * @returns the pieces, and what is wrong with the table
 * @throws UnsupportedError for memory in more than 131072 pieces
 */
export async function piecesOf(
  source: ByteSource,
  { offset, count, width, pages, tells }: FrameTable,
  { checkpoint }: DumpFiles,
): Promise<FramePieces> {
  const pieces = new Pieces(pages);
  const bytes = Buffer.allocUnsafeSlow(Math.min(BATCH, count) * width);
  const view = viewOf(bytes);
  let [read, impossible] = [0, 0];
  for (let first = 0; first < count; first += BATCH) {
    const wanted = Math.min(BATCH, count - first);
    const got = Math.floor(source.read(offset + first * width, bytes.subarray(0, wanted * width)) / width);
    for (let i = 0; i < got; i++) {
      const pfn = frameAt(view, i * width, width);
      if (pfn < PFN_END) pieces.add(tells ? pfn : first + i, first + i);
      else if (pfn !== NO_PAGE) impossible++;
    }
    read += got;
    if (got < wanted) break;
    await checkpoint?.();
  }
  const laid = pieces.laid();
  const twice = (totalSize(pieces.list) - totalSize(laid)) / PAGE_SIZE;
  return { pieces: laid, lost: count - read, twice, impossible };
}

function frameAt(view: DataView, at: number, width: 4 | 8): number {
  const low = view.getUint32(at, true);
  if (width === 4) return low === 0xffff_ffff ? NO_PAGE : low;
  return view.getUint32(at + 4, true) * 2 ** 32 + low;
}
