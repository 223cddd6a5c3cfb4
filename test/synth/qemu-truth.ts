import type { ElfLayout } from "./elf.ts";
import type { Target } from "./pattern.ts";
import type { PlacedBlock } from "./qemu-blocks.ts";
import type { FlatRangePlan } from "./qemu-objects.ts";
import type { SyntheticProcess } from "./qemu-process.ts";
import type { NamedSegment } from "./qemu-segments.ts";
import type { Span, TruthBlock, TruthRange } from "./qemu-spec.ts";

/** Says what of the process is in the finished file, and where. */

export interface FileFinder {
  offset(address: number): number | undefined;
  /** Parts of an address range that are in the file. */
  present(start: number, end: number): Span[];
}

export function fileFinder(segments: readonly NamedSegment[], elf: ElfLayout, fileSize: number): FileFinder {
  const loads = segments.map((segment, i) => {
    const offset = elf.segments[i]!.offset;
    const { size } = elf.segments[i]!;
    const stated = Math.min(size, Number(segment.filesz ?? size), Number(segment.memsz ?? size));
    const inFile = Math.max(0, Math.min(stated, fileSize - offset));
    return { start: Number(segment.vaddr), end: Number(segment.vaddr) + inFile, offset };
  });
  return {
    offset: (address) => {
      const load = loads.find(({ start, end }) => address >= start && address < end);
      return load === undefined ? undefined : load.offset + (address - load.start);
    },
    present: (start, end) =>
      loads
        .map((load) => ({ start: Math.max(start, load.start), end: Math.min(end, load.end) }))
        .filter((span) => span.start < span.end)
        .sort((a, b) => a.start - b.start),
  };
}

const shifted = (spans: readonly Span[], by: number): Span[] =>
  spans.map(({ start, end }) => ({ start: start + by, end: end + by }));

export function truthBlock(block: PlacedBlock, finder: FileFinder): TruthBlock {
  const { spec, host } = block;
  return {
    idstr: spec.idstr,
    kind: spec.kind,
    address: block.address,
    regionAddress: block.region,
    host,
    offset: block.offset,
    usedLength: spec.used ?? spec.size,
    maxLength: spec.size,
    pageSize: spec.pageSize ?? 4096,
    shared: spec.shared === true,
    owner: block.owner,
    bytes: block.bytes,
    present: shifted(finder.present(host, host + spec.size), -host),
  };
}

export function truthRanges(
  blocks: readonly PlacedBlock[],
  ranges: readonly FlatRangePlan[],
  finder: FileFinder,
): TruthRange[] {
  const byRegion = new Map(blocks.map((block) => [block.region, block]));
  return ranges.flatMap((range) => {
    const block = byRegion.get(range.region);
    if (block === undefined) return [];
    const start = Number(range.start);
    const size = Number(range.size);
    const host = block.host + range.offsetInRegion;
    return [
      {
        start,
        end: start + size,
        idstr: block.spec.idstr,
        kind: block.spec.kind,
        readonly: range.readonly,
        blockOffset: range.offsetInRegion,
        bytes: block.bytes.subarray(range.offsetInRegion, range.offsetInRegion + size),
        present: shifted(finder.present(host, host + size), start - host),
      },
    ];
  });
}

export const targetsOf = (process: SyntheticProcess, finder: FileFinder): Target[] =>
  process.interests.flatMap(({ address, size, label }) => {
    const offset = finder.offset(address);
    return offset === undefined ? [] : [{ offset, size, label }];
  });

export function boundariesOf(
  core: Buffer,
  elf: ElfLayout,
  segments: readonly NamedSegment[],
  addresses: ReadonlyMap<string, number>,
  finder: FileFinder,
): number[] {
  const table = Array.from({ length: elf.phnum + 1 }, (_, i) => elf.phoff + i * elf.phentsize);
  const places = [0, 4, 16, 64, ...table, core.length];
  if (elf.notes !== undefined) places.push(elf.notes.offset, elf.notes.offset + elf.notes.size);
  for (const [i] of segments.entries()) {
    const { offset, size } = elf.segments[i]!;
    places.push(offset, offset + size);
  }
  if (elf.shoff !== undefined) places.push(elf.shoff, elf.shoff + 64);
  for (const address of addresses.values()) places.push(finder.offset(address) ?? 0);
  return [...new Set(places)].filter((at) => at <= core.length).sort((a, b) => a - b);
}
