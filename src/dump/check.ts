import { CorruptError, UnsupportedError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import { isDamage } from "../core/warnings.ts";
import { FlattenedSource } from "../io/flattened.ts";
import { checkFlattened } from "./check-flattened.ts";
import { checkMemory } from "./check-memory.ts";
import { checkNotes } from "./check-notes.ts";
import { type Checked, type CheckReport, FOUND } from "./check-report.ts";
import { type DumpFiles, type MachineDump, refuseParts } from "./format.ts";
import { identify } from "./identify.ts";
import { siblingsOf } from "./kdump-split.ts";
import { DUMP_FORMATS } from "./open.ts";
import { openRaw } from "./raw.ts";

export interface CheckedDump {
  /** Name of the format in the table of magic numbers; "raw" for an image with a map. */
  readonly format: string;
  /** Whether the file is a flattened stream, which holds one of that format. */
  readonly flattened: boolean;
  /** Undefined where headers are so damaged that no more than that could be found. */
  readonly checked: Checked | undefined;
}

/**
 * Looks for damage in the dump of a machine, or the core of a process.
 * @throws UnsupportedError when it is none
 */
export async function checkDump(
  source: ByteSource,
  files: DumpFiles,
  report: CheckReport,
): Promise<CheckedDump> {
  const { map } = files;
  if (map !== undefined) {
    refuseParts(files, {});
    const check = () => checkOpened(openRaw(source, map), report);
    return { format: "raw", flattened: false, checked: await orDamage(check, report) };
  }
  const flattened = FlattenedSource.matches(source);
  const file = await inOrder(source, report);
  const parts: ByteSource[] = [];
  for (const part of await partsOf(file, files)) {
    const ordered = await inOrder(part, report);
    if (ordered !== undefined) parts.push(ordered);
  }
  if (file === undefined) return { format: "flattened", flattened, checked: undefined };
  const format = DUMP_FORMATS.find(({ matches }) => matches(file));
  if (format === undefined) {
    const { phrase, advice } = identify(file);
    throw new UnsupportedError(`not a vmcore: ${phrase}`, { hint: advice });
  }
  refuseParts(files, format);
  const { open, check } = format;
  const ofFormat = async () =>
    check === undefined
      ? await checkOpened(await open(file, { ...files, parts }), report)
      : await check(file, { ...files, parts }, report);
  return { format: format.name, flattened, checked: await orDamage(ofFormat, report) };
}

/** Further files that were named, or of a split dump those beside it. */
async function partsOf(file: ByteSource | undefined, files: DumpFiles): Promise<readonly ByteSource[]> {
  const { parts = [] } = files;
  if (file === undefined || parts.length > 0) return parts;
  try {
    return await siblingsOf(file, files);
  } catch (error) {
    // That its headers are damaged is found where they are checked.
    if (error instanceof CorruptError) return parts;
    throw error;
  }
}

/** The file that a flattened stream describes, or a file that is none; undefined for a stream that cannot be read. */
async function inOrder(source: ByteSource, report: CheckReport): Promise<ByteSource | undefined> {
  if (!FlattenedSource.matches(source)) return source;
  try {
    return await checkFlattened(source, report);
  } catch (error) {
    if (!(error instanceof CorruptError)) throw error;
    report.find(FOUND.streamRecord, error.message, { file: source.name, ...error.where });
    return undefined;
  }
}

/** A dump of any format: what opening it tells, its notes, all of its memory. */
async function checkOpened(dump: MachineDump, report: CheckReport): Promise<Checked> {
  for (const warning of dump.warnings) {
    const { code, message, where } = warning;
    report.find({ code, severity: isDamage(warning) ? "error" : "warning" }, message, where);
  }
  checkNotes(dump.notes, { machine: dump.machine }, report);
  return await checkMemory(dump.memory, report);
}

/** Damage that keeps a dump from being opened is a finding like any other. */
async function orDamage(check: () => Promise<Checked>, report: CheckReport): Promise<Checked | undefined> {
  try {
    return await check();
  } catch (error) {
    if (!(error instanceof CorruptError)) throw error;
    report.find(FOUND.header, error.message, error.where);
    return undefined;
  }
}
