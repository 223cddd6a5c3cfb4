import { PAGE_SIZE } from "../core/address.ts";
import type { ByteSource } from "../core/memory.ts";
import type { Range } from "../core/ranges.ts";
import { hex } from "../core/text.ts";
import { PT_LOAD } from "../elf/constants.ts";
import type { ProgramHeader } from "../elf/header.ts";
import { type CheckReport, FOUND, stepOf } from "./check-report.ts";

/** A program header and where it is in the file. */
export interface Segment extends ProgramHeader {
  readonly header: number;
}

/** Calls `found` with each segment that begins inside one before it, and with that one which reaches farthest. */
function forOverlaps(
  segments: readonly Segment[],
  startOf: (segment: Segment) => number,
  endOf: (segment: Segment) => number,
  found: (lower: Segment, upper: Segment) => void,
): void {
  let farthest: Segment | undefined;
  for (const segment of [...segments].sort((a, b) => startOf(a) - startOf(b))) {
    if (farthest !== undefined && startOf(segment) < endOf(farthest)) found(farthest, segment);
    if (farthest === undefined || endOf(segment) > endOf(farthest)) farthest = segment;
  }
}

/**
 * Bytes of the file that are claimed twice. Segments may be aliases of the same memory, as the kernel image and the direct
 * map are; bytes that are of two places of memory, or headers at the same time, are of one of them at most.
 */
export function checkFileBytes(
  segments: readonly Segment[],
  process: boolean,
  headers: readonly Range[],
  report: CheckReport,
): void {
  const used = segments.filter(({ filesz }) => filesz > 0);
  const memoryOf = ({ vaddr, paddr }: Segment) =>
    process || !Number.isFinite(paddr) ? vaddr : BigInt(paddr);
  const isAlias = (a: Segment, b: Segment) =>
    a.type === PT_LOAD &&
    b.type === PT_LOAD &&
    memoryOf(a) - BigInt(a.offset) === memoryOf(b) - BigInt(b.offset);
  for (const { offset, filesz, header } of used) {
    if (headers.some(({ start, end }) => offset < end && offset + filesz > start)) {
      const message = `a segment's bytes at offset ${hex(offset)} are those of the headers`;
      report.find(FOUND.segmentBytes, message, { offset: header });
    }
  }
  forOverlaps(
    used,
    ({ offset }) => offset,
    ({ offset, filesz }) => offset + filesz,
    (a, b) => {
      if (isAlias(a, b)) return;
      const message = `two segments have the bytes at offset ${hex(b.offset)} for different memory`;
      report.find(FOUND.segmentBytes, message, { offset: b.header });
    },
  );
}

/** Addresses of a process that two segments claim. */
export function checkAddresses(loads: readonly Segment[], report: CheckReport): void {
  forOverlaps(
    loads,
    ({ vaddr }) => Number(vaddr),
    ({ vaddr, memsz }) => Number(vaddr) + memsz,
    (a, b) => {
      // Above 2^53 a sum is not exact.
      if (a.vaddr + BigInt(a.memsz) <= b.vaddr) return;
      const message = `two segments claim the address ${hex(b.vaddr)}`;
      report.find(FOUND.segmentAddresses, message, { offset: b.header, address: Number(b.vaddr) });
    },
  );
}

/** Bytes compared at a time. */
const CHUNK = 256 * 1024;

/** Two places of a file that hold the same memory. */
interface Twice {
  readonly a: number;
  readonly b: number;
  readonly length: number;
  readonly address: number;
}

/**
 * Memory that the file has twice, at different places, as /proc/vmcore has the kernel image: the bytes of a machine that
 * stood still are the same. At most as many are compared as the file has.
 */
export async function checkSameMemory(
  source: ByteSource,
  loads: readonly Segment[],
  report: CheckReport,
): Promise<void> {
  const physical = loads.filter(({ paddr, filesz }) => Number.isFinite(paddr) && filesz > 0);
  const pairs: Twice[] = [];
  let budget = source.size;
  forOverlaps(
    physical,
    ({ paddr }) => paddr,
    ({ paddr, filesz }) => paddr + filesz,
    (lower, upper) => {
      const address = upper.paddr;
      const a = lower.offset + (address - lower.paddr);
      const b = upper.offset;
      const inFile = Math.min(lower.offset + lower.filesz, source.size) - a;
      const length = Math.min(inFile, upper.filesz, source.size - b, budget);
      if (a === b || !(length > 0)) return;
      budget -= length;
      pairs.push({ a, b, length, address });
    },
  );
  const buffers = [Buffer.alloc(CHUNK), Buffer.alloc(CHUNK)] as const;
  for (const pair of pairs) await compare(source, pair, buffers, report);
}

/** Tells of the first difference. */
async function compare(
  source: ByteSource,
  { a, b, length, address }: Twice,
  [one, other]: readonly [Buffer, Buffer],
  report: CheckReport,
): Promise<void> {
  // A quick look is at one page in so many.
  const step = stepOf(length / PAGE_SIZE, report);
  const [size, stride] = step === 1 ? [CHUNK, CHUNK] : [PAGE_SIZE, step * PAGE_SIZE];
  for (let at = 0; at < length; at += stride) {
    const part = Math.min(size, length - at);
    source.read(a + at, one.subarray(0, part));
    source.read(b + at, other.subarray(0, part));
    if (one.compare(other, 0, part, 0, part) !== 0) {
      const found = at + one.subarray(0, part).findIndex((byte, i) => byte !== other[i]);
      const message = `the memory at ${hex(address + found)} is in the file twice, at offsets ${hex(a + found)} and ${hex(b + found)}, and not the same`;
      report.find(FOUND.memoryDiffers, message, { offset: b + found, address: address + found });
      return;
    }
    await report.checkpoint();
  }
}
