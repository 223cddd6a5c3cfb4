import { GuestcoreError, UnsupportedError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import type { Range } from "../core/ranges.ts";
import type { Warning } from "../core/warnings.ts";
import { unflattened } from "./flattened.ts";
import type { DumpFiles } from "./format.ts";
import { isKdump, type KdumpHeader, readKdumpHeader } from "./kdump-header.ts";
import { siblingNames } from "./siblings.ts";

/** One file of a dump. */
export interface DumpFile {
  readonly source: ByteSource;
  /** As it lies on disk: a flattened stream, perhaps, of `source`. */
  readonly file: ByteSource;
  readonly header: KdumpHeader;
  readonly warnings: readonly Warning[];
}

/** makedumpfile --split has no bound of its own; a process has some thousand files. */
const MAX_MEMBERS = 512;
/** Places at which the bitmaps of two members are compared, and bytes at each. */
const SAMPLES = 16;
const SAMPLE = 4096;

/**
 * The files of the dump that a file belongs to, that one first: those that the user names, else those that lie beside
 * it under the next numbers.
 * @throws UnsupportedError for a file named that is no part of the dump, or the same part again
 */
export async function filesOfDump(first: DumpFile, files: DumpFiles): Promise<DumpFile[]> {
  const named = files.parts ?? [];
  if (first.header.split === undefined) {
    if (named[0] === undefined) return [first];
    throw new UnsupportedError(`the dump is whole in one file: ${named[0].name} is no part of it`);
  }
  return named.length > 0 ? await namedMembers(first, named, files) : await foundMembers(first, files);
}

async function namedMembers(
  first: DumpFile,
  named: readonly ByteSource[],
  files: DumpFiles,
): Promise<DumpFile[]> {
  const members = [first];
  for (const part of named) {
    const file = await memberIn(part, files);
    if (file === undefined) {
      throw new UnsupportedError(`the part ${part.name} is no kdump-compressed dump`, {
        hint: "--part names the other files that makedumpfile --split wrote",
      });
    }
    const problem = whyNot(file, members);
    if (problem !== undefined) throw new UnsupportedError(problem);
    members.push(file);
  }
  return members;
}

/**
 * The further files of the split dump that a file is one part of, as they lie beside it.
 * @throws CorruptError for damaged headers of this one
 */
export async function siblingsOf(source: ByteSource, files: DumpFiles): Promise<ByteSource[]> {
  if (!isKdump(source)) return [];
  const header = readKdumpHeader(source);
  if (header.split === undefined) return [];
  const [, ...others] = await foundMembers({ source, file: source, header, warnings: [] }, files);
  return others.map(({ file }) => file);
}

async function foundMembers(first: DumpFile, files: DumpFiles): Promise<DumpFile[]> {
  const members = [first];
  for (const direction of siblingNames(first.source.name)) {
    for (const spellings of direction) {
      const file = await anyMember(spellings, members, files);
      if (file === undefined || members.length === MAX_MEMBERS) break;
      members.push(file);
    }
    // A number that leads to other parts is the parts' number.
    if (members.length > 1 && direction.last) break;
  }
  return members;
}

/** The first of these names that another member of the set has. */
async function anyMember(
  names: readonly string[],
  members: readonly DumpFile[],
  files: DumpFiles,
): Promise<DumpFile | undefined> {
  for (const name of names) {
    const source = files.beside?.(name);
    const file = source && (await memberIn(source, files).catch(noMember));
    if (file !== undefined && whyNot(file, members) === undefined) return file;
  }
  return undefined;
}

/** A file that only happens to lie there may be damaged, or anything. */
function noMember(error: unknown): undefined {
  if (error instanceof GuestcoreError && error.code !== "io" && error.code !== "interrupted")
    return undefined;
  throw error;
}

/** @throws CorruptError for a damaged one */
async function memberIn(part: ByteSource, { checkpoint }: DumpFiles): Promise<DumpFile | undefined> {
  const { source, warnings } = await unflattened(part, checkpoint);
  return isKdump(source) ? { source, file: part, header: readKdumpHeader(source), warnings } : undefined;
}

/** Why a file is no further member of a set; undefined when it is one. */
function whyNot(
  { source, header }: Pick<DumpFile, "source" | "header">,
  members: readonly DumpFile[],
): string | undefined {
  const [first] = members;
  const { name } = source;
  if (header.split === undefined) return `the part ${name} is a whole dump, not one part of a split one`;
  if (isOfAnotherDump(first!, { source, header })) {
    return `the part ${name} is of another dump than ${first!.source.name}`;
  }
  const other = members.find((member) => overlap(member.header.split!, header.split!));
  if (other === undefined) return undefined;
  const { start, end } = header.split;
  return `the part ${name} has page frames ${start} to ${end - 1}, of which ${other.source.name} has some too: it is given twice, or of another set`;
}

/** Whether two parts have other headers or, in the places that are looked at, other bitmaps. */
export const isOfAnotherDump = (
  one: Pick<DumpFile, "source" | "header">,
  other: Pick<DumpFile, "source" | "header">,
): boolean => one.header.identity !== other.header.identity || !haveSameBitmaps(one, other);

const overlap = (left: Range, right: Range): boolean => left.start < right.end && right.start < left.end;

/** Looked at in places, for they are large. */
function haveSameBitmaps(one: Pick<DumpFile, "source" | "header">, other: typeof one): boolean {
  const { ramBitmap, descriptors } = one.header;
  if (ramBitmap !== other.header.ramBitmap || descriptors !== other.header.descriptors) return false;
  const [left, right] = [Buffer.alloc(SAMPLE), Buffer.alloc(SAMPLE)];
  const blocks = (descriptors - ramBitmap) / SAMPLE;
  for (let i = 0; i < SAMPLES; i++) {
    const at = ramBitmap + Math.floor((i * blocks) / SAMPLES) * SAMPLE;
    const got = one.source.read(at, left);
    if (other.source.read(at, right) !== got || !left.equals(right)) return false;
  }
  return true;
}
