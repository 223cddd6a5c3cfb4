import { basename } from "node:path";
import { CorruptError, UnavailableError, UnsupportedError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import type { Range } from "../core/ranges.ts";
import type { Warning } from "../core/warnings.ts";
import { efiTime } from "./efi-time.ts";
import type { DumpFiles } from "./format.ts";
import type { SadumpPartition } from "./sadump-structs.ts";

/** A run of the blocks of a dump, as bytes from its first block on, and where a file has it. */
export interface SadumpPiece extends Range {
  readonly source: ByteSource;
  readonly offset: number;
}

/** All files of a dump. */
export interface SadumpMembers {
  /** Ascending, from 0 on without gaps; files may be shorter. */
  readonly pieces: readonly SadumpPiece[];
  readonly warnings: readonly Warning[];
}

/** A file of a dump, and its blocks. */
export interface Member {
  readonly source: ByteSource;
  readonly time: Buffer;
  readonly offset: number;
  /** Bytes of blocks. */
  readonly size: number;
}

/** Members end to end, and what their time stamps say. */
export function assemble(members: readonly Member[]): SadumpMembers {
  const pieces: SadumpPiece[] = [];
  let start = 0;
  for (const { source, offset, size } of members) {
    pieces.push({ start, end: start + size, source, offset });
    start += size;
  }
  const [first, ...others] = members;
  return { pieces, warnings: others.flatMap((other) => timeWarnings(first!, other)) };
}

/** Crash and makedumpfile go on, too, when nothing but the time differs. */
export function timeWarnings(
  first: { readonly time: Buffer },
  { time, source }: Pick<Member, "time" | "source">,
): Warning[] {
  if (time.equals(first.time)) return [];
  const text = (bytes: Buffer) => efiTime(bytes) ?? "no time";
  const message = `the time stamp of ${source.name} is ${text(time)}, that of the dump ${text(first.time)}`;
  return [{ code: "DMP011", message, hint: "their UUIDs agree; is one of an older dump?" }];
}

export const missing = (message: string, name: string | undefined): UnavailableError => {
  const looked = name === undefined ? "" : `; ${name} in the dump's folder is not it`;
  return new UnavailableError(message, { hint: `name it with --part FILE${looked}` });
};

export function refuseOther(
  source: ByteSource,
  dump: Pick<SadumpPartition, "system" | "diskSet">,
  { system, diskSet }: Pick<SadumpPartition, "system" | "diskSet">,
): void {
  if (system !== dump.system) {
    throw foreign(
      source,
      `this is of another machine: its UUID is ${system}, that of the dump ${dump.system}`,
    );
  }
  if (diskSet !== dump.diskSet) {
    throw foreign(source, `this is of another disk set: ${diskSet}, the dump is of ${dump.diskSet}`);
  }
}

export const foreign = ({ name }: ByteSource, message: string): UnsupportedError =>
  new UnsupportedError(message, { where: { file: name } });

/** The file of that name beside the first where it is the one; whatever else lies there is not. */
export function besideOf<T>(
  beside: DumpFiles["beside"],
  name: string | undefined,
  open: (source: ByteSource) => T,
): T | undefined {
  const source = name === undefined ? undefined : beside?.(name);
  if (source === undefined) return undefined;
  try {
    return open(source);
  } catch (error) {
    if (error instanceof UnsupportedError || error instanceof CorruptError) return undefined;
    throw error;
  }
}

/** The plain name of the file that is `step` behind the first: the last number in it is counted on, as wide as it was. */
export function nameOf({ name }: Pick<ByteSource, "name">, step: number): string | undefined {
  const found = /^(.*?)(\d{1,9})(\D*)$/s.exec(basename(name));
  if (found === null) return undefined;
  const [, before, digits, after] = found as unknown as [string, string, string, string];
  return `${before}${String(Number(digits) + step).padStart(digits.length, "0")}${after}`;
}
