import { Parser } from "binary-parser";
import { viewOf } from "../core/bytes.ts";
import { CorruptError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import { plural } from "../core/text.ts";
import { hasMagic } from "./format.ts";

/**
 * Headers of sadump, the dump that the firmware of Fujitsu's servers makes (makedumpfile sadump_mod.h, crash sadump.h;
 * of the block size libkdumpfile sadump.c). All is little-endian.
 */

/** What every disk of a dump begins with. */
export interface SadumpPartition {
  /** UUIDs of the machine, of the disk set or the only partition, and of this disk, as text. */
  readonly system: string;
  readonly diskSet: string;
  readonly volume: string;
  /** EFI_TIME. */
  readonly time: Buffer;
  /** 0 for the only one, else its number in the set, from 1. */
  readonly disk: number;
  /** Bytes used of it, headers included. */
  readonly used: number;
}

/** What a medium of a media backup begins with. */
export interface SadumpMedium {
  readonly system: string;
  readonly diskSet: string;
  readonly time: Buffer;
  /** From 1. */
  readonly number: number;
}

/** What disk 1 says of the set. */
export interface SadumpDiskSet {
  /** Blocks that this header takes. */
  readonly blocks: number;
  /** UUIDs of disks 2 and on. */
  readonly volumes: readonly string[];
}

/** The smallest block, and as large as every header. */
export const SADUMP_BLOCK = 4096;
export const MAX_BLOCK = 65_536;
/** SADUMP_MAX_DISK_SET_NUM. */
const MAX_DISKS = 16;

const SIGNATURE = "sadump\0\0";
const MAGIC_AT = 168;
const VOLUME_SIZE = 32;

const GUID = { length: 16 };
const TIME = { length: 16 };

/** struct sadump_part_header up to its magic numbers. */
const partitionParser = new Parser()
  .endianness("little")
  .seek(88)
  .buffer("system", GUID)
  .buffer("diskSet", GUID)
  .buffer("volume", GUID)
  .buffer("time", TIME)
  .uint32("disk")
  .seek(4)
  .uint64("used");

/** struct sadump_media_header. */
const mediumParser = new Parser()
  .endianness("little")
  .buffer("system", GUID)
  .buffer("diskSet", GUID)
  .buffer("time", TIME)
  .uint8("number");

/** struct sadump_header, with the fields of version 1. */
const headerParser = new Parser()
  .endianness("little")
  .string("signature", { length: 8, encoding: "latin1" })
  .uint32("version")
  // reserve, timestamp, status, compress.
  .seek(28)
  .uint32("blockSize")
  .seek(4)
  .uint32("subHeaderBlocks")
  .uint32("bitmapBlocks")
  .uint32("dumpableBlocks")
  .uint32("maxMapnr")
  .seek(16)
  .uint32("cpus")
  .seek(4)
  .uint64("maxMapnr64");
const HEADER_SIZE = 96;

interface RawPartition {
  readonly system: Buffer;
  readonly diskSet: Buffer;
  readonly volume: Buffer;
  readonly time: Buffer;
  readonly disk: number;
  readonly used: bigint;
}

export interface RawHeader {
  readonly signature: string;
  readonly version: number;
  readonly blockSize: number;
  readonly subHeaderBlocks: number;
  readonly bitmapBlocks: number;
  readonly dumpableBlocks: number;
  readonly maxMapnr: number;
  readonly cpus: number;
  readonly maxMapnr64: bigint;
}

/** Whether a partition header begins at `offset`. */
export const hasPartition = (source: ByteSource, offset: number): boolean =>
  hasMagic(source, SIGNATURE, offset);

/** A UUID in the order of its bytes, as crash and makedumpfile print it. */
const uuid = (bytes: Buffer): string =>
  [
    bytes.subarray(0, 4),
    bytes.subarray(4, 6),
    bytes.subarray(6, 8),
    bytes.subarray(8, 10),
    bytes.subarray(10),
  ]
    .map((part) => part.toString("hex"))
    .join("-");

/** A partition header, and how many bytes it takes: as long as each of its magic numbers follows from the one before. */
export interface FoundPartition {
  readonly partition: SadumpPartition;
  readonly blockSize: number;
}

/** @throws CorruptError when the file ends in it, or its magic numbers are wrong */
export function readPartition(source: ByteSource, offset: number): FoundPartition {
  const bytes = Buffer.alloc(MAX_BLOCK);
  const known = source.read(offset, bytes);
  if (known < SADUMP_BLOCK) throw damaged("the file ends inside its partition header", offset);
  const { system, diskSet, volume, time, disk, used } = partitionParser.parse(bytes) as RawPartition;
  const view = viewOf(bytes);
  let end = MAGIC_AT + 4;
  while (end + 4 <= known && view.getUint32(end, true) === magicAfter(view.getUint32(end - 4, true)))
    end += 4;
  if (end < SADUMP_BLOCK) {
    throw damaged("the magic numbers of the partition header do not follow from each other", offset + end);
  }
  return {
    partition: {
      system: uuid(system),
      diskSet: uuid(diskSet),
      volume: uuid(volume),
      time: Buffer.from(time),
      disk,
      used: Number(used),
    },
    blockSize: 2 ** Math.floor(Math.log2(end)),
  };
}

const magicAfter = (magic: number): number => Math.imul(magic + 7, 11) >>> 0;

/** @throws CorruptError when the file ends in it */
export function readMedium(source: ByteSource): SadumpMedium {
  const bytes = Buffer.alloc(SADUMP_BLOCK);
  if (source.read(0, bytes) < bytes.length) throw damaged("the file ends inside its media header", 0);
  const { system, diskSet, time, number } = mediumParser.parse(bytes) as RawPartition & {
    readonly number: number;
  };
  return { system: uuid(system), diskSet: uuid(diskSet), time, number };
}

/** @throws CorruptError for a set of no, or of more than 16 disks */
export function readDiskSet(source: ByteSource, offset: number, blockSize: number): SadumpDiskSet {
  const bytes = Buffer.alloc(16 + VOLUME_SIZE * (MAX_DISKS - 1));
  if (source.read(offset, bytes) < bytes.length)
    throw damaged("the file ends inside its disk set header", offset);
  const view = viewOf(bytes);
  const [blocks, disks] = [view.getUint32(0, true), view.getUint32(4, true)];
  const fits = blocks > 0 && 16 + VOLUME_SIZE * (disks - 1) <= blocks * blockSize;
  if (disks < 1 || disks > MAX_DISKS || !fits || offset + blocks * blockSize > source.size) {
    throw damaged(
      `the disk set header tells of ${plural(disks, "disk")} in ${plural(blocks, "block")}`,
      offset,
    );
  }
  const volumes = Array.from({ length: disks - 1 }, (_, i) => {
    const at = 16 + VOLUME_SIZE * i;
    return uuid(bytes.subarray(at, at + 16));
  });
  return { blocks, volumes };
}

/** Undefined where there is none. */
export function readDumpHeader(source: ByteSource, offset: number): RawHeader | undefined {
  const bytes = Buffer.alloc(HEADER_SIZE);
  if (source.read(offset, bytes) < bytes.length) return undefined;
  const header = headerParser.parse(bytes) as RawHeader;
  return header.signature === SIGNATURE ? header : undefined;
}

export const damaged = (message: string, offset: number): CorruptError =>
  new CorruptError(message, { where: { offset }, hint: "the dump is truncated, or damaged at its start" });
