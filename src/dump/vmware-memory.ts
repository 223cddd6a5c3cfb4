import { alignDown, PAGE_SIZE } from "../core/address.ts";
import { CorruptError, UnsupportedError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import type { RamPiece } from "../core/ram-map.ts";
import { hex, plural } from "../core/text.ts";
import type { DumpFiles } from "./format.ts";
import { numberOf, TagWalk, type VmwareTag } from "./vmware-tags.ts";

/** What a state file says of the machine's memory. */
export interface VmwareMemory {
  /** Where its bytes are in the state file itself; undefined where they are in a .vmem beside it. */
  readonly block: { readonly offset: number; readonly size: number } | undefined;
  /** Which of its pages are which of the machine's; empty where it is in one piece from address 0 on. */
  readonly regions: readonly Region[];
}

/** Page numbers: of the memory as it is stored, of the machine's. */
interface Region {
  readonly stored: number;
  readonly page: number;
  readonly count: number;
}

/** The memory below and above the hole for devices, and a few more where some was added later. */
const MAX_REGIONS = 1 << 12;

const ADDRESS_END = 2 ** 52;

/** One value each, by the number of the region. */
const PARTS = ["regionPageNum", "regionPPN", "regionSize"] as const;

/**
 * Reads the group "memory".
 * @param position undefined where there is none
 * @throws UnsupportedError for memory that is compressed or in pieces; CorruptError where regions are missing
 */
export async function readVmwareMemory(
  source: ByteSource,
  position: number | undefined,
  checkpoint?: DumpFiles["checkpoint"],
): Promise<VmwareMemory> {
  if (position === undefined) return { block: undefined, regions: [] };
  const walk = new TagWalk(source, position, checkpoint);
  const values = new Map<string, number>();
  let block: VmwareTag | undefined;
  for await (const tag of walk) {
    if (tag.name === "Memory" && tag.kind !== "value") block = onlyBlock(tag, block);
    else if (tag.name === "regionsCount" || isPart(tag.name)) {
      const value = numberOf(walk.bytesOf(tag, 8));
      if (value !== undefined && values.size <= PARTS.length * MAX_REGIONS)
        values.set(keyOf(tag.name, tag.indexes[0]), Number(value));
    }
  }
  const count = values.get(keyOf("regionsCount", undefined));
  // Without its end the group may lack the regions, and memory above the hole for devices would be misplaced.
  if (!walk.whole && count === undefined) {
    throw new CorruptError("the state file ends, or is damaged, before it says where which memory is", {
      where: { offset: block?.offset ?? position },
    });
  }
  return { block, regions: regionsOf(count ?? 0, values) };
}

const isPart = (name: string): boolean => (PARTS as readonly string[]).includes(name);
const keyOf = (name: string, index: number | undefined): string => `${name}[${index ?? ""}]`;

function onlyBlock(tag: VmwareTag, before: VmwareTag | undefined): VmwareTag {
  const where = { where: { offset: tag.offset } };
  if (before !== undefined) {
    throw new UnsupportedError("a state file with memory in more than one block", where);
  }
  if (tag.kind === "compressed block") {
    throw new UnsupportedError("a state file whose memory is compressed", {
      ...where,
      hint: "VMware's own vmss2core unpacks it",
    });
  }
  if (!(tag.size <= ADDRESS_END)) {
    throw new CorruptError("the state file's block of memory is larger than any machine's", where);
  }
  return tag;
}

function regionsOf(count: number, values: ReadonlyMap<string, number>): Region[] {
  if (count > MAX_REGIONS)
    throw new CorruptError(`the state file counts ${plural(count, "region")} of memory`);
  return Array.from({ length: count }, (_, i) => {
    const [stored, page, size] = PARTS.map((part) => values.get(keyOf(part, i)));
    if (stored === undefined || page === undefined || size === undefined) {
      throw new CorruptError(`region ${i} of the machine's memory is not described`);
    }
    return { stored, page, count: size };
  });
}

/**
 * Where the machine's memory lies in the file that holds it, from `offset` on in `size` bytes.
 * @throws CorruptError when regions overlap
 */
export function piecesOf(regions: readonly Region[], offset: number, size: number): RamPiece[] {
  if (regions.length === 0) {
    const end = alignDown(size, PAGE_SIZE);
    return end === 0 ? [] : [{ start: 0, end, offset }];
  }
  const pieces = regions
    .filter(({ count }) => count > 0)
    .map(({ stored, page, count }) => ({
      start: page * PAGE_SIZE,
      end: (page + count) * PAGE_SIZE,
      offset: offset + stored * PAGE_SIZE,
    }))
    .sort((a, b) => a.start - b.start);
  for (const [i, { start, end }] of pieces.entries()) {
    if (i > 0 && pieces[i - 1]!.end > start)
      throw new CorruptError(`two regions hold the memory at ${hex(start)}`);
    if (end > ADDRESS_END)
      throw new CorruptError(`a region ends at ${hex(end)}, beyond every machine's memory`);
  }
  return pieces;
}
