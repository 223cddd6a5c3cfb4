import { viewOf } from "../core/bytes.ts";
import type { PageStorage } from "../core/memory.ts";

/** Bytes of a page, and of a block of headers. */
export const BLOCK = 4096;
/** struct kdump_sub_header, version 6, of a 64-bit machine. */
export const SUB_HEADER_SIZE = 104;
/** page_desc_t: u64 offset, u32 size, u32 flags, u64 page_flags. */
export const DESCRIPTOR_SIZE = 24;
/** Bytes of a bitmap that are written, or left a hole, at once. */
export const BITMAP_WINDOW = 64 * 1024;
/** DUMP_DH_COMPRESSED_INCOMPLETE. */
const INCOMPLETE = 8;
const VERSION = 6;
/** Field of struct new_utsname. */
const UTSNAME_FIELD = 65;

/** DUMP_DH_COMPRESSED_*: in the header's status and in a page descriptor's flags. */
export const CODEC_FLAGS: Readonly<Record<PageStorage, number>> = {
  none: 0,
  zlib: 1,
  lzo: 2,
  snappy: 4,
  zstd: 0x20,
};

/** Where everything but the pages lies, in bytes. */
export interface KdumpLayout {
  /** Page frames, from 0 to the highest. */
  readonly maxMapnr: number;
  readonly subHeaderBlocks: number;
  /** Of both bitmaps. */
  readonly bitmapBlocks: number;
  readonly ramBitmap: number;
  readonly dumpedBitmap: number;
  readonly notes: number;
  readonly descriptors: number;
  readonly data: number;
}

/**
 * @param notesRoom bytes that the notes may take
 * @param pages how many will be dumped, at most
 */
export function layOutKdump(maxMapnr: number, notesRoom: number, pages: number): KdumpLayout {
  const subHeaderBlocks = Math.ceil((SUB_HEADER_SIZE + notesRoom) / BLOCK);
  const half = Math.ceil(maxMapnr / 8 / BLOCK);
  const ramBitmap = (1 + subHeaderBlocks) * BLOCK;
  const descriptors = ramBitmap + 2 * half * BLOCK;
  return {
    maxMapnr,
    subHeaderBlocks,
    bitmapBlocks: 2 * half,
    ramBitmap,
    dumpedBitmap: ramBitmap + half * BLOCK,
    notes: BLOCK + SUB_HEADER_SIZE,
    descriptors,
    data: descriptors + pages * DESCRIPTOR_SIZE,
  };
}

export interface KdumpFacts {
  readonly codec: PageStorage;
  /** Whether memory is missing that the dump should have. */
  readonly incomplete: boolean;
  /** makedumpfile's -d. */
  readonly dumpLevel: number;
  /** The six fields of struct new_utsname in order; "" what is not known. */
  readonly utsname: readonly string[];
  /** Seconds since 1970; 0 where it is not known. */
  readonly time: number;
  readonly physBase: bigint;
  readonly cpus: number;
  /** Sizes in bytes; `vmcoreinfoAt` is where its text begins in the notes. */
  readonly notesSize: number;
  readonly vmcoreinfoAt: number;
  readonly vmcoreinfoSize: number;
}

/** struct disk_dump_header and struct kdump_sub_header behind it (makedumpfile `diskdump_mod.h`), without the notes. */
export function encodeKdumpHeader(layout: KdumpLayout, facts: KdumpFacts): Buffer {
  const bytes = Buffer.alloc(BLOCK + SUB_HEADER_SIZE);
  const view = viewOf(bytes);
  const put64 = (at: number, value: number | bigint) =>
    view.setBigUint64(at, BigInt.asUintN(64, BigInt(value)), true);
  bytes.write("KDUMP   ", 0, "latin1");
  view.setInt32(8, VERSION, true);
  for (const [field, text] of facts.utsname.entries()) {
    bytes.write(text.slice(0, UTSNAME_FIELD - 1), 12 + field * UTSNAME_FIELD, "latin1");
  }
  put64(408, facts.time);
  view.setUint32(424, CODEC_FLAGS[facts.codec] | (facts.incomplete ? INCOMPLETE : 0), true);
  view.setUint32(428, BLOCK, true);
  view.setUint32(432, layout.subHeaderBlocks, true);
  view.setUint32(436, layout.bitmapBlocks, true);
  view.setUint32(440, Math.min(layout.maxMapnr, 0xffff_ffff), true);
  view.setUint32(460, facts.cpus, true);
  const sub = BLOCK;
  put64(sub, facts.physBase);
  view.setInt32(sub + 8, facts.dumpLevel, true);
  if (facts.vmcoreinfoSize > 0) {
    put64(sub + 32, layout.notes + facts.vmcoreinfoAt);
    put64(sub + 40, facts.vmcoreinfoSize);
  }
  if (facts.notesSize > 0) {
    put64(sub + 48, layout.notes);
    put64(sub + 56, facts.notesSize);
  }
  put64(sub + 96, layout.maxMapnr);
  return bytes;
}
