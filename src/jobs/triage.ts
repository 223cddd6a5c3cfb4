import { GuestcoreError, InterruptedError, UnsupportedError, UsageError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import { plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { type FoundFile, findArtefacts, MAX_DEPTH, MAX_FILES } from "../io/artefacts.ts";
import { identitiesOf } from "../io/file.ts";
import { readHead } from "../io/head.ts";
import { STANDARD_INPUT } from "../io/stream.ts";
import type { Detected, Finding } from "../triage/finding.ts";
import { judge } from "../triage/verdict/judge.ts";
import { MAX_COMMAND_LINE, machineFacts } from "../triage/verdict/machine.ts";
import type { MachineFacts, SourceDetected, SourceKind, Verdict } from "../triage/verdict/types.ts";
import { type Reader, type Recognised, recognise } from "./triage-artefact.ts";
import { contradictingConsoles } from "./triage-consoles.ts";
import { groupByVm, inOrder, NO_VM, type Source, sourcesOf, type VmSources } from "./triage-group.ts";
import { READERS } from "./triage-readers.ts";

export interface TriageOptions {
  /** All artefacts belong to one VM of this name. */
  readonly vm?: string | undefined;
  /** VMs looked at at the same time; results come in order all the same. Default 1. */
  readonly jobs?: number | undefined;
  /** What reads each kind of artefact. */
  readonly readers?: Readonly<Partial<Record<SourceKind, Reader>>>;
}

/** A source as a report lists it. */
export interface SourceFacts {
  /** As named, or found below what was. */
  readonly path: string;
  readonly kind: SourceKind;
  readonly label: string;
  /** Bytes of all its files. */
  readonly size: number;
  readonly findings: readonly Finding[];
  readonly events: number;
  /** Why it was not read. */
  readonly problem?: string;
}

/** What became of one VM. */
export interface VmResult {
  /** As the artefacts call it. */
  readonly vm: string;
  readonly verdict: Verdict;
  readonly sources: readonly SourceFacts[];
  readonly machine: MachineFacts | undefined;
  readonly warnings: readonly Warning[];
  readonly input: {
    readonly path: string;
    readonly size: number;
    readonly identities: ReturnType<typeof identitiesOf>;
  }[];
}

/** Files of a kind nobody knows that are named in warnings. */
const MAX_NAMED = 20;

/**
 * Finds the artefacts in files and directories, sorts them by VM, reads each and judges each VM: one result for each,
 * in the order of their names.
 * @throws IoError when something named cannot be read; UnsupportedError when nothing in it is an artefact; the error of
 * the only source when that could not be read
 */
export async function* triage(
  paths: readonly string[],
  options: TriageOptions,
  context: JobContext,
): AsyncGenerator<VmResult> {
  if (paths.includes(STANDARD_INPUT)) {
    throw new UsageError("triage takes files and directories", {
      hint: "standard input is read by the detectors: guestcore triage console -",
    });
  }
  if (options.vm?.trim() === "") throw new UsageError("--vm takes the name of a VM");
  const found = findArtefacts(paths);
  const warnings = collectingWarnings(found);
  const recognised: (readonly [FoundFile, Recognised])[] = [];
  for (const file of found.files) {
    recognised.push([file, await recogniseOrTell(file)]);
    await context.checkpoint();
  }
  const vms = groupByVm(sourcesOf(recognised), options.vm).toSorted(byName);
  if (!vms.some(({ sources }) => sources.some(({ kind }) => kind !== "unknown")))
    throw nothing(paths, found.files);
  const jobs = Math.max(1, options.jobs ?? 1);
  const running: Promise<VmResult>[] = [];
  const begin = (index: number): void => {
    const vm = vms[index];
    if (vm === undefined) return;
    const result = triageVm(vm, options.readers ?? READERS, index === 0 ? warnings : [], context);
    // Whoever waits for it hears of its failure; until then it is no unhandled one.
    result.catch(() => {});
    running[index] = result;
  };
  for (let index = 0; index < Math.min(jobs, vms.length); index++) begin(index);
  for (let index = 0; index < vms.length; index++) {
    const result = await running[index]!;
    begin(index + jobs);
    yield result;
  }
}

/** Files without a VM come last. */
const byName = (a: VmSources, b: VmSources): number =>
  Number(a.name === NO_VM) - Number(b.name === NO_VM) || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);

function nothing(paths: readonly string[], files: readonly FoundFile[]): UnsupportedError {
  const looked =
    files.length === 0
      ? "it has no files"
      : files.every(({ size }) => size === 0)
        ? `${files.length === 1 ? "the file is" : `all ${files.length} files are`} empty`
        : `none of ${plural(files.length, "file")} is one`;
  const [path] = paths;
  return new UnsupportedError(`no artefact of a VM: ${looked}`, {
    ...(paths.length === 1 && path !== undefined ? { where: { file: path } } : {}),
    hint: "console logs, QMP logs, pstore, RTAS logs and dumps are known; guestcore info FILE says what a file is",
  });
}

function collectingWarnings({ passedOver, beyond }: ReturnType<typeof findArtefacts>): Warning[] {
  const warnings: Warning[] = [];
  if (passedOver.length > 0) {
    const more = passedOver.length > 1 ? ` and ${passedOver.length - 1} more` : "";
    warnings.push({
      code: "TRI001",
      message: `${passedOver[0]}${more} passed over: links to directories, devices and sockets are not looked into`,
      hint: "name what a link leads to by itself",
    });
  }
  if (beyond !== undefined) {
    warnings.push({
      code: "TRI002",
      message:
        beyond === "files"
          ? `only the first ${MAX_FILES} entries were looked at`
          : `directories more than ${MAX_DEPTH} deep were not looked into`,
      hint: "name the directories of the VMs, not one far above them",
    });
  }
  return warnings;
}

/** A file that cannot be read is told of in its place: the others say what they know. */
async function recogniseOrTell(file: FoundFile): Promise<Recognised> {
  try {
    return await recognise(file);
  } catch (error) {
    if (file.within.length === 0 || !isTold(error)) throw error;
    return { kind: "unknown", label: error.message };
  }
}

const isTold = (error: unknown): error is GuestcoreError =>
  error instanceof GuestcoreError && !(error instanceof InterruptedError);

async function triageVm(
  { name, sources: unsorted }: VmSources,
  readers: Readonly<Partial<Record<SourceKind, Reader>>>,
  before: readonly Warning[],
  context: JobContext,
): Promise<VmResult> {
  const sources = inOrder(unsorted);
  const warnings: Warning[] = [];
  const warn = (warning: Warning): void => {
    warnings.push(warning);
    context.warn(warning);
  };
  before.forEach(warn);
  const commandLine = await commandLineOf(sources);
  const machine = commandLine === undefined ? undefined : machineFacts(commandLine);
  const detected: SourceDetected[] = [];
  const failures: GuestcoreError[] = [];
  for (const source of sources) {
    const { kind, path, files } = source;
    const input = { path, source: path, files, commandLine };
    try {
      const result = await readSource(source, readers[kind], input, { ...context, warn });
      detected.push({ source: path, kind, ...result });
    } catch (error) {
      if (!isTold(error)) throw error;
      failures.push(error);
      detected.push({ source: path, kind, findings: [], events: [], problem: error.message });
      warn({ code: "TRI003", message: `${path} could not be read: ${error.message}`, where: { file: path } });
    }
  }
  tellUnknown(sources, warn);
  const contradiction = contradictingConsoles(detected);
  if (contradiction !== undefined) warn(contradiction);
  const readable = sources.filter(({ kind }) => kind !== "unknown" && kind !== "cmdline").length;
  if (failures.length > 0 && failures.length === readable) throw failures[0]!;
  const verdict = judge(detected, { machine });
  return {
    vm: name,
    verdict,
    sources: sources.map((source, index) => factsOf(source, detected[index]!)),
    machine,
    warnings,
    input: sources.flatMap(({ files }) =>
      files.map(({ path, size }) => ({ path, size, identities: identitiesOf([path]) })),
    ),
  };
}

const NOTHING: Detected = { findings: [], events: [] };

async function readSource(
  { kind, label }: Source,
  read: Reader | undefined,
  input: Parameters<Reader>[0],
  context: JobContext,
): Promise<Detected & { readonly problem?: string }> {
  if (kind === "cmdline") return NOTHING;
  if (kind === "unknown") return { ...NOTHING, problem: `not recognised: ${label}` };
  if (read === undefined) return { ...NOTHING, problem: "recognised, but nothing here reads it" };
  const { findings, events } = await read(input, context);
  return { findings, events };
}

/** QEMU's command line, of the VM's file that has it. */
async function commandLineOf(sources: readonly Source[]): Promise<string | undefined> {
  const source = sources.find(({ kind }) => kind === "cmdline");
  if (source === undefined) return undefined;
  const { bytes } = await readHead(source.path);
  return bytes.toString("utf8", 0, MAX_COMMAND_LINE);
}

function tellUnknown(sources: readonly Source[], warn: (warning: Warning) => void): void {
  const unknown = sources.filter(({ kind }) => kind === "unknown");
  for (const { path, label } of unknown.slice(0, MAX_NAMED)) {
    warn({
      code: "TRI004",
      message: `${path} is no artefact that triage knows: ${label}`,
      where: { file: path },
    });
  }
  if (unknown.length <= MAX_NAMED) return;
  warn({
    code: "TRI004",
    message: `${plural(unknown.length - MAX_NAMED, "more file")} are no artefacts either`,
  });
}

const factsOf = (
  { path, kind, label, files }: Source,
  { findings, events, problem }: SourceDetected,
): SourceFacts => ({
  path,
  kind,
  label,
  size: files.reduce((total, { size }) => total + size, 0),
  findings,
  events: events.length,
  ...(problem === undefined ? {} : { problem }),
});
