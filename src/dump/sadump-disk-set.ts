import { CorruptError, naming } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import { plural } from "../core/text.ts";
import type { DumpFiles } from "./format.ts";
import type { SadumpHeader } from "./sadump-header.ts";
import {
  assemble,
  besideOf,
  foreign,
  type Member,
  missing,
  nameOf,
  refuseOther,
  type SadumpMembers,
} from "./sadump-members.ts";
import { hasPartition, readPartition, type SadumpDiskSet } from "./sadump-structs.ts";

/**
 * The disks of a set in their order, the one with the headers first.
 * @throws UnsupportedError for a file that is not of this set, or twice; UnavailableError when a disk is missing;
 *   CorruptError for a damaged header. Each names the file.
 */
export async function diskSetOf(
  source: ByteSource,
  header: SadumpHeader,
  diskSet: SadumpDiskSet,
  files: DumpFiles,
): Promise<SadumpMembers> {
  const { partition, data, blockSize } = header;
  const { used, time } = partition;
  const size = sizeOf(used, data, blockSize, source);
  const others = await disksOf(source, header, diskSet, files);
  return assemble([{ source, time, offset: data, size }, ...others]);
}

/** Bytes of blocks on a disk of which `used` are used, headers included. */
function sizeOf(used: number, offset: number, blockSize: number, { name }: ByteSource): number {
  const size = used - offset;
  if (size >= 0 && size % blockSize === 0 && Number.isSafeInteger(used)) return size;
  throw new CorruptError(`the partition header says that ${used} bytes of the disk are used`, {
    where: { file: name, offset: 160 },
    hint: "with its headers it is a number of whole blocks",
  });
}

/** Disks 2 and on of a set, in order. */
async function disksOf(
  first: ByteSource,
  header: SadumpHeader,
  { volumes }: SadumpDiskSet,
  { parts = [], beside }: DumpFiles,
): Promise<Member[]> {
  const found = new Map<number, Member>();
  for (const source of parts) {
    const { disk, member } = await naming(source.name, () => diskOf(source, header, volumes));
    const other = disk === 1 ? first : found.get(disk)?.source;
    if (other !== undefined)
      throw foreign(source, `this is disk ${disk} of the set, and so is ${other.name}`);
    found.set(disk, member);
  }
  return volumes.map((volume, i) => {
    const disk = i + 2;
    const name = nameOf(first, i + 1);
    const member =
      found.get(disk) ?? besideOf(beside, name, (source) => diskOf(source, header, volumes, disk).member);
    if (member !== undefined) return member;
    throw missing(`disk ${disk} of ${volumes.length + 1} (volume ${volume}) is missing`, name);
  });
}

/** @throws UnsupportedError for a file that is no disk of this set, or not the one that is `wanted` */
function diskOf(
  source: ByteSource,
  header: SadumpHeader,
  volumes: readonly string[],
  wanted?: number,
): { readonly disk: number; readonly member: Member } {
  if (!hasPartition(source, 0)) throw foreign(source, "this is no disk of a sadump disk set");
  const { partition, blockSize } = readPartition(source, 0);
  const { disk, time, used } = partition;
  refuseOther(source, header.partition, partition);
  if (disk < 1 || disk > volumes.length + 1 || (wanted !== undefined && disk !== wanted)) {
    throw foreign(
      source,
      `this is disk ${disk} of a set, and the dump's has ${plural(volumes.length + 1, "disk")}`,
    );
  }
  const volume = disk === 1 ? header.partition.volume : volumes[disk - 2];
  if (partition.volume !== volume) {
    throw foreign(
      source,
      `this is not disk ${disk} of the set: its volume is ${partition.volume}, not ${volume}`,
    );
  }
  if (blockSize !== header.blockSize) {
    throw foreign(
      source,
      `blocks of this disk have ${blockSize} bytes, those of the dump ${header.blockSize}`,
    );
  }
  return {
    disk,
    member: { source, time, offset: blockSize, size: sizeOf(used, blockSize, blockSize, source) },
  };
}
