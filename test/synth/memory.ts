import type { ByteSource, Extent, PageState, PhysicalMemory } from "../../src/core/memory.ts";

/** Page size of the machines built here; deliberately not taken from src. */
const PAGE = 4096;

/** Memory at a page-aligned address: bytes (padded with zeros to whole pages), or `size` bytes of another state. */
export type Piece =
  | { readonly address: number; readonly bytes: Uint8Array }
  | { readonly address: number; readonly size: number; readonly state: Exclude<PageState, "present"> };

export interface SynthMemory extends PhysicalMemory {
  /** Address of every page that was read through `readPage`, in order. */
  readonly pageReads: number[];
}

/** One entry of a page table: physical address of the table, index, value. */
export type TableEntry = readonly [table: number, index: number, value: bigint];

interface Placed {
  readonly start: number;
  readonly end: number;
  readonly state: PageState;
  readonly source: ByteSource;
  readonly bytes: Uint8Array;
}

/**
 * The physical memory that consists of these pieces, in any order but without overlaps.
 * @param options.raw whether extents say where their bytes lie (default true)
 */
export function memoryFrom(pieces: readonly Piece[], options: { raw?: boolean } = {}): SynthMemory {
  const placed = pieces.map(place).sort((a, b) => a.start - b.start);
  for (const [i, piece] of placed.entries()) {
    if (piece.start % PAGE !== 0)
      throw new Error(`piece at 0x${piece.start.toString(16)} is not page-aligned`);
    if (i > 0 && placed[i - 1]!.end > piece.start) throw new Error("pieces overlap");
  }
  const pageReads: number[] = [];
  const at = (address: number) => placed.find((piece) => address >= piece.start && address < piece.end);
  return {
    pageReads,
    ranges: placed.map(({ start, end }) => ({ start, end })),
    extentAt(address, limit): Extent {
      const piece = at(address);
      if (piece === undefined) {
        const next = placed.find((candidate) => candidate.start > address)?.start ?? limit;
        return { start: address, end: Math.min(next, limit), state: "absent" };
      }
      const extent = { start: address, end: Math.min(piece.end, limit), state: piece.state };
      if (piece.state !== "present" || options.raw === false) return extent;
      return { ...extent, at: { source: piece.source, offset: address - piece.start } };
    },
    readPage(address, target) {
      const page = address - (address % PAGE);
      pageReads.push(page);
      const piece = at(page);
      if (piece === undefined) return "absent";
      if (piece.state === "present") {
        target.set(piece.bytes.subarray(page - piece.start, page - piece.start + PAGE));
      } else if (piece.state === "zero") target.fill(0);
      return piece.state;
    },
  };
}

function place(piece: Piece): Placed {
  const size = "bytes" in piece ? Math.ceil(piece.bytes.length / PAGE) * PAGE : piece.size;
  const bytes = new Uint8Array("bytes" in piece ? size : 0);
  if ("bytes" in piece) bytes.set(piece.bytes);
  const source: ByteSource = {
    name: `piece 0x${piece.address.toString(16)}`,
    size: bytes.length,
    read(offset, target) {
      const part = bytes.subarray(offset, offset + target.length);
      target.set(part);
      return part.length;
    },
  };
  const state = "bytes" in piece ? "present" : piece.state;
  return { start: piece.address, end: piece.address + size, state, source, bytes };
}

/** Pages that hold exactly these page-table entries; all others are 0. */
export function tablePieces(entries: readonly TableEntry[], entryBytes: 4 | 8 = 8): Piece[] {
  const pages = new Map<number, Uint8Array>();
  for (const [table, index, value] of entries) {
    const address = table + index * entryBytes;
    const page = address - (address % PAGE);
    const bytes = pages.get(page) ?? new Uint8Array(PAGE);
    pages.set(page, bytes);
    for (let i = 0; i < entryBytes; i++) {
      bytes[(address % PAGE) + i] = Number((value >> BigInt(8 * i)) & 0xffn);
    }
  }
  return [...pages].map(([address, bytes]) => ({ address, bytes }));
}

/** RAM from 0 to `size` that is zero but for these pieces. */
export function ramWith(size: number, pieces: readonly Piece[]): Piece[] {
  const sorted = [...pieces].sort((a, b) => a.address - b.address);
  const ram: Piece[] = [];
  let end = 0;
  for (const piece of [...sorted, { address: size, size: 0, state: "zero" } as const]) {
    if (piece.address > end) ram.push({ address: end, size: piece.address - end, state: "zero" });
    const bytes = "bytes" in piece ? Math.ceil(piece.bytes.length / PAGE) * PAGE : piece.size;
    if (bytes > 0) ram.push(piece);
    end = piece.address + bytes;
  }
  return ram;
}
