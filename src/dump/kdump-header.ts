import { latin1 } from "../core/bytes.ts";
import { CorruptError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import type { Range } from "../core/ranges.ts";
import { plural } from "../core/text.ts";
import { hasMagic } from "./format.ts";
import {
  type CommonHeader,
  HEADER_SIZE,
  type Layout,
  layoutsFor,
  parseHeader,
  parseSubHeaders,
  type SubHeader,
  statusOffset,
} from "./kdump-layouts.ts";
import { likelyLayout } from "./kdump-machine.ts";

/** What KDUMP and DISKDUMP files begin with (makedumpfile diskdump_mod.h, crash diskdump.h). */
export interface KdumpHeader {
  readonly layout: Layout;
  readonly version: number;
  /** DUMP_DH_COMPRESSED_*: how pages may be compressed, and whether the dump is incomplete. */
  readonly status: number;
  /** `uname -m` of the machine; "" where whoever wrote the dump did not know. */
  readonly machine: string;
  /** `uname -s`; "" in QEMU's dumps. */
  readonly system: string;
  /** Physical address of the kernel's first page; only ARM's page frames are counted from there. */
  readonly physBase: number;
  /** Whether the dump broke off, as for want of room (DUMP_DH_COMPRESSED_INCOMPLETE). */
  readonly incomplete: boolean;
  /** Bytes a page. */
  readonly blockSize: number;
  /** Page frames, from 0 to the highest there is. */
  readonly maxMapnr: number;
  /** The same as versions before 6 have it, in 32 bits; 0 where a later one does not say. */
  readonly maxMapnr32: number;
  /** Pages in the dump, as diskdump counts them; 0 where whoever wrote the dump did not. */
  readonly writtenBlocks: number;
  /** makedumpfile's -d; 0 where the version does not have it. */
  readonly dumpLevel: number;
  /** Page frames that a member of a split set holds; undefined for a dump in one file. */
  readonly split: Range | undefined;
  /** The same as the header states it, though the dump may not have so many. */
  readonly statedSplit: Range | undefined;
  readonly cpus: number;
  readonly subHeaderBlocks: number;
  readonly bitmapBlocks: number;
  /** What is equal in all members of a split set, and in those of another set is not. */
  readonly identity: string;
  /** Offset of the first bitmap, of the second (the same where there is one only), and bytes of each. */
  readonly ramBitmap: number;
  readonly dumpedBitmap: number;
  readonly bitmapSize: number;
  /** Offset of the page descriptors. */
  readonly descriptors: number;
  readonly notes: Span | undefined;
  readonly vmcoreinfo: Span | undefined;
  readonly eraseinfo: Span | undefined;
}

/** Where bytes are in the file. */
export interface Span {
  readonly offset: number;
  readonly size: number;
}

/** From which header version on the sub header has what. */
const SINCE = { dumpLevel: 1, split: 2, vmcoreinfo: 3, notes: 4, eraseinfo: 5, pfns64: 6 } as const;
/** The newest header version there is. */
export const NEWEST_VERSION = 6;
/** A version beyond this is a sign of the other byte order. */
const MAX_VERSION = 255;
const INCOMPLETE = 8;
/** 256 TiB, more than any machine has: bitmaps of 8 GiB. */
const MAX_PFNS = 2 ** 36;
/** From here on the 32-bit counter of page frames is a bound and no count. */
const MANY_PFNS = 0xffff_ffff;

export const isKdump = (source: ByteSource): boolean =>
  hasMagic(source, "KDUMP   ") || hasMagic(source, "DISKDUMP");

/** The headers as one layout reads them. */
interface Reading {
  readonly layout: Layout;
  readonly common: CommonHeader;
  readonly sub: SubHeader;
  readonly maxMapnr: number;
}

/**
 * Decodes the header and sub header of a kdump-compressed dump. Neither the size of the machine's `long` nor its byte
 * order is in them: the layout is the one by which block size, bitmaps and page frames go together.
 * @throws CorruptError where sizes and offsets cannot be
 */
export function readKdumpHeader(source: ByteSource): KdumpHeader {
  const bytes = Buffer.alloc(HEADER_SIZE);
  if (source.read(0, bytes) < bytes.length) throw damaged("the file ends inside its header", 0);
  const { machine } = parseHeader(bytes, layoutsFor({})[0]!);
  const readings = layoutsFor(likelyLayout(machine)).flatMap((layout) => readBy(layout, bytes, source));
  const [first] = readings;
  if (first === undefined) {
    throw damaged(`the header's block size is ${parseHeader(bytes, layoutsFor({})[0]!).blockSize}`, 428);
  }
  const reading = readings.find((candidate) => problemOf(candidate, source) === undefined);
  if (reading === undefined) throw problemOf(first, source)!;
  return headerOf(reading, bytes);
}

function readBy(layout: Layout, bytes: Buffer, source: ByteSource): Reading[] {
  const common = parseHeader(bytes, layout);
  const { blockSize, version } = common;
  if (!isBlockSize(blockSize) || version < 0 || version > MAX_VERSION) return [];
  const subs = parseSubHeaders(source, blockSize, layout);
  const [packed, padded] = subs as [SubHeader, SubHeader?];
  const better = padded !== undefined && fitness(padded, common, source) > fitness(packed, common, source);
  const sub = better ? padded : packed;
  return [{ layout, common, sub, maxMapnr: pageFrames(common, sub) }];
}

const pageFrames = (common: CommonHeader, sub: SubHeader): number =>
  has(common, "pfns64") ? sub.maxMapnr64 : common.maxMapnr;

/** DISKDUMP has a sub header of another kind, whatever its version. */
const has = ({ signature, version }: CommonHeader, field: keyof typeof SINCE): boolean =>
  signature !== "DISKDUMP" && version >= SINCE[field];

/** How much of a sub header makes sense. */
function fitness(sub: SubHeader, common: CommonHeader, source: ByteSource): number {
  const spans = [
    [has(common, "vmcoreinfo"), sub.vmcoreinfoOffset, sub.vmcoreinfoSize],
    [has(common, "notes"), sub.notesOffset, sub.notesSize],
    [has(common, "eraseinfo"), sub.eraseinfoOffset, sub.eraseinfoSize],
  ] as const;
  const sane = spans.filter(
    ([there, offset, size]) => there && (offset === 0) === (size === 0) && offset + size <= source.size,
  );
  return sane.length + (has(common, "pfns64") ? countFitness(sub.maxMapnr64, common) : 0);
}

/** How well a number of page frames goes with the 32-bit one, which older writers leave 0, and with the bitmaps. */
function countFitness(maxMapnr: number, common: CommonHeader): number {
  if (!(maxMapnr > 0 && maxMapnr <= MAX_PFNS)) return 0;
  const blocks = bitmapBytes(maxMapnr, common.blockSize) / common.blockSize;
  const exact = common.bitmapBlocks === blocks || common.bitmapBlocks === 2 * blocks;
  const equal = [0, MANY_PFNS, maxMapnr].includes(common.maxMapnr);
  return 1 + (exact ? 1 : 0) + (equal ? 1 : 0);
}

function problemOf({ common, maxMapnr }: Reading, source: ByteSource): CorruptError | undefined {
  const { blockSize, bitmapBlocks, subHeaderBlocks } = common;
  if (!(maxMapnr > 0 && maxMapnr <= MAX_PFNS)) {
    return damaged(`the header counts ${plural(maxMapnr, "page frame")}`, 440);
  }
  const end = (1 + subHeaderBlocks + bitmapBlocks) * blockSize;
  if (bitmapBlocks * blockSize < bitmapBytes(maxMapnr, blockSize) || end > source.size) {
    return damaged(
      `bitmaps of ${plural(bitmapBlocks, "block")} do not go with ${maxMapnr} page frames and a file of ${source.size} bytes`,
      436,
    );
  }
  return undefined;
}

const bitmapBytes = (maxMapnr: number, blockSize: number): number =>
  Math.ceil(Math.ceil(maxMapnr / 8) / blockSize) * blockSize;

function headerOf({ layout, common, sub, maxMapnr }: Reading, bytes: Buffer): KdumpHeader {
  const { blockSize, subHeaderBlocks, bitmapBlocks, version } = common;
  const half = bitmapBytes(maxMapnr, blockSize);
  const ramBitmap = (1 + subHeaderBlocks) * blockSize;
  const two = bitmapBlocks * blockSize >= 2 * half;
  const stated = has(common, "split") && sub.split === 1 ? statedWindow(common, sub) : undefined;
  const span = (field: keyof typeof SINCE, offset: number, size: number): Span | undefined =>
    !has(common, field) || offset === 0 || size === 0 ? undefined : { offset, size };
  return {
    layout,
    version,
    status: common.status,
    machine: common.machine,
    system: common.system,
    physBase: has(common, "dumpLevel") ? sub.physBase : 0,
    incomplete: (common.status & INCOMPLETE) !== 0,
    blockSize,
    maxMapnr,
    maxMapnr32: common.maxMapnr,
    writtenBlocks: common.writtenBlocks,
    dumpLevel: has(common, "dumpLevel") ? sub.dumpLevel : 0,
    cpus: common.cpus,
    subHeaderBlocks,
    bitmapBlocks,
    split: stated && windowOf(stated, maxMapnr),
    statedSplit: stated,
    identity: identityOf(layout, bytes, has(common, "dumpLevel") ? sub.dumpLevel : 0, maxMapnr),
    ramBitmap,
    // Half of what there is, as crash, makedumpfile and libkdumpfile have it, though a bitmap may need less.
    dumpedBitmap: two ? ramBitmap + Math.floor(bitmapBlocks / 2) * blockSize : ramBitmap,
    bitmapSize: half,
    descriptors: ramBitmap + bitmapBlocks * blockSize,
    notes: span("notes", sub.notesOffset, sub.notesSize),
    vmcoreinfo: span("vmcoreinfo", sub.vmcoreinfoOffset, sub.vmcoreinfoSize),
    eraseinfo: span("eraseinfo", sub.eraseinfoOffset, sub.eraseinfoSize),
  };
}

const statedWindow = (common: CommonHeader, sub: SubHeader): Range =>
  has(common, "pfns64")
    ? { start: sub.startPfn64, end: sub.endPfn64 }
    : { start: sub.startPfn, end: sub.endPfn };

function windowOf(stated: Range, maxMapnr: number): Range {
  const start = Math.min(stated.start, maxMapnr);
  return { start, end: Math.max(start, Math.min(stated.end, maxMapnr)) };
}

/** The whole header, as crash and makedumpfile compare it, but for the mark of a member that broke off. */
function identityOf(layout: Layout, bytes: Buffer, dumpLevel: number, maxMapnr: number): string {
  const header = Buffer.from(bytes.subarray(0, layout.bits === 64 ? HEADER_SIZE : HEADER_SIZE - 12));
  header[statusOffset(layout) + (layout.littleEndian ? 0 : 3)]! &= ~INCOMPLETE;
  return `${latin1(header)} ${dumpLevel} ${maxMapnr}`;
}

const isBlockSize = (size: number): boolean =>
  size >= 4096 && size <= 65536 && Number.isInteger(Math.log2(size));

const damaged = (message: string, offset: number): CorruptError =>
  new CorruptError(message, { where: { offset }, hint: "the dump is truncated, or damaged at its start" });
