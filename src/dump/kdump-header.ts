import { Parser } from "binary-parser";
import { latin1, viewOf } from "../core/bytes.ts";
import { CorruptError, UnsupportedError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import { plural } from "../core/text.ts";

/** What KDUMP and DISKDUMP files begin with (makedumpfile diskdump_mod.h, crash diskdump.h). */
export interface KdumpHeader {
  readonly signature: "KDUMP   " | "DISKDUMP";
  readonly version: number;
  /** DUMP_DH_COMPRESSED_*: how pages may be compressed, and whether the dump is incomplete. */
  readonly status: number;
  /** `uname -m` of the machine; "" where whoever wrote the dump did not know. */
  readonly machine: string;
  /** Of the kernel; "" as above. */
  readonly release: string;
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
  readonly split: { readonly start: number; readonly end: number } | undefined;
  readonly cpus: number;
  readonly subHeaderBlocks: number;
  readonly bitmapBlocks: number;
  /** Offset of the first bitmap, of the second (the same where there is one only), and bytes of each. */
  readonly ramBitmap: number;
  readonly dumpedBitmap: number;
  readonly bitmapSize: number;
  /** Offset of the page descriptors. */
  readonly descriptors: number;
  readonly notes: Span | undefined;
  readonly vmcoreinfo: Span | undefined;
  /** What makedumpfile erased on request. */
  readonly eraseinfo: Span | undefined;
}

/** Where bytes are in the file. */
export interface Span {
  readonly offset: number;
  readonly size: number;
}

const UTSNAME_FIELD = 65;
const HEADER_SIZE = 464;
export const SUB_HEADER_SIZE = 104;

const text = (length: number) => ({ length, encoding: "latin1" as const, stripNull: true });

/** struct disk_dump_header of a 64-bit little-endian machine. */
const header = new Parser()
  .endianness("little")
  .string("signature", { length: 8, encoding: "latin1" })
  .int32("version")
  .seek(2 * UTSNAME_FIELD)
  .string("release", text(UTSNAME_FIELD))
  .seek(UTSNAME_FIELD)
  .string("machine", text(UTSNAME_FIELD))
  // domainname, the padding behind the six, and struct timeval.
  .seek(UTSNAME_FIELD + 6 + 16)
  .uint32("status")
  .uint32("blockSize")
  .uint32("subHeaderBlocks")
  .uint32("bitmapBlocks")
  .uint32("maxMapnr")
  .seek(8)
  .uint32("writtenBlocks")
  .seek(4)
  .uint32("cpus");

/** struct kdump_sub_header of a 64-bit little-endian machine; later fields exist from a version on. */
const subHeader = new Parser()
  .endianness("little")
  .seek(8)
  .int32("dumpLevel")
  .int32("split")
  .uint64("startPfn")
  .uint64("endPfn")
  .uint64("vmcoreinfoOffset")
  .uint64("vmcoreinfoSize")
  .uint64("notesOffset")
  .uint64("notesSize")
  .uint64("eraseinfoOffset")
  .uint64("eraseinfoSize")
  .uint64("startPfn64")
  .uint64("endPfn64")
  .uint64("maxMapnr64");

interface Header {
  readonly signature: string;
  readonly version: number;
  readonly release: string;
  readonly machine: string;
  readonly status: number;
  readonly blockSize: number;
  readonly subHeaderBlocks: number;
  readonly bitmapBlocks: number;
  readonly maxMapnr: number;
  readonly writtenBlocks: number;
  readonly cpus: number;
}

interface SubHeader {
  readonly dumpLevel: number;
  readonly split: number;
  readonly startPfn: bigint;
  readonly endPfn: bigint;
  readonly vmcoreinfoOffset: bigint;
  readonly vmcoreinfoSize: bigint;
  readonly notesOffset: bigint;
  readonly notesSize: bigint;
  readonly eraseinfoOffset: bigint;
  readonly eraseinfoSize: bigint;
  readonly startPfn64: bigint;
  readonly endPfn64: bigint;
  readonly maxMapnr64: bigint;
}

/** From which header version on the sub header has what. */
const SINCE = { dumpLevel: 1, split: 2, vmcoreinfo: 3, notes: 4, eraseinfo: 5, pfns64: 6 } as const;
const INCOMPLETE = 8;
/** 256 TiB, more than any machine has: bitmaps of 8 GiB. */
const MAX_PFNS = 2 ** 36;

export const isKdump = (source: ByteSource): boolean => {
  const bytes = Buffer.alloc(8);
  return source.read(0, bytes) === bytes.length && ["KDUMP   ", "DISKDUMP"].includes(latin1(bytes));
};

/**
 * Decodes the header and sub header of a kdump-compressed dump of a 64-bit little-endian machine.
 * @throws UnsupportedError for one of another machine; CorruptError where sizes and offsets cannot be
 */
export function readKdumpHeader(source: ByteSource): KdumpHeader {
  const bytes = Buffer.alloc(HEADER_SIZE);
  if (source.read(0, bytes) < bytes.length) throw damaged("the file ends inside its header", 0);
  const parsed = header.parse(bytes) as Header;
  const { blockSize, subHeaderBlocks, bitmapBlocks, version } = parsed;
  if (!isBlockSize(blockSize)) {
    // A 32-bit machine's timestamp is shorter: then the block size is four bytes further up.
    const other = [viewOf(bytes).getUint32(416, true), viewOf(bytes).getUint32(428, false)].some(isBlockSize);
    if (other) {
      throw new UnsupportedError("a kdump-compressed dump of a 32-bit or big-endian machine", {
        hint: "crash and makedumpfile of that machine read it",
      });
    }
    throw damaged(`the header's block size is ${blockSize}`, 428);
  }
  const sub = readSubHeader(source, blockSize);
  const maxMapnr = version >= SINCE.pfns64 ? Number(sub.maxMapnr64) : parsed.maxMapnr;
  const half = Math.ceil(Math.ceil(maxMapnr / 8) / blockSize) * blockSize;
  const ramBitmap = (1 + subHeaderBlocks) * blockSize;
  const bitmaps = bitmapBlocks * blockSize;
  if (!(maxMapnr > 0 && maxMapnr <= MAX_PFNS)) {
    throw damaged(`the header counts ${plural(maxMapnr, "page frame")}`, 440);
  }
  if (bitmaps < half || ramBitmap + bitmaps > source.size) {
    throw damaged(
      `bitmaps of ${plural(bitmapBlocks, "block")} do not go with ${maxMapnr} page frames and a file of ${source.size} bytes`,
      436,
    );
  }
  const two = bitmaps >= 2 * half;
  return {
    signature: parsed.signature as KdumpHeader["signature"],
    version,
    status: parsed.status,
    machine: parsed.machine,
    release: parsed.release,
    incomplete: (parsed.status & INCOMPLETE) !== 0,
    blockSize,
    maxMapnr,
    maxMapnr32: parsed.maxMapnr,
    writtenBlocks: parsed.writtenBlocks,
    dumpLevel: version >= SINCE.dumpLevel ? sub.dumpLevel : 0,
    split: version >= SINCE.split && sub.split === 1 ? splitOf(sub, version) : undefined,
    cpus: parsed.cpus,
    subHeaderBlocks,
    bitmapBlocks,
    ramBitmap,
    dumpedBitmap: two ? ramBitmap + half : ramBitmap,
    bitmapSize: half,
    descriptors: ramBitmap + bitmaps,
    notes: version >= SINCE.notes ? spanOf(sub.notesOffset, sub.notesSize) : undefined,
    vmcoreinfo: version >= SINCE.vmcoreinfo ? spanOf(sub.vmcoreinfoOffset, sub.vmcoreinfoSize) : undefined,
    eraseinfo: version >= SINCE.eraseinfo ? spanOf(sub.eraseinfoOffset, sub.eraseinfoSize) : undefined,
  };
}

const isBlockSize = (size: number): boolean =>
  size >= 4096 && size <= 65536 && Number.isInteger(Math.log2(size));

/** Zeros where the file is shorter: a version 0 dump has none. */
function readSubHeader(source: ByteSource, offset: number): SubHeader {
  const bytes = Buffer.alloc(SUB_HEADER_SIZE);
  source.read(offset, bytes);
  return subHeader.parse(bytes) as SubHeader;
}

const splitOf = (sub: SubHeader, version: number) =>
  version >= SINCE.pfns64
    ? { start: Number(sub.startPfn64), end: Number(sub.endPfn64) }
    : { start: Number(sub.startPfn), end: Number(sub.endPfn) };

const spanOf = (offset: bigint, size: bigint): Span | undefined =>
  offset === 0n || size === 0n ? undefined : { offset: Number(offset), size: Number(size) };

const damaged = (message: string, offset: number): CorruptError =>
  new CorruptError(message, { where: { offset }, hint: "the dump is truncated, or damaged at its start" });
