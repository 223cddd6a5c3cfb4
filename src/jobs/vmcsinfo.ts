import { GuestcoreError, naming, UnavailableError, UnsupportedError, UsageError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { ByteSource } from "../core/memory.ts";
import { plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { identify } from "../dump/identify.ts";
import { isMachineDump, openDump } from "../dump/open.ts";
import { isElf, readElf } from "../elf/header.ts";
import { type Note, parseNotes, readNotes } from "../elf/notes.ts";
import { identitiesOf } from "../io/file.ts";
import { isDirectory, isTar, MAX_TAR_BYTES, readTar, readTree } from "../io/tree.ts";
import { isAccessRights } from "../vmx/access-rights.ts";
import type { VmcsLayout } from "../vmx/layout.ts";
import { VMCS_LAYOUTS } from "../vmx/layouts.ts";
import type { RegionNote } from "../vmx/region-note.ts";
import { checkLayout, type LayoutFinding, lacking } from "../vmx/vmcsinfo/check-layout.ts";
import {
  layoutOf,
  MAX_VMCSINFO_BYTES,
  readVmcsInfo,
  VMCSINFO_NOTE,
  type VmcsInfo,
  type VmcsInfoInput,
  type VmcsInfoOptions,
  type VmcsInfoProblem,
} from "../vmx/vmcsinfo.ts";
import { type Input, openInput } from "./input.ts";
import { regionNotesOf } from "./region-notes.ts";

/** VMCSINFO and where it was found. */
export interface OpenedVmcsInfo {
  readonly input: Pick<Input["facts"], "path" | "size" | "identities">;
  /** `layout`: it is a known layout, by which the VMCSs of the input were found. */
  readonly container: "file" | "directory" | "tar" | "note" | "layout";
  /** File offset of the note that holds it. */
  readonly noteOffset: number | undefined;
  /** Notes of vCPUs beside it. */
  readonly vcpuNotes?: readonly RegionNote[];
  readonly info: VmcsInfo;
  readonly warnings: readonly Warning[];
}

/**
 * Reads VMCSINFO from a dump with the note, a note or table of its own, or a saved sysfs tree (directory or tar);
 * compressed files are unpacked.
 * @throws UnavailableError when a dump has no such note; UnsupportedError, CorruptError, UsageError as readVmcsInfo
 */
export function openVmcsInfo(
  path: string,
  options: VmcsInfoOptions,
  context: JobContext,
): Promise<OpenedVmcsInfo> {
  return naming(path, async () => {
    if (isDirectory(path)) {
      const info = readVmcsInfo(readTree(path), options);
      const warnings = vmcsInfoWarnings(info);
      const input = { path, size: 0, identities: [] };
      return { input, container: "directory", noteOffset: undefined, info, warnings };
    }
    const input = await openInput(path, context);
    try {
      const found = await find(input.source, context);
      const info = readFound(found, isDump(input.source), options);
      return {
        input: input.facts,
        container: found.container,
        noteOffset: found.noteOffset,
        ...(found.vcpuNotes === undefined ? {} : { vcpuNotes: found.vcpuNotes }),
        info,
        warnings: [...input.warnings, ...found.warnings, ...vmcsInfoWarnings(info)],
      };
    } finally {
      input.close();
    }
  });
}

/** An error of a dump's note says that it is one: the dump around it may be whole. */
function readFound({ contents, noteOffset }: Found, isInDump: boolean, options: VmcsInfoOptions): VmcsInfo {
  try {
    return readVmcsInfo(contents, options);
  } catch (error) {
    if (isInDump && error instanceof GuestcoreError) {
      error.message = `the dump's VMCSINFO note at offset ${noteOffset}: ${error.message}`;
    }
    throw error;
  }
}

type Found = Pick<OpenedVmcsInfo, "container" | "noteOffset" | "vcpuNotes" | "warnings"> & {
  readonly contents: VmcsInfoInput;
};

const isDump = (source: ByteSource): boolean => isElf(source) || isMachineDump(source);

async function notesOf(
  source: ByteSource,
  { checkpoint }: JobContext,
): Promise<ReturnType<typeof readNotes>> {
  if (isElf(source)) return readNotes(source, readElf(source));
  const { notes, warnings } = await openDump(source, { checkpoint });
  return { notes: [...notes], warnings: [...warnings] };
}

async function find(source: ByteSource, context: JobContext): Promise<Found> {
  if (isDump(source)) {
    const { notes, warnings } = await notesOf(source, context);
    const found = fromNotes(notes);
    if (found !== undefined) {
      const vcpus = regionNotesOf(notes);
      const all = [...warnings, ...found.warnings, ...vcpus.warnings];
      return { ...found, vcpuNotes: vcpus.found, warnings: all };
    }
    throw new UnavailableError("the dump has no VMCSINFO note", {
      hint: "name a file that holds VMCSINFO, or use a layout: guestcore vmcs layout list",
    });
  }
  const bytes = Buffer.alloc(Math.min(source.size, MAX_TAR_BYTES));
  const read = bytes.subarray(0, source.read(0, bytes));
  const nothing = { noteOffset: undefined, warnings: [] };
  if (isTar(read) && source.size <= MAX_TAR_BYTES) {
    return { container: "tar", contents: readTar(read), ...nothing };
  }
  if (source.size > MAX_VMCSINFO_BYTES) {
    const { phrase, advice } = identify(source);
    throw new UnsupportedError(`too large for VMCSINFO: ${phrase}`, { hint: advice });
  }
  const notes = looksLikeNote(read) ? [...parseNotes(read, 0)] : [];
  return fromNotes(notes) ?? { container: "file", contents: read, ...nothing };
}

/** Notes that were saved without the file around them. */
const looksLikeNote = (bytes: Buffer): boolean =>
  bytes.length >= 24 &&
  bytes.readUInt32LE(0) <= 16 &&
  /^[\x20-\x7e]+\0/.test(bytes.toString("latin1", 12, 28));

function fromNotes(notes: readonly Note[]): Found | undefined {
  const named = notes.filter(isVmcsInfoNote);
  const filled = named.findLast(({ desc }) => desc.some((byte) => byte !== 0));
  const last = filled ?? named.at(-1);
  if (last === undefined) return undefined;
  const several: Warning = {
    code: "VMI006",
    message: `${named.length} VMCSINFO notes: the last one that is not empty is used`,
    hint: "guestcore vmcsinfo attach --replace leaves one",
  };
  const warnings = named.length > 1 ? [several] : [];
  return { container: "note", contents: last.desc, noteOffset: last.offset, warnings };
}

export const isVmcsInfoNote = ({ name }: Note): boolean => name === VMCSINFO_NOTE.name;

/**
 * The VMCSINFO among a dump's notes, for jobs that have them; undefined when there is none.
 * @throws UnsupportedError, CorruptError, UsageError as readVmcsInfo
 */
export function vmcsInfoOfNotes(
  notes: readonly Note[],
  options: VmcsInfoOptions = {},
): { readonly info: VmcsInfo; readonly warnings: readonly Warning[] } | undefined {
  const found = fromNotes(notes);
  if (found === undefined) return undefined;
  const info = readVmcsInfo(found.contents, options);
  return { info, warnings: [...found.warnings, ...vmcsInfoWarnings(info)] };
}

type Kinds = readonly VmcsInfoProblem["kind"][];
const UNUSABLE: Kinds = ["undecodable", "out-of-range"];
const CONTRADICTING: Kinds = ["duplicate", "overlap", "contradiction"];
const UNKNOWN: Kinds = ["unknown-encoding", "unknown-name"];
const SHOW = "guestcore vmcsinfo show lists them";

function vmcsInfoWarnings({ problems, accessRights, records }: VmcsInfo): Warning[] {
  const warnings: Warning[] = [];
  const warn = (code: string, kinds: Kinds, what: (count: number) => string): void => {
    const found = problems.filter(({ kind }) => kinds.includes(kind));
    const [first] = found;
    if (first === undefined) return;
    warnings.push({ code, message: `${what(found.length)}, first: ${first.message}`, hint: SHOW });
  };
  warn("VMI001", UNUSABLE, (count) => `${plural(count, "record")} of VMCSINFO cannot be used`);
  warn("VMI002", CONTRADICTING, (count) => `VMCSINFO contradicts itself in ${plural(count, "place")}`);
  warn("VMI003", UNKNOWN, (count) => `VMCSINFO has ${plural(count, "record")} of unknown fields`);
  warn(
    "VMI004",
    ["mixed-access-rights"],
    (count) => `access rights are not all stored alike: ${count} are left out`,
  );
  if (accessRights?.source.startsWith("layout ") === true) {
    const message = `access rights are taken to be ${accessRights.form}, as in ${accessRights.source}`;
    warnings.push({ code: "VMI005", message, hint: "--access-rights says it for sure" });
  } else if (
    accessRights === undefined &&
    records.some(({ encoding, offset }) => offset !== undefined && isAccessRights(encoding))
  ) {
    const message =
      "VMCSINFO does not say how access rights are stored: only the VMCSs themselves can show it";
    warnings.push({ code: "VMI004", message, hint: "say it with --access-rights plain, rotated or packed" });
  }
  return warnings;
}

/** A layout by name or from a file. */
export interface OpenedLayout {
  readonly layout: VmcsLayout;
  /** Undefined for a layout of the data base. */
  readonly opened: OpenedVmcsInfo | undefined;
}

/**
 * A layout of the data base, or what a file with VMCSINFO says.
 * @throws UsageError when there is neither; the others as openVmcsInfo
 */
export async function openLayout(
  name: string,
  options: VmcsInfoOptions,
  context: JobContext,
): Promise<OpenedLayout> {
  const known = VMCS_LAYOUTS.find((layout) => layout.name === name);
  if (known !== undefined) return { layout: known, opened: undefined };
  if (identitiesOf([name]).length === 0) {
    throw new UsageError(`there is no layout and no file called ${name}`, {
      hint: "guestcore vmcs layout list names the layouts",
    });
  }
  const opened = await openVmcsInfo(name, options, context);
  return { layout: layoutOf(opened.info), opened };
}

/** What is wrong with a layout, the problems of the file it came from included. */
export const findingsOf = ({ layout, opened }: OpenedLayout): readonly LayoutFinding[] =>
  opened === undefined ? checkLayout(layout) : [...opened.info.problems, ...lacking(layout)];

/** Every layout of the data base. */
export const knownLayouts = (): readonly VmcsLayout[] => VMCS_LAYOUTS;
