import { CorruptError, naming } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import { bytesText, plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
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
  timeWarnings,
} from "./sadump-members.ts";
import { hasPartition, readMedium, SADUMP_BLOCK, type SadumpMedium } from "./sadump-structs.ts";

/** `sequential_num` is a char. */
const MAX_MEDIA = 255;

/**
 * The media of a backup in their order. How those behind the first are laid out is documented nowhere: they are taken
 * to begin with a media header, and with a partition header where there is one, and to go on with the next block.
 */
export async function mediaOf(
  first: ByteSource,
  header: SadumpHeader & { readonly medium: SadumpMedium },
  needed: number,
  { parts = [], beside }: DumpFiles,
): Promise<SadumpMembers> {
  const { medium, partition, data, blockSize } = header;
  if (medium.system !== partition.system || medium.diskSet !== partition.diskSet) {
    throw new CorruptError(
      `the media header is of dump ${medium.diskSet} of machine ${medium.system}, the partition header behind it of ${partition.diskSet} of ${partition.system}`,
      { where: { offset: 0 } },
    );
  }
  const found = new Map<number, Member>();
  for (const source of parts) {
    const { number, member } = await naming(source.name, () => furtherMedium(source, medium, blockSize));
    const other = number === 1 ? first : found.get(number)?.source;
    if (other !== undefined)
      throw foreign(source, `this is medium ${number} of the backup, and so is ${other.name}`);
    found.set(number, member);
  }
  const members: Member[] = [{ source: first, time: partition.time, offset: data, size: first.size - data }];
  const last = Math.max(1, ...found.keys());
  for (let number = 2; number <= MAX_MEDIA && (number <= last || parts.length === 0); number++) {
    const name = nameOf(first, number - 1);
    if (number > last && sumOf(members) >= needed) break;
    const member =
      found.get(number) ?? besideOf(beside, name, (source) => mediumOf(source, medium, blockSize, number));
    if (member !== undefined) members.push(member);
    else if (number <= last) throw missing(`medium ${number} of the backup is missing`, name);
    else break;
  }
  const { pieces, warnings } = assemble(
    members.map((member, i) => endsWhole(member, blockSize, i + 1 === members.length)),
  );
  return {
    pieces,
    warnings: [
      ...timeWarnings(medium, { source: first, time: partition.time }),
      ...warnings,
      ...further(members),
    ],
  };
}

const sumOf = (members: readonly Member[]): number => members.reduce((sum, { size }) => sum + size, 0);

function further(members: readonly Member[]): Warning[] {
  if (members.length < 2) return [];
  const size = bytesText(sumOf(members.slice(1)));
  const message = `${size} are read from ${plural(members.length - 1, "further medium", "further media")}, whose layout is documented nowhere`;
  return [
    {
      code: "DMP014",
      message,
      hint: "compare what matters with the dump on its disk, if that is still there",
    },
  ];
}

/** @throws CorruptError for a medium that ends inside a block, which goes on nowhere */
function endsWhole(member: Member, blockSize: number, isLast: boolean): Member {
  if (isLast || member.size % blockSize === 0) return member;
  const { name, size } = member.source;
  throw new CorruptError("the medium ends inside a block", { where: { file: name, offset: size } });
}

function mediumOf(source: ByteSource, dump: SadumpMedium, blockSize: number, wanted: number): Member {
  const { number, member } = furtherMedium(source, dump, blockSize);
  if (number !== wanted) throw foreign(source, `this is medium ${number} of the backup`);
  return member;
}

/** @throws UnsupportedError for a file that is no medium of this backup; CorruptError for one that is too short */
function furtherMedium(
  source: ByteSource,
  dump: SadumpMedium,
  blockSize: number,
): { readonly number: number; readonly member: Member } {
  const medium = readMedium(source);
  refuseOther(source, dump, medium);
  if (medium.number < 1) throw foreign(source, "this is medium 0 of the backup");
  const hasHeader = hasPartition(source, SADUMP_BLOCK);
  const offset = SADUMP_BLOCK + (hasHeader ? blockSize : 0);
  const size = Math.max(0, source.size - offset);
  return { number: medium.number, member: { source, time: medium.time, offset, size } };
}
