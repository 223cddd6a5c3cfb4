import { UnsupportedError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import { plural } from "../core/text.ts";
import {
  damaged,
  hasPartition,
  MAX_BLOCK,
  type RawHeader,
  readDiskSet,
  readDumpHeader,
  readMedium,
  readPartition,
  SADUMP_BLOCK,
  type SadumpDiskSet,
  type SadumpMedium,
  type SadumpPartition,
} from "./sadump-structs.ts";

/** Where what is in the file with the headers; offsets and sizes are bytes. */
export interface SadumpHeader {
  readonly partition: SadumpPartition;
  readonly medium: SadumpMedium | undefined;
  readonly diskSet: SadumpDiskSet | undefined;
  readonly blockSize: number;
  /** Places for the states of processors, one for each APIC ID. */
  readonly cpus: number;
  readonly subHeader: number;
  readonly subHeaderSize: number;
  /** Page frames, from 0 to the highest there is. */
  readonly maxMapnr: number;
  readonly ramBitmap: number;
  readonly dumpableBitmap: number;
  readonly data: number;
}

/** As of kdump-compressed dumps: 256 TiB. */
const MAX_PFNS = 2 ** 36;

/**
 * Reads all headers of a single partition, of the first disk of a set or the first medium of a backup.
 * @throws CorruptError where the file ends in them, or sizes and offsets cannot be; UnsupportedError for another
 *   disk or medium
 */
export function readSadumpHeader(source: ByteSource): SadumpHeader {
  const medium = hasPartition(source, 0) ? undefined : readMedium(source);
  const start = medium === undefined ? 0 : SADUMP_BLOCK;
  const { partition, blockSize } = readPartition(source, start);
  const isSet = medium === undefined && partition.disk > 0;
  if (medium !== undefined && medium.number !== 1) throw notFirst(`medium ${medium.number} of a backup`);
  if (isSet && partition.disk !== 1) throw notFirst(`disk ${partition.disk} of a disk set`);
  // Readers begin with blocks of 4096 bytes and then take the size that the header tells.
  for (const size of [blockSize, blockSizeAt(source, start, blockSize, isSet)]) {
    const diskSet = isSet ? readDiskSet(source, start + size, size) : undefined;
    const at = start + size * (1 + (diskSet?.blocks ?? 0));
    const header = readDumpHeader(source, at);
    if (header?.blockSize === size) return { partition, medium, diskSet, ...layOut(source, header, at) };
  }
  throw damaged(`there is no dump header behind the partition header`, start + blockSize);
}

/** The block size that the dump header tells where headers take blocks of `guess` bytes; `guess` where there is none. */
function blockSizeAt(source: ByteSource, start: number, guess: number, isSet: boolean): number {
  const between = isSet ? readDiskSet(source, start + guess, guess).blocks : 0;
  const size = readDumpHeader(source, start + guess * (1 + between))?.blockSize ?? guess;
  return isBlockSize(size) ? size : guess;
}

const isBlockSize = (size: number): boolean =>
  size >= SADUMP_BLOCK && size <= MAX_BLOCK && Number.isInteger(Math.log2(size));

function layOut(
  source: ByteSource,
  header: RawHeader,
  at: number,
): Omit<SadumpHeader, "partition" | "medium" | "diskSet"> {
  const { blockSize, version, subHeaderBlocks, bitmapBlocks, dumpableBlocks, cpus } = header;
  const maxMapnr = version === 0 ? header.maxMapnr : Number(header.maxMapnr64);
  if (!(maxMapnr > 0 && maxMapnr <= MAX_PFNS)) {
    throw damaged(`the header counts ${plural(maxMapnr, "page frame")}`, at + (version === 0 ? 60 : 88));
  }
  const subHeader = at + blockSize;
  const ramBitmap = subHeader + subHeaderBlocks * blockSize;
  const dumpableBitmap = ramBitmap + bitmapBlocks * blockSize;
  const data = dumpableBitmap + dumpableBlocks * blockSize;
  if (Math.min(bitmapBlocks, dumpableBlocks) * blockSize < Math.ceil(maxMapnr / 8) || data > source.size) {
    throw damaged(
      `bitmaps of ${bitmapBlocks} and ${plural(dumpableBlocks, "block")} do not go with ${maxMapnr} page frames and a file of ${source.size} bytes`,
      at + 52,
    );
  }
  const subHeaderSize = subHeaderBlocks * blockSize;
  return { blockSize, cpus, subHeader, subHeaderSize, maxMapnr, ramBitmap, dumpableBitmap, data };
}

const notFirst = (what: string): UnsupportedError =>
  new UnsupportedError(`this is ${what}: the headers of the dump are on number 1`, {
    hint: "name the first as the dump, the others with --part each",
  });
