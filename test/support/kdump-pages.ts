import { expect } from "vitest";
import type { ByteSource, PhysicalMemory } from "../../src/core/memory.ts";
import { openDump } from "../../src/dump/open.ts";
import type { KdumpCodec } from "../synth/kdump.ts";
import { patternBytes } from "../synth/pattern.ts";

/** Memory for kdump-compressed dumps, and looks at what is read from them. */

export const PAGE = 4096;

export const sourceOf = (bytes: Buffer, name = "dump"): ByteSource => ({
  name,
  size: bytes.length,
  read: (offset, target) => (offset >= bytes.length ? 0 : bytes.copy(target, 0, offset)),
});
export const open = (bytes: Buffer) => openDump(sourceOf(bytes));

/** A page that each of the codecs makes shorter. */
export const page = (seed: number, codec: KdumpCodec = "raw"): Buffer =>
  codec === "zstd"
    ? Buffer.alloc(PAGE, seed)
    : Buffer.concat(Array.from({ length: 128 }, () => patternBytes(PAGE, seed).subarray(0, 32)));

/** RAM in three pieces: two pages of which are zeros, and some left out. */
export const pagesOf = (codec?: KdumpCodec) =>
  new Map<number, Buffer | null>([
    ...[1, 2, 3, 5].map((pfn) => [pfn, page(pfn, codec)] as const),
    [4, Buffer.alloc(PAGE)],
    // One that no codec makes shorter.
    [6, patternBytes(PAGE, 6)],
    [7, null],
    [8, null],
    [40_000, page(9, codec)],
    [40_001, Buffer.alloc(PAGE)],
    [40_002, null],
  ]);
export const pages = pagesOf();

export function stateOf(memory: PhysicalMemory, pfn: number) {
  const target = Buffer.alloc(PAGE, 0xee);
  return { state: memory.readPage(pfn * PAGE, target), bytes: target };
}

export function expectPages(memory: PhysicalMemory, contents = pages): void {
  expect(memory.ranges).toEqual([
    { start: PAGE, end: 9 * PAGE },
    { start: 40_000 * PAGE, end: 40_003 * PAGE },
  ]);
  for (const [pfn, wanted] of contents) {
    const { state, bytes } = stateOf(memory, pfn);
    expect([pfn, state]).toEqual([pfn, wanted === null ? "excluded" : "present"]);
    if (wanted !== null) expect(bytes.equals(wanted), `page ${pfn}`).toBe(true);
  }
  expect(stateOf(memory, 0).state).toBe("absent");
  expect(stateOf(memory, 9).state).toBe("absent");
}

export const extents = (memory: PhysicalMemory) => {
  const found: [number, number, string][] = [];
  const end = memory.ranges.at(-1)!.end;
  for (let at = 0; at < end; ) {
    const extent = memory.extentAt(at, end);
    found.push([at / PAGE, extent.end / PAGE, extent.state]);
    at = extent.end;
  }
  return found;
};
