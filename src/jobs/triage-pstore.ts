import { CorruptError, IoError, UnsupportedError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { ByteSource } from "../core/memory.ts";
import { bytesText, plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { type FileIdentity, FileSource } from "../io/file.ts";
import { listTree } from "../io/list-tree.ts";
import { isDirectory } from "../io/tree.ts";
import { atLeast, type Detected, type Severity, type TimelineEvent } from "../triage/finding.ts";
import { type Dump, dumpName } from "../triage/pstore/dumps.ts";
import { nameOf } from "../triage/pstore/names.ts";
import type { RamoopsParameters } from "../triage/pstore/ramoops-layout.ts";
import type { PstoreOptions } from "../triage/pstore/read-file.ts";
import { PstoreReader, type PstoreReport } from "../triage/pstore/report.ts";
import { openInput } from "./input.ts";

/** Where in a file ramoops has its region, and how it is divided. */
export interface RamoopsRegion extends RamoopsParameters {
  /** Bytes from the start of the file; the file of a guest's memory begins with its address 0. */
  readonly address?: number;
  readonly size?: number;
}

export interface TriagePstoreOptions extends Omit<PstoreOptions, "ramoops"> {
  readonly ramoops?: RamoopsRegion | undefined;
  /** What reads the text of a console or of a dump put together, and finds what it tells. */
  readonly console?: ((source: string, text: Uint8Array) => Detected) | undefined;
}

/** A path as it was named, with every file that was read for it. */
export interface PstoreInput {
  readonly path: string;
  readonly identities: readonly FileIdentity[];
  /** Bytes of all of them. */
  readonly size: number;
}

export interface TriagePstoreResult extends Detected {
  readonly inputs: readonly PstoreInput[];
  readonly report: PstoreReport;
  /** Files that are no store, and were passed over. */
  readonly passedOver: number;
  readonly warnings: readonly Warning[];
}

/** Most that is read of one file; EFI's flash has 4 MiB at most, regions of ramoops some. */
const MAX_FILE = 32 * 2 ** 20;

/**
 * Finds out what a guest's kernel saved of its log before it stopped.
 * @param paths files, packed or not, and directories, which are searched
 * @throws IoError; UnsupportedError when nothing of it is a store; CorruptError when nothing in it can be read
 */
export async function triagePstore(
  paths: readonly string[],
  options: TriagePstoreOptions,
  context: JobContext,
): Promise<TriagePstoreResult> {
  const reading = new Reading(options, context);
  const inputs: PstoreInput[] = [];
  for (const path of paths) inputs.push(await reading.read(path));
  return resultOf(reading, inputs, paths, options.console);
}

/**
 * The same of the files of one store, and of nothing beside them; one that cannot be read does not keep the others from
 * being read.
 * @throws the first file's error when none can be read, and as triagePstore()
 */
export async function triageStore(
  paths: readonly string[],
  options: TriagePstoreOptions,
  context: JobContext,
): Promise<TriagePstoreResult> {
  const reading = new Reading(options, context);
  const failures: IoError[] = [];
  for (const path of paths) {
    await context.checkpoint();
    try {
      reading.record(path);
    } catch (error) {
      if (!(error instanceof IoError)) throw error;
      failures.push(error);
    }
  }
  if (failures.length > 0 && failures.length === paths.length) throw failures[0]!;
  for (const { message, where = {} } of failures) {
    context.warn({ code: "TRI003", message, where });
  }
  return resultOf(reading, [], paths, options.console);
}

function resultOf(
  reading: Reading,
  inputs: readonly PstoreInput[],
  paths: readonly string[],
  hook: TriagePstoreOptions["console"],
): TriagePstoreResult {
  const { passed, warnings } = reading;
  const report = reading.reader.end();
  if (report.stores.length === 0 && passed.length > 0) throw unrecognised(paths, passed);
  const [problem] = report.problems;
  if (problem?.code === "TRI307" && report.records.length === 0) {
    throw new CorruptError(problem.message, {
      where: { file: problem.source, ...(problem.offset === undefined ? {} : { offset: problem.offset }) },
      hint: "copy the file again: nothing in it can be read",
    });
  }
  for (const { code, message, source, offset, hint } of report.problems) {
    const where = { file: source, ...(offset === undefined ? {} : { offset }) };
    warnings.push({ code, message, where, ...(hint === undefined ? {} : { hint }) });
  }
  const told = consoleOf(report, hook);
  return {
    inputs,
    report,
    passedOver: passed.length,
    warnings,
    findings: [...report.findings, ...told.findings],
    events: [...report.events, ...told.events],
  };
}

/** Whether something as bad as this was found, or worse. */
export const failing = ({ findings }: Detected, limit: Severity): boolean =>
  findings.some(({ severity }) => atLeast(severity, limit));

/** What the texts tell that a guest saved. */
function consoleOf({ crashes, records }: PstoreReport, hook: TriagePstoreOptions["console"]): Detected {
  if (hook === undefined) return { findings: [], events: [] };
  const dumps = crashes.map(({ dumps, text }) => {
    const last = dumps.at(-1)!;
    const told = hook(`${dumpName(last)} in ${last.records.at(-1)!.source}`, text);
    return { findings: told.findings, events: told.events.map((event) => timed(event, last)) };
  });
  const consoles = records.flatMap(({ type, source, bytes, erased }) =>
    type === "console" && !erased ? [hook(source, bytes)] : [],
  );
  const all = [...dumps, ...consoles];
  return {
    findings: all.flatMap(({ findings }) => findings),
    events: all.flatMap(({ events }) => events),
  };
}

/** When something of a dump's text was by the clock that the dump was saved at. */
function timed(event: TimelineEvent, { time, uptimes }: Dump): TimelineEvent {
  const { uptime } = event.at ?? {};
  if (time === undefined || uptime === undefined || uptimes.last === undefined) return event;
  const before = Math.round(Math.max(0, uptimes.last - uptime) * 1000);
  return { ...event, at: { uptime, wall: time - before } };
}

class Reading {
  readonly reader: PstoreReader;
  readonly warnings: Warning[] = [];
  readonly passed: string[] = [];
  readonly #options: TriagePstoreOptions;
  readonly #context: JobContext;

  constructor(options: TriagePstoreOptions, context: JobContext) {
    this.#options = options;
    this.#context = context;
    this.reader = new PstoreReader(options);
  }

  async read(path: string): Promise<PstoreInput> {
    if (path === "-" || !isDirectory(path)) return this.#named(path);
    const identities: FileIdentity[] = [];
    let size = 0;
    for (const file of listTree(path)) {
      await this.#context.checkpoint();
      const opened = this.record(file);
      identities.push(opened.identity);
      size += opened.size;
    }
    return { path, identities, size };
  }

  /** Reads a file as it lies there: a record may be packed as a whole file is, and must not be unpacked as one. */
  record(path: string): { readonly identity: FileIdentity; readonly size: number } {
    const source = FileSource.open(path);
    try {
      this.#add(path, source);
      return { identity: source.identity(), size: source.size };
    } finally {
      source.close();
    }
  }

  async #named(path: string): Promise<PstoreInput> {
    if (path !== "-" && nameOf(path.split("/").at(-1)!) !== undefined) {
      const { identity, size } = this.record(path);
      return { path, identities: [identity], size };
    }
    const input = await openInput(path, this.#context);
    try {
      this.warnings.push(...input.warnings);
      this.#add(path === "-" ? "standard input" : path, input.source);
      return { path, identities: input.facts.identities, size: input.facts.size };
    } finally {
      input.close();
    }
  }

  #add(path: string, source: ByteSource): void {
    const { address = 0, size = source.size } = this.#options.ramoops ?? {};
    const wanted = Math.min(size, Math.max(0, source.size - address));
    const length = Math.min(wanted, MAX_FILE);
    const bytes = Buffer.alloc(length);
    const got = source.read(address, bytes);
    const kind = this.reader.add({ path, bytes: bytes.subarray(0, got) });
    if (kind === undefined) this.passed.push(path);
    if (length < wanted && kind !== undefined) this.warnings.push(cutWarning(path));
  }
}

const cutWarning = (file: string): Warning => ({
  code: "TRI309",
  message: `${file} is larger than ${bytesText(MAX_FILE)}: only so much of it was looked at`,
  hint: "of a guest's memory, say where the region is: --ramoops address=0x10000000,size=0x100000",
  where: { file },
});

function unrecognised(paths: readonly string[], passed: readonly string[]): UnsupportedError {
  const [only] = paths;
  const message =
    paths.length === 1 && passed[0] === only
      ? "no pstore record, and no store that holds some"
      : `none of ${plural(passed.length, "file")} is a pstore record, or a store that holds some`;
  return new UnsupportedError(message, {
    ...(paths.length === 1 && only !== undefined ? { where: { file: only } } : {}),
    hint: "it reads /sys/fs/pstore, /var/lib/systemd/pstore, OVMF_VARS.fd, ERST files and raw memory of ramoops; a qcow2 image first needs qemu-img convert -O raw",
  });
}
